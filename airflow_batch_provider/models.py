"""The values that everything else passes around: small, frozen, in our own words.

Provider words are translated into these at the edge of `providers/<name>.py`; Airflow's at the edge of `hooks/` and
`operators/`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Self

import msgspec
from pydantic import AwareDatetime, Field, SecretStr, field_validator, model_validator

from airflow_batch_provider.formats import ResultFormat
from airflow_batch_provider.frozen import FrozenModel, FrozenStruct
from airflow_batch_provider.output_types import json_schema
from airflow_batch_provider.usage import Usage as Usage  # noqa: PLC0414 — a public name of this module

Kind = Literal["generate", "embed"]
BatchState = Literal["pending", "processing", "completed", "failed", "expired", "cancelled"]
RowStatus = Literal["succeeded", "failed", "invalid", "expired", "cancelled", "missing"]

# Characters of a `custom_id`.
LONGEST_ID = 512

ENDED: frozenset[BatchState] = frozenset({"completed", "failed", "expired", "cancelled"})
ROW_STATUSES: tuple[RowStatus, ...] = ("succeeded", "failed", "invalid", "expired", "cancelled", "missing")


@dataclass(frozen=True)
class TaskKey:
    """One task instance of Airflow, over all its tries: two keys that differ only in `try_number` are equal.

    Attributes:
        map_index: -1 where the task is not mapped.
        try_number: from 1.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1
    try_number: int = field(default=1, compare=False)

    def __str__(self) -> str:
        """Return `dag/run/task` or `dag/run/task/map_index`, as people and storage paths write it."""
        parts = [self.dag_id, self.run_id, self.task_id] + ([str(self.map_index)] if self.map_index >= 0 else [])
        return "/".join(parts)


class Account(FrozenModel):
    """Who is asked and who pays: one Airflow connection, in the providers' terms.

    Attributes:
        provider: a name in `providers.PROVIDERS`.
        api_key: never shown in repr, logs or state.
        base_url: None means the provider's own address.
        options: further settings of the connection, by provider (see `docs` of each provider module).
    """

    provider: str
    api_key: SecretStr
    base_url: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)


class ConnectionRef(FrozenModel):
    """An Airflow connection, with the provider that the model's name points to.

    The provider travels along because some connections name none (`generic`, `pydanticai`), and so that a model on the
    wrong connection is refused before anything is paid.

    Attributes:
        provider: a name in `providers.PROVIDERS`; None where neither a model nor a person names one.
    """

    conn_id: str = Field(min_length=1)
    provider: str | None = None

    def __str__(self) -> str:
        """Return the connection's id, as people know it."""
        return self.conn_id


