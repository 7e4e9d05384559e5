"""Errors, named by what the reader can do about them.

BatchError
├── UsageError      change the DAG, the connection or the input; trying again cannot help
│   └── OverBudget  a limit of money refuses to buy; ask less or raise it
├── Rejected        the provider refused; nothing was billed; trying again cannot help
│   └── Denied      the key is wrong or lacks a right (401, 403); a retry reads the connection again
├── Paused          pay or raise the quota at the provider, then clear the task; everything is kept
├── Unavailable     wait; a passing fault of the network or the provider
├── DiskFull        make room on the disk that the message names; everything is kept
├── NotFound        the provider does not know the id: not visible yet, removed, or another account's
├── Overtaken       no action is needed: another worker goes on with the same task
├── Unresolved      a person must look whether a batch was bought; nothing more is paid until then
├── StageFailed     a stage said that it cannot succeed; see its message
├── Overdue         the deadline passed; says what was salvaged
└── RowsFailed      too many rows have no answer; the good ones are kept
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_batch_provider.models import ErrorDigest


class BatchError(Exception):
    """Anything this package raises on purpose."""


class UsageError(BatchError):
    """The DAG, the connection or the input must change; raised before anything is paid."""


class OverBudget(UsageError):
    """A limit of money refuses to buy; nothing was paid."""


class Rejected(BatchError):
    """The provider refused the call for good; nothing was billed.

    Args:
        message: the fact with its values, then the remedy.
        code: the provider's own word for the refusal, e.g. `invalid_request_error`.
        http_status: status of the reply, if there was one.
    """

    def __init__(self, message: str, *, code: str | None = None, http_status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.http_status = http_status


class Denied(Rejected):
    """The key is missing, wrong or lacks a right (401, 403)."""


class Paused(BatchError):
    """Credit or quota is used up (402, `insufficient_quota`, spend limits); nothing is lost, nothing more is bought."""


class Unavailable(BatchError):
    """A passing fault: network, time-out, 408, 409, 429, 5xx.

    Args:
        message: the fact with its values.
        retry_after: seconds the provider asked to wait, None if it did not say.
        ambiguous: True when the call may have taken effect although no answer arrived (cut connections, time-outs,
            5xx, 408, 409 after sending); False when the provider surely did nothing (connection refused, 429).
    """

    def __init__(self, message: str, *, retry_after: float | None = None, ambiguous: bool = True) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.ambiguous = ambiguous


class DiskFull(BatchError):
    """A disk has no room, of this machine or below stage storage; nothing is lost, and a retry goes on."""


class NotFound(BatchError):
    """The provider does not know this id (404)."""


class Overtaken(BatchError):
    """Another worker goes on with what this one was doing; this one stops, and no action is needed."""


class Unresolved(BatchError):
    """Nobody but a person can tell whether a submit happened; says where to look and how to go on."""


class StageFailed(BatchError):
    """A completion check said that the stage cannot succeed; trying again cannot help."""


class Overdue(BatchError):
    """The deadline passed; the message says what was salvaged."""


class RowsFailed(BatchError):
    """Too many rows have no answer; those that have one are kept.

    Args:
        message: the fact with its counts.
        digest: the top reasons with counts and sample keys.
        retryable: True when asking again can help, False when the provider refused every open row for good.
    """

    def __init__(self, message: str, *, digest: ErrorDigest, retryable: bool) -> None:
        super().__init__(message)
        self.digest = digest
        self.retryable = retryable
