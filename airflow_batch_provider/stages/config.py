"""The configuration of the two built-in stages: everything but the rows themselves."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from fsspec.utils import glob_translate
from pydantic import BeforeValidator, Field, field_validator, model_validator

from airflow_batch_provider.addresses import as_uri
from airflow_batch_provider.compression import without_compression
from airflow_batch_provider.formats import RESULT_FORMATS, ResultFormat, format_of, is_plain
from airflow_batch_provider.frozen import FrozenModel
from airflow_batch_provider.layout import RESULTS
from airflow_batch_provider.ledger import SuccessCriteria
from airflow_batch_provider.models import ConnectionRef, Kind, Spec
from airflow_batch_provider.output_types import OutputType
from airflow_batch_provider.parts import part_name
from airflow_batch_provider.prompts import PromptTemplate
from airflow_batch_provider.providers import split_model
from airflow_batch_provider.row_files import READ
from airflow_batch_provider.stages.values import PRESETS, PollConfig
from airflow_batch_provider.tables.columns import KeptColumns, check_fields

_FORMATS = ", ".join(f".{one}" for one in RESULT_FORMATS)
# Endings of files that results are not written as.
_NO_FORMATS = frozenset({".json", ".ndjson", ".txt", ".xlsx", ".gz", ".zst", ".bz2", ".xz", ".zip", ".avro", ".orc"})


# A path as well as its URI, also where it is known only when the task runs.
Place = Annotated[str | None, BeforeValidator(as_uri)]


class Source(FrozenModel):
    """Rows of a file or a table, one request each.

    Attributes:
        uri: `.jsonl`, `.json`, `.csv`, `.tsv` (each also with `.gz` or `.zst`) or `.parquet`, a folder or a glob of them, anywhere
            fsspec reads (`s3://conn_id@bucket/key` as Airflow writes it); None takes the table that is the stage's input.
        prompt: template such as `Classify: {text}`, filled from the row's columns; None takes each row as a request
            (`prompt` or `messages`, and the other fields of `BatchRequest`).
        key: column that holds the `custom_id`; None numbers the rows.
    """

    uri: Place = Field(default=None, min_length=1)
    prompt: str | None = None
    key: str | None = None

    @field_validator("prompt")
    @classmethod
    def _is_template(cls, value: str | None) -> str | None:
        if value is not None:
            PromptTemplate(value)
        return value


def names_file(result_path: str) -> bool:
    """Return whether a result path is a file, not a folder."""
    return format_of(result_path) is not None


def _is_among(file: str, source: str) -> bool:
    """Tell whether a file is one of the files of a source that is a folder, or a glob."""
    if "*" in source:
        return re.fullmatch(glob_translate(source), file) is not None
    is_folder = PurePosixPath(without_compression(source)).suffix not in READ
    return is_folder and file.startswith(f"{source.rstrip('/')}/")


def _format_of_source(source: Source | None) -> ResultFormat | None:
    """Return the format of result files that a source's files have, where its name tells."""
    name = source.uri.lower() if source and source.uri else ""
    for ending in (".json", ".ndjson"):
        if without_compression(name).endswith(ending):
            return format_of(name.replace(ending, ".jsonl"))
    return format_of(name)