class BatchRequest(FrozenModel):
    """One row that is asked.

    Attributes:
        custom_id: the user's key, unique within the task; None lets the task number the rows (`request-0` …).
        prompt: the text to ask or to embed; exactly one of `prompt` and `messages` is given.
        messages: the provider's own list of messages (Anthropic, OpenAI) or contents (Gemini), passed through as is.
        system: overrides the task's system text.
        output_type: overrides the task's; any type that pydantic knows, or a JSON schema; kept as JSON schema.
        max_tokens: overrides the task's; tokens of the answer.
        request_params: further fields of the provider's request body; they win over the task's.
    """

    custom_id: str | None = Field(default=None, min_length=1, max_length=LONGEST_ID)
    prompt: str | None = Field(default=None, min_length=1)
    messages: list[dict[str, Any]] | None = Field(default=None, min_length=1)
    system: str | None = None
    output_type: dict[str, Any] | None = None
    max_tokens: int | None = Field(default=None, gt=0)
    request_params: dict[str, Any] = Field(default_factory=dict)

    @field_validator("output_type", mode="before")
    @classmethod
    def _model_to_schema(cls, value: Any) -> Any:
        return json_schema(value)

    @model_validator(mode="after")
    def _asks_once(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give exactly one of 'prompt' and 'messages'")
        return self


class PlainRequest(msgspec.Struct, frozen=True, gc=False):
    """A row of nothing but a prompt, as most are: made many times quicker than a `BatchRequest`, and not checked.

    Attributes:
        prompt: at least one character.
        custom_id: 1 to `LONGEST_ID` characters; None lets the task number the rows.
    """

    prompt: str
    custom_id: str | None = None


@dataclass(frozen=True)
class BadRow:
    """A row of a source that cannot be asked.

    Attributes:
        problem: for people: which row, what is wrong with it, and the remedy; nothing of its text.
        custom_id: the row's key, None where it has none that can be used.
    """

    problem: str
    custom_id: str | None = None


class Spec(FrozenModel):
    """How every row of a task is asked, unless the row says otherwise.

    Attributes:
        kind: text (`generate`) or vectors (`embed`).
        model: the provider's name of the model, without any `provider:` prefix.
        max_tokens: tokens of one answer.
        output_schema: JSON schema that each answer must fit; None for plain text.
        request_params: further fields of the provider's request body, in the provider's own words.
    """

    kind: Kind = "generate"
    model: str = Field(min_length=1)
    system: str | None = None
    max_tokens: int = Field(default=1024, gt=0)
    output_schema: dict[str, Any] | None = None
    request_params: dict[str, Any] = Field(default_factory=dict)


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
    """

    key: str
    status: RowStatus
    output: Any = None
    error: RowError | None = None
    usage: Usage = Usage()
    model: str | None = None
    finish_reason: str | None = None


class BatchRow(FrozenModel):
    """One line of the results: what became of one request.

    Attributes:
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
    columns: dict[str, Any] = Field(default_factory=dict)


class TableColumns(FrozenModel):
    """The columns of results that are a table.

    Attributes:
        key: the source's column that holds the `custom_id`; None where rows are numbered.
        kept: the columns of the source, in order.
        fields: fields of the answers, each a column; None where the column `output` holds the whole answer. In CSV a field
            that is `text` is written as it is, and one that is `json` as JSON.
        output: the same of the column `output`.
        prefix: stands before the names of all columns that are not the source's.
    """

    key: str | None = None
    kept: tuple[str, ...] = ()
    fields: dict[str, Literal["text", "json"]] | None = None
    output: Literal["text", "json"] = "json"
    prefix: str = ""


class RequestCounts(FrozenModel):
    """How many requests of a batch are over, where the provider tells while it runs; unit: requests."""

    total: int = 0
    succeeded: int = 0
    failed: int = 0


class BatchStatus(FrozenModel):
    """The result of one poll of a batch.

    Attributes:
        status: in our words.
        counts: None where the provider tells nothing yet.
        tag: our own name for the batch there, None where the provider keeps none (Anthropic).
        error: why the batch as a whole failed.
        retryable: True when the batch failed for a passing reason (e.g. `token_limit_exceeded`) and nothing of it ran.
        unpaid: True when that reason is that the account has no credit, which passes only when a person pays.
        provider_status: the provider's own status word, for logs.
    """

    batch_id: str
    status: BatchState
    counts: RequestCounts | None = None
    tag: str | None = None
    created_at: AwareDatetime | None = None
    ended_at: AwareDatetime | None = None
    expires_at: AwareDatetime | None = None
    error: str | None = None
    retryable: bool = False
    unpaid: bool = False
    provider_status: str = ""

    @property
    def ended(self) -> bool:
        """True when nothing of this batch will run any more."""
        return self.status in ENDED


class ErrorReason(FrozenModel):
    """One reason why rows have no answer."""

    code: str
    message: str
    count: int
    sample: tuple[str, ...]


class ErrorDigest(FrozenModel):
    """The top reasons why rows have no good answer, most frequent first."""

    reasons: tuple[ErrorReason, ...] = ()

    @property
    def in_one_line(self) -> str:
        """The same reasons as a part of a sentence."""
        return "; ".join(" ".join(reason.split()) for reason in str(self).splitlines())

    def __str__(self) -> str:
        """One line per reason: count, code, message, sample of the users' keys."""
        return "\n".join(
            f"{r.count} x {r.code}: {r.message} (e.g. {', '.join(repr(key) for key in r.sample)})" for r in self.reasons
        )


class Cost(FrozenModel):
    """Money, each row at its own price, then the sum.

    Free allowances, contracts and the storage of caches are not in it, since no reply tells of them.

    Attributes:
        usd: what the batch costs; None when the model has no known price.
        saved_usd: what the same rows would have cost more without batching; None when unknown.
        estimated: True when a batch discount of one half was assumed because no batch price is published.
        currency: of both amounts.
        source: where the prices come from: a library with its version, or custom prices; None without a price.
        unpriced: what the amount leaves out, or charges like text, because nobody knows its price: fields of `Usage`,
            or `model` for rows of a model without a price.
    """

    usd: float | None = None
    saved_usd: float | None = None
    estimated: bool = False
    currency: Literal["USD"] = "USD"
    source: str | None = None
    unpriced: tuple[str, ...] = ()


class Manifest(FrozenModel):
    """The small result of a task that goes to XCom: where the rows are, counts, tokens, cost.

    Attributes:
        results: URI of the rows, readable with `BatchResults(manifest)`.
        format: `jsonl`, `csv`, `tsv` or `parquet`; all but the last also with `.gz` or `.zst`.
        counts: row status → number of rows; the numbers sum to `requests`.
        table: the columns of results that are a table, None of others.
        files: number of part files in the folder `results`; None where `results` is a file.
        waves: number of waves that were asked.
        batches: ids at the provider, oldest first.
        dry_run: True when nothing was bought: usage and cost are the estimate, every row that can be asked counts as
            missing.
        withheld: a sentence on rows that were not bought because of `max_cost_usd`, with the sums; None without any.
    """

    schema_version: Literal[1] = 1
    stage: str
    provider: str
    model: str
    results: str
    format: ResultFormat = "jsonl"
    table: TableColumns | None = None
    files: int | None = None
    requests: int
    counts: dict[RowStatus, int]
    usage: Usage = Usage()
    cost: Cost = Cost()
    waves: int = 1
    batches: tuple[str, ...] = ()
    errors: ErrorDigest = ErrorDigest()
    submitted_at: datetime | None = None
    completed_at: datetime | None = None
    dry_run: bool = False
    withheld: str | None = None
