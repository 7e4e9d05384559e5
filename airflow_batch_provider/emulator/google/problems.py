"""Errors as Google's APIs word them, and fields in either of their spellings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from airflow_batch_provider.emulator.calls import Problem, Refused, Reply

_STATUS = {
    400: ("INVALID_ARGUMENT", "Request contains an invalid argument."),
    401: ("UNAUTHENTICATED", "Request had invalid authentication credentials."),
    403: ("PERMISSION_DENIED", "The caller does not have permission"),
    404: ("NOT_FOUND", "Requested entity was not found."),
    409: ("ALREADY_EXISTS", "Requested entity already exists"),
    429: ("RESOURCE_EXHAUSTED", "You exceeded your current quota, please check your plan and billing details."),
    499: ("CANCELLED", "The operation was cancelled."),
    500: ("INTERNAL", "An internal error has occurred. Please retry."),
    503: ("UNAVAILABLE", "The model is overloaded. Please try again later."),
    504: ("DEADLINE_EXCEEDED", "Deadline expired before operation could complete."),
}

WORDS = {http: word for http, (word, _) in _STATUS.items()}
"""HTTP status → Google's word."""
# https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto (2026-11) maps them so.
HTTP = {1: 499, 3: 400, 4: 504, 5: 404, 7: 403, 8: 429, 9: 400, 13: 500, 14: 503, 16: 401}
"""google.rpc code → HTTP status."""


def problem(given: Problem) -> Reply:
    """Return `{"error": {"code", "message", "status", "details"}}`."""
    status, message = _STATUS.get(given.status, ("UNKNOWN", "Unknown error"))
    error: dict[str, Any] = {"code": given.status, "message": given.message or message, "status": given.code or status}
    if given.details is not None:
        error["details"] = given.details if isinstance(given.details, list) else [given.details]
    return Reply({"error": error}, given.status)


def refuse(status: int, message: str, code: str | None = None) -> Refused:
    """Return an exception that answers with that error."""
    return Refused(problem(Problem(status, code, message)))


def pick(fields: object, name: str) -> Any:
    """Return the field of a camelCase name, which the SDK sometimes spells in snake_case."""
    if not isinstance(fields, Mapping):
        return None
    if name in fields:
        return fields[name]
    return fields.get(re.sub(r"(?<!^)([A-Z])", lambda match: "_" + match.group().lower(), name))