class BatchConfig(FrozenModel):
    """The settings of a built-in stage.

    Attributes:
        model: `claude-…`, or with its provider: `openai:gpt-…`.
        connection: Airflow connection that pays.
        source: rows of a file; None takes the rows from the stage's input.
        output_type: any type that pydantic knows, or a JSON schema, as which it is kept.
        max_tokens: tokens of one answer.
        request_params: further fields of the provider's request body.
        result_path: file for the results, or a folder, in which each task instance has its own; stage storage by default.
        result_format: None is that of `result_path`'s ending, or that of the source of a table, or else `jsonl`.
        keep_columns: columns of the source that go into the results, which makes them a table; True keeps all.
        column_prefix: stands before the names of the table's other columns.
        max_rows_per_file: `result_path` is then a folder of part files of at most so many rows; None writes one file.
        retry_rows: waves after the first in one attempt of the task, for rows without a good answer.
        min_success_ratio: share of rows with a good answer below which the task fails; 0 fails only when no row has one.
        retry_truncated: text that was cut off at `max_tokens` counts as `failed`, keeps its text, and is asked again with twice
            the room each time, as far as the model's own maximum is known to reach; False takes it for a good answer.
        on_bad_row: `skip` keeps rows that cannot be asked in the results as `failed`, `fail` refuses them all at once.
        on_empty: `skip` returns a manifest of 0 requests for an input without rows, `fail` refuses it.
        on_partial: `fail` wants a good answer for every row; `succeed` is content with `min_success_ratio`.
        max_cost_usd: most that the task may cost in all waves of all attempts, US dollars: refused before anything is paid
            when the estimate is above, and what would go over it later is not bought, which the manifest tells.
        canary: so many rows are asked first, alone; the task fails before the rest is bought when most of them have no good
            answer. 0 asks all at once.
        canary_realtime: the canary is asked by single calls, at the price without a batch, where the provider has such.
        dedup_rows: rows that ask the same (body and schema) are bought once, and the others get its answer at no cost, except
            rows that set a temperature above 0; False buys each.
        row_cache: folder, a URI, of good answers of all tasks, by what was asked; what it has is not bought again. None or "" has
            none.
        row_cache_days: how old an answer from there may be.
        max_in_flight: most batches at the provider at once; the provider's own limit by default.
        max_enqueued_tokens: most estimated input tokens at the provider at once.
        on_timeout: after the deadline the batches are cancelled and finished rows kept, then `fail` raises `Overdue`
            and the next attempt buys the rest, `salvage` succeeds above `min_success_ratio`; `leave` raises and lets
            the batches run for the next attempt to land.
        dry_run: estimate and validate only; nothing is bought.
        clean_up: remove the files at the provider once their rows have landed.
    """

    kind: Kind = "generate"
    model: str = Field(min_length=1)
    connection: ConnectionRef
    source: Source | None = None
    system: str | None = None
    output_type: OutputType | None = None
    max_tokens: int = Field(default=1024, gt=0)
    request_params: dict[str, Any] = Field(default_factory=dict)
    result_path: Place = None
    result_format: ResultFormat | None = None
    keep_columns: bool | tuple[str, ...] = False
    column_prefix: str = ""
    max_rows_per_file: int | None = Field(default=None, gt=0)
    poll: PollConfig = PRESETS["long"]
    retry_rows: int = Field(default=2, ge=0, le=100)
    min_success_ratio: float = Field(default=0.0, ge=0.0, le=1.0)
    on_partial: Literal["succeed", "fail"] = "succeed"
    on_bad_row: Literal["fail", "skip"] = "fail"
    on_empty: Literal["fail", "skip"] = "fail"
    retry_truncated: bool = True
    max_cost_usd: float | None = Field(default=None, gt=0)
    canary: int = Field(default=0, ge=0)
    canary_realtime: bool = False
    dedup_rows: bool = True
    row_cache: str | None = None
    row_cache_days: float = Field(default=30.0, gt=0, le=36_500)
    max_in_flight: int | None = Field(default=None, gt=0, le=100)
    max_enqueued_tokens: int | None = Field(default=None, gt=0)
    on_timeout: Literal["fail", "salvage", "leave"] = "fail"
    dry_run: bool = False
    clean_up: bool = True

    @field_validator("poll", mode="before")
    @classmethod
    def _preset(cls, value: Any) -> Any:
        return PollConfig.of(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _result_file_tells_the_format(self) -> Self:
        path = self.result_path or ""
        told, ending = format_of(path), PurePosixPath(path).suffix
        if told is None and ending in _NO_FORMATS:
            raise ValueError(f"result_path ends with {ending}: results are {_FORMATS}, or a folder is given")
        if None not in (told, self.result_format) and told != self.result_format:
            raise ValueError(
                f"result_path ends with .{told}, but result_format is {self.result_format!r}; change one of them"
            )
        return self

    @model_validator(mode="after")
    def _realtime_is_of_a_canary(self) -> Self:
        if self.canary_realtime and not self.canary:
            raise ValueError("canary_realtime asks the canary by single calls, and there is none; give canary=5, say")
        return self

    @model_validator(mode="after")
    def _result_is_not_the_source(self) -> Self:
        source = self.source.uri if self.source else None
        if source and self.result_path and self.result_path.rstrip("/") == source.rstrip("/"):
            raise ValueError("result_path is the source, which a retry reads again; give another place")
        if source and self.result_path and _is_among(self._written, source):
            raise ValueError(
                "result_path is among the files of the source, which a retry reads again; give another place"
            )
        if self.max_rows_per_file and names_file(self.result_path or ""):
            raise ValueError(
                f"max_rows_per_file makes part files, but result_path {self.result_path!r} is one; give a folder"
            )
        return self

    @model_validator(mode="after")
    def _table_is_possible(self) -> Self:
        if self.kept is None:
            if is_plain(self.format):
                raise ValueError(
                    f"{self.format} results are tables; say which columns go into them, keep_columns=True for all"
                )
            if self.column_prefix:
                raise ValueError(
                    "column_prefix names columns of a table; say which of the source it keeps in keep_columns"
                )
            return self
        if self.source is None or self.source.prompt is None:
            raise ValueError("keep_columns keeps columns of a source; give source and prompt, or leave it out")
        if self.kept.columns == ():
            raise ValueError("keep_columns names no column; name one, or give key")
        check_fields(self.spec)
        return self

    @property
    def _written(self) -> str:
        """Return the address of a file as those of the results will be; of a folder, of one in it."""
        path = str(self.result_path).rstrip("/")
        if self.max_rows_per_file:
            return f"{path}/{part_name(0, self.format)}"
        return path if names_file(path) else f"{path}/dag/run/task/{RESULTS}.{self.format}"

    @property
    def format(self) -> ResultFormat:
        """Return the format of the results."""
        told = self.result_format or format_of(self.result_path or "")
        return told or (_format_of_source(self.source) if self.kept else None) or "jsonl"

    @property
    def kept(self) -> KeptColumns | None:
        """Return the columns of the source that go into the results; None where these are not a table."""
        return KeptColumns.of(self.keep_columns, self.source.key if self.source else None, self.column_prefix)

    @property
    def provider(self) -> str | None:
        """Return the provider that the model's name points to, None when it points to none."""
        return split_model(self.model)[0]

    @property
    def criteria(self) -> SuccessCriteria:
        """Return when the task has succeeded."""
        return SuccessCriteria(self.min_success_ratio, self.on_partial)

    @property
    def spec(self) -> Spec:
        """Return how every row is asked."""
        return Spec(
            kind=self.kind,
            model=split_model(self.model)[1],
            system=self.system,
            max_tokens=self.max_tokens,
            output_schema=self.output_type.schema if self.output_type else None,
            request_params=self.request_params,
        )
