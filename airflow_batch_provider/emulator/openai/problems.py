"""Errors as OpenAI words them."""

from __future__ import annotations

from airflow_batch_provider.emulator.calls import Problem, Refused, Reply

_TYPES = {
    400: ("invalid_request_error", None, "Bad request"),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    403: ("invalid_request_error", "permission_denied", "You do not have access to this resource."),
    404: ("invalid_request_error", None, "Not found"),
    409: ("invalid_request_error", None, "Conflict"),
    413: ("invalid_request_error", None, "Maximum content size limit exceeded."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached for requests."),
}


def problem(given: Problem, param: str | None = None) -> Reply:
    """Return `{"error": {"message", "type", "param", "code"}}`."""
    kind, code, message = _TYPES.get(given.status, ("server_error", None, "The server had an error."))
    if given.code == "insufficient_quota":
        kind, message = (
            "insufficient_quota",
            "You exceeded your current quota, please check your plan and billing details.",
        )
    error = {"message": given.message or message, "type": kind, "param": param, "code": given.code or code}
    return Reply({"error": error}, given.status)


def refuse(status: int, message: str, *, code: str | None = None, param: str | None = None) -> Refused:
    """Return an exception that answers with that error."""
    return Refused(problem(Problem(status, code, message), param))


def missing(name: str) -> Refused:
    """Return the refusal of a request without a required parameter."""
    return refuse(400, f"Missing required parameter: '{name}'.", code="missing_required_parameter", param=name)
