"""What became of one row: a provider's reply to it, and its line of the results."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AwareDatetime, Field

from airflow_batch_provider.frozen import FrozenModel, FrozenStruct
from airflow_batch_provider.usage import Usage

RowStatus = Literal["succeeded", "failed", "invalid", "expired", "cancelled", "missing"]
ROW_STATUSES: tuple[RowStatus, ...] = ("succeeded", "failed", "invalid", "expired", "cancelled", "missing")


REFUSED = "The model refused to answer."
"""How the message of a `refusal` begins; what follows is the model's own."""


class RowError(FrozenStruct, frozen=True, kw_only=True):
    """Why a row has no good answer.

    Attributes:
        code: the provider's own word, or ours (`invalid_output`, `truncated`, `missing`).
        message: one sentence; may quote the provider, so it is data, never markup.
        retryable: True when the next wave may ask again.
    """

    code: str
    message: str
    retryable: bool


class Reply(FrozenStruct, frozen=True, kw_only=True, omit_defaults=True):
    """A provider's answer to one row, in our words.

    Attributes:
        key: the key under which the row was sent.
        status: `succeeded`, `failed`, `expired` or `cancelled`.
        output: str of a text, list[float] of an embedding, or
            `{"tool_calls": [{"id", "name", "arguments"}], "text": str | None}` when the model called tools.
        finish_reason: `stop`, `max_tokens`, `refusal`, `tool_use`, or the provider's own word.
        choices: pieces of an answer in several, JSON each, the likeliest first: where a schema was asked and `output` does
            not fit it, the first of them that does is the answer. Without a schema they mean nothing.
    """

    key: str
    status: RowStatus
    output: Any = None
    error: RowError | None = None
    usage: Usage = Usage()
    model: str | None = None
    finish_reason: str | None = None
    choices: tuple[str, ...] = ()


class BatchRow(FrozenModel):
    """One line of the results: what became of one request.

    Attributes:
        same_as: the `custom_id` of the row whose answer this is, because it asked the same; then no token was used for this
            one. None where it was asked itself.
        cached_at: when the answer landed that an earlier task has bought and the row cache had; then no token was used. None
            where it was asked itself.
        columns: what a table of results has kept of the source's row; empty where they are not one.
    """

    custom_id: str
    index: int = Field(ge=0)
    status: RowStatus
    output: Any = None
    error: RowError | None = None
    usage: Usage = Usage()
    model: str | None = None
    finish_reason: str | None = None
    wave: int = 0
    batch_id: str | None = None
    same_as: str | None = None
    cached_at: AwareDatetime | None = None
    columns: dict[str, Any] = Field(default_factory=dict)
