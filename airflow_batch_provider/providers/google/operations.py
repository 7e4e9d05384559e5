"""Gemini's operations and refusals, in our words; pure.

Shapes: https://ai.google.dev/api/batch-api and https://google.aip.dev/193 (2026-11).
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_batch_provider.models import BatchStatus, RequestCounts
from airflow_batch_provider.providers import faults, http
from airflow_batch_provider.providers.google.replies import CODES, int64
from airflow_batch_provider.providers.untrusted import (
    StatusTable,
    as_count,
    as_object,
    as_objects,
    as_text,
    checked_id,
    moment,
    one_line,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from airflow_batch_provider.exceptions import BatchError
    from airflow_batch_provider.models import BatchState

STATES: Mapping[str, BatchState] = {
    "UNSPECIFIED": "pending",
    "QUEUED": "pending",
    "PENDING": "pending",
    "RUNNING": "processing",
    "UPDATING": "processing",
    "PAUSED": "processing",
    "CANCELLING": "processing",
    "SUCCEEDED": "completed",
    "PARTIALLY_SUCCEEDED": "completed",
    "FAILED": "failed",
    "CANCELLED": "cancelled",
    "EXPIRED": "expired",
}
"""State → our word, without its `BATCH_STATE_` or `JOB_STATE_`."""

# RESOURCE_EXHAUSTED and UNAVAILABLE: nothing of the batch ran, and later it may.
_PASSING = frozenset({8, 14})
_FILE = re.compile(r"files/[A-Za-z0-9_-]{1,200}")
_DELAY = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)s")


def batch_name(batch_id: object) -> str:
    """Return `batches/…`, from that or from what follows it.

    Raises:
        Rejected: it is not an id of a batch.
    """
    return f"batches/{checked_id(bare(batch_id))}"


def bare(name: object) -> object:
    """Return what follows `batches/` in a name; anything else as it is."""
    return name.removeprefix("batches/") if isinstance(name, str) else name


def tag(operation: dict[str, Any]) -> str | None:
    """Return our own name, the first word of the batch's display name; a label for people follows it."""
    return one_line(_metadata(operation).get("displayName")).partition(" ")[0] or None


def created(operation: dict[str, Any]) -> datetime | None:
    """Return when the batch was created."""
    return moment(_metadata(operation).get("createTime"))


def past(page: list[dict[str, Any]], horizon: datetime) -> bool:
    """Return True if no later page can hold a batch from after the horizon: this one shows the newest first, and is older.

    Gemini documents no order, so a page that shows none ends no search.
    """
    times = [time for operation in page if (time := created(operation)) is not None]
    return len(times) > 1 and times[0] > times[-1] and times == sorted(times, reverse=True) and times[-1] < horizon


def status(operation: dict[str, Any], states: StatusTable) -> BatchStatus:
    """Return the status; google-genai 3.4 drops `error` and `batchStats` (`batches.py`), so this reads the JSON."""
    told, error = _metadata(operation), as_object(operation.get("error"))
    word = one_line(told.get("state"), 80) or "BATCH_STATE_UNSPECIFIED"
    counts = _counts(as_object(told.get("batchStats")))
    nothing_ran = not output(operation) and not (counts and counts.succeeded)
    return BatchStatus(
        batch_id=batch_name(operation.get("name")),
        status=_state(word, states, operation),
        counts=counts,
        tag=tag(operation),
        created_at=created(operation),
        ended_at=moment(told.get("endTime")),
        error=_told(error),
        retryable=word.endswith("_FAILED") and as_count(error.get("code")) in _PASSING and nothing_ran,
        provider_status=word,
    )


def _state(word: str, states: StatusTable, operation: dict[str, Any]) -> BatchState:
    """Return the state in our words; one that nobody knows is over when the operation says that it is done."""
    plain = word.removeprefix("BATCH_STATE_").removeprefix("JOB_STATE_")
    ours = states[plain]
    if plain in STATES or operation.get("done") is not True:
        return ours
    return "failed" if as_object(operation.get("error")) else "completed"


def _metadata(operation: dict[str, Any]) -> dict[str, Any]:
    return as_object(operation.get("metadata"))


def _counts(stats: dict[str, Any]) -> RequestCounts | None:
    if not stats:
        return None
    return RequestCounts(
        total=int64(stats.get("requestCount")),
        succeeded=int64(stats.get("successfulRequestCount")),
        failed=int64(stats.get("failedRequestCount")),
    )


def _told(error: dict[str, Any]) -> str | None:
    if not error:
        return None
    code = error.get("code")
    word = CODES.get(code, f"code {code}") if isinstance(code, int) else "no code"
    return f"{one_line(word, 80)}: {one_line(error.get('message'))}"


def output(operation: dict[str, Any]) -> dict[str, Any]:
    """Return where the results are: `responsesFile` or `inlinedResponses`; empty when there are none."""
    places = as_object(operation.get("response")), as_object(_metadata(operation).get("output"))
    return next((place for place in places if place.get("responsesFile") or place.get("inlinedResponses")), {})


def results_file(operation: dict[str, Any]) -> str | None:
    """Return the id of the file of results.

    Raises:
        Rejected: the operation names something that is not a file.
    """
    name = output(operation).get("responsesFile")
    return checked_id(as_text(name).removeprefix("files/"), "file") if name else None


def inlined(operation: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the results of a batch that was submitted without a file, which we never do."""
    return as_objects(as_object(output(operation).get("inlinedResponses")).get("inlinedResponses"))


def files(operation: dict[str, Any]) -> list[str]:
    """Return the names of the batch's files: what was sent and what came back."""
    sent = as_object(_metadata(operation).get("inputConfig")).get("fileName")
    return [name for name in map(as_text, (sent, output(operation).get("responsesFile"))) if _FILE.fullmatch(name)]


def refused(http_status: int, body: object, headers: Mapping[str, str], key: str) -> BatchError:
    """Return the exception that says what the reader can do about a refusing reply, which never quotes the key."""
    told = as_object(body[0] if isinstance(body, list) and body else body)
    error = as_object(told.get("error")) or told
    details = as_objects(error.get("details"))
    reasons = {as_text(detail.get("reason")) for detail in details}
    word, message = as_text(error.get("status")), as_text(error.get("message"))
    fault = faults.Fault(
        provider="Gemini",
        http_status=http_status,
        message=message,
        code=word or None,
        retry_after=_retry_after(details, headers),
        pauses=_pauses(word, reasons, message),
        key=key,
    )
    if "API_KEY_INVALID" in reasons:
        fault = replace(fault, http_status=401, code="API_KEY_INVALID", pauses=False)
    if http_status == 499:
        fault = replace(fault, http_status=500)
    return faults.refused(fault)


def _pauses(word: str, reasons: set[str], message: str) -> bool:
    """Return True if money is wanted: billing is off, the region wants billing, or prepaid credits are used up.

    https://ai.google.dev/gemini-api/docs/troubleshooting (2026-11); the last one comes as a 429 like any other quota.
    """
    depleted = "credits are depleted" in message
    return word == "FAILED_PRECONDITION" or "BILLING_DISABLED" in reasons or depleted


def _retry_after(details: list[dict[str, Any]], headers: Mapping[str, str]) -> float | None:
    """Return the seconds of google.rpc.RetryInfo or else of the headers."""
    for detail in details:
        if match := _DELAY.fullmatch(as_text(detail.get("retryDelay"))):
            return min(float(match[1]), http.LONGEST_WAIT)
    return http.retry_after(headers)
