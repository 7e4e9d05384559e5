"""The operator that asks a model for texts or JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from airflow_batch_provider.operators.batch import BatchOperator
from airflow_batch_provider.operators.jinja import for_jinja

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_batch_provider.airflow.signals.notifiers import Notify
    from airflow_batch_provider.formats import ResultFormat
    from airflow_batch_provider.stages import PollConfig


class BatchGenerateOperator(BatchOperator):
    """Asks a model every request, in batch, at half price; returns the manifest.

    Args:
        model: `claude-…`, or with its provider, `openai:gpt-…`; templated.
        requests: list of str, dict or `BatchRequest`, or an XComArg of one; never templated, never in rendered fields.
        source: `.jsonl`, `.json`, `.csv`, `.tsv` (each also with `.gz` or `.zst`) or `.parquet` file of rows, a folder or a
            glob of them, a URI; templated. Or a function that returns a table when the task runs, as Arrow, a frame, or an
            iterator of such pieces or of dicts; it may name `ds` or others of the task's context.
        prompt: for `source`: a text with the row's columns in braces, `Classify: {text}`. Airflow renders it once for each
            task, `On {{ ds }}: {text}`, before the rows are filled in, which are never templates; the braces of JSON are
            written twice, `Answer {{"label": "…"}}: {text}`.
        key: for `source`: the column that holds the `custom_id`.
        conn_id: Airflow connection; by default `anthropic_default`, `openai_default` or `gemini_default`, by the model.
        system: system text for every row; templated.
        output_type: what every answer must be: any type that pydantic knows (model class, dataclass, TypedDict, `list[Model]`,
            Literal, union …), whose own validators and configuration decide when the answers land, or a JSON schema.
        max_tokens: tokens of one answer; default 1024.
        request_params: further fields of the provider's request body; a row's own win.
        result_path: file for the rows, or a folder, in which each task instance has a file of its own,
            `dag/run/task[/map_index]/results.jsonl`; a URI; templated; stage storage by default. Mapped tasks give a folder, or a
            file with `{{ ti.map_index }}` in its name.
        result_format: `jsonl`, `csv`, `tsv` (each also with `.gz` or `.zst`) or `parquet`. By default as the file of
            `result_path` ends; a table is of the format of its source; else `jsonl`. CSV and TSV are for tables only.
        keep_columns: makes the results a table: these columns of the source (`True`: all), the fields of the answer, and
            status, error, tokens, model and batch of each row (docs/tables.md).
        column_prefix: stands before the names of the table's columns that are not the source's, such as `llm_`.
        max_rows_per_file: `result_path` is then a folder, which gets part files of at most so many rows under names that
            stay the same, `part-00000.parquet`.
        poll: `quick`, `medium`, `long` or a `PollConfig`; `[batch_provider] poll` by default.
        deferrable: False waits on the worker.
        retry_rows: waves after the first for rows without a good answer; default 2.
        retry_truncated: text that was cut off at `max_tokens` counts as failed and is asked again with twice the room each time,
            up to the model's own maximum (default); False takes it for a good answer, which the receipt tells.
        min_success_ratio: share of good answers below which the task fails; by default it fails only without any.
        on_partial: `fail` wants a good answer for every row; default `succeed`.
        on_bad_row: `fail` (default) refuses rows that cannot be asked, up to 20 at once; `skip` keeps them in the results as
            `failed`, with the reason, and asks the others.
        on_empty: `fail` (default) refuses an input without rows; `skip` returns a manifest of 0 requests.
        max_cost_usd: most that the task may cost, US dollars, in all waves of all attempts: refused before paying when the
            estimate is above; later, rows that would go over it are not bought and stay as they are.
        canary: so many rows are asked first, alone, and the rest only when at least half of them have a good answer; by
            default all are asked at once.
        canary_realtime: ask them by single calls, so that the rest follows after seconds instead of after one more batch. They
            cost what they do without a batch, and are asked once more in a batch if the worker dies meanwhile (docs/costs.md).
        dedup_rows: rows that ask the same are bought once, and the others get that answer at no cost (default), except rows
            that set a temperature above 0; False buys each row (docs/how-to/only-new.md).
        row_cache: folder, a URI, of good answers of all tasks: rows that were answered before, by the same model, are not bought
            again; `[batch_provider] row_cache` by default, "" for none (docs/how-to/only-new.md).
        row_cache_days: how old an answer from there may be; `[batch_provider] row_cache_days` by default, 30 days.
        max_in_flight: most batches at the provider at once.
        max_enqueued_tokens: most estimated input tokens at the provider at once.
        on_timeout: `fail` (default), `salvage` or `leave`, see `BatchConfig`.
        dry_run: count, validate and estimate; buy nothing.
        clean_up: remove the files at the provider once their rows have landed; default True.
        on_deadline_near: an Airflow notifier, a function of the context, or several: told once when 80 % of the time has passed.
        on_unresolved: the same, told when it cannot be known whether a batch was bought.
        on_budget: the same, told when a limit of money refuses to buy.
        storage_path: root of stage storage, a URI; `[batch_provider] storage_path` by default.

    Raises:
        UsageError: while the DAG is parsed, for a mistake that can be seen then.
    """

    kind = "generate"
    stage = "airflow_batch_provider.stages.generate.GenerateStage"
    template_fields: Sequence[str] = (*BatchOperator.template_fields, "system")

    def __init__(  # noqa: PLR0913 — an operator's arguments are its public face
        self,
        *,
        model: str,
        requests: Any = None,
        source: str | Callable[..., Any] | None = None,
        prompt: str | None = None,
        key: str | None = None,
        conn_id: str | None = None,
        system: str | None = None,
        output_type: Any = None,
        max_tokens: int = 1024,
        request_params: dict[str, Any] | None = None,
        result_path: str | None = None,
        result_format: ResultFormat | None = None,
        keep_columns: bool | Sequence[str] = False,
        column_prefix: str = "",
        max_rows_per_file: int | None = None,
        poll: PollConfig | str | None = None,
        deferrable: bool = True,
        retry_rows: int = 2,
        retry_truncated: bool = True,
        min_success_ratio: float = 0.0,
        on_partial: Literal["succeed", "fail"] = "succeed",
        on_bad_row: Literal["fail", "skip"] = "fail",
        on_empty: Literal["fail", "skip"] = "fail",
        max_cost_usd: float | None = None,
        canary: int = 0,
        canary_realtime: bool = False,
        dedup_rows: bool = True,
        row_cache: str | None = None,
        row_cache_days: float | None = None,
        max_in_flight: int | None = None,
        max_enqueued_tokens: int | None = None,
        on_timeout: Literal["fail", "salvage", "leave"] = "fail",
        dry_run: bool = False,
        clean_up: bool = True,
        on_deadline_near: Notify = None,
        on_unresolved: Notify = None,
        on_budget: Notify = None,
        storage_path: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._keep_notifiers(on_deadline_near=on_deadline_near, on_unresolved=on_unresolved, on_budget=on_budget)
        self.system = for_jinja(system)
        self._configure(
            requests,
            model=model,
            source=source,
            prompt=prompt,
            key=key,
            conn_id=conn_id,
            storage_path=storage_path,
            deferrable=deferrable,
            output_type=output_type,
            max_tokens=max_tokens,
            request_params=request_params,
            result_path=result_path,
            result_format=result_format,
            keep_columns=keep_columns,
            column_prefix=column_prefix,
            max_rows_per_file=max_rows_per_file,
            poll=poll,
            retry_rows=retry_rows,
            retry_truncated=retry_truncated,
            min_success_ratio=min_success_ratio,
            on_partial=on_partial,
            on_bad_row=on_bad_row,
            on_empty=on_empty,
            max_cost_usd=max_cost_usd,
            canary=canary,
            canary_realtime=canary_realtime,
            dedup_rows=dedup_rows,
            row_cache=row_cache,
            row_cache_days=row_cache_days,
            max_in_flight=max_in_flight,
            max_enqueued_tokens=max_enqueued_tokens,
            on_timeout=on_timeout,
            dry_run=dry_run,
            clean_up=clean_up,
        )
