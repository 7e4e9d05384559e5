"""Rows of files as requests, streamed in blocks, with a prompt template."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.models import LONGEST_ID, BadRow, PlainRequest
from airflow_batch_provider.prompts import PromptTemplate, as_text, texts, usable_key
from airflow_batch_provider.row_files import RowFile, blocks_in, files_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from upath import UPath
    from upath.extensions import ProxyUPath

    from airflow_batch_provider.row_files.file import Row
    from airflow_batch_provider.tables.keeping import Keeper


def request_blocks(
    path: UPath | ProxyUPath,
    prompt: str | None = None,
    key: str | None = None,
    keeper: Keeper | None = None,
    *,
    called: str | None = None,
) -> Iterator[list[Any]]:
    """One request per row of a file, a folder or a glob, in order of names and rows, in blocks; memory stays flat.

    Args:
        prompt: template filled from the row's columns; None takes each row as a request itself.
        key: column of the `custom_id`.
        keeper: takes columns of every row, from the first one on; only together with `prompt`.
        called: what messages call the files, where their own names say nothing to the user.

    A row that cannot be asked is a `BadRow`, which names file and row.

    Raises:
        UsageError: a file cannot be read, or lacks a column; names it.
    """
    template = PromptTemplate(prompt) if prompt is not None else None
    needed = None if template is None else [*dict.fromkeys([*template.columns, *([key] if key else [])])]
    if keeper is not None:
        keeper.begin()
    for found in files_at(path):
        file = found if called is None else replace(found, name=called)
        first = 0
        for rows in blocks_in(file, needed, keeper):
            yield _plain(rows, template, key) or [
                _request(file, number, row, template, key) for number, row in enumerate(rows, first)
            ]
            first += len(rows)


def _plain(rows: list[Row], template: PromptTemplate | None, key: str | None) -> list[PlainRequest] | None:
    """Return the requests of rows in which nothing is wrong, as in most; None for others, which `_request` looks into."""
    if template is None or BadRow in set(map(type, rows)):
        return None
    good = cast("list[dict[str, Any]]", rows)
    try:
        prompts, keys = template.fill(good), None if key is None else texts(good, key)
    except (KeyError, RecursionError, ValueError):
        return None
    if not all(prompts):
        return None
    if keys is None:
        return list(map(PlainRequest, prompts))
    lengths = set(map(len, keys))
    return list(map(PlainRequest, prompts, keys)) if min(lengths) > 0 and max(lengths) <= LONGEST_ID else None


def _request(path: RowFile, number: int, row: Row, template: PromptTemplate | None, key: str | None) -> Any:
    if isinstance(row, BadRow):
        return row
    try:
        return _keyed(path, number, row, key) if template is None else _filled(path, number, template, row, key)
    except UsageError as error:
        return BadRow(str(error), usable_key(row.get(key)) if key else None)


def _filled(path: Any, number: int, template: PromptTemplate, row: dict[str, Any], key: str | None) -> PlainRequest:
    for column in template.columns:
        _need(path, number, row, column)
    custom_id = None if key is None else _key(path, number, row, key)
    try:
        (text,) = template.fill([row])
    except (RecursionError, ValueError) as error:
        raise UsageError(f"Row {number} of {path} {_why_no_text(error)}. Fix the file.") from None
    if not text:
        raise UsageError(f"Row {number} of {path} gives an empty prompt. Fill its columns {template.columns!r}.")
    return PlainRequest(text, custom_id)


def _keyed(path: Any, number: int, row: dict[str, Any], key: str | None) -> dict[str, Any]:
    if key is None:
        return row
    return {name: field for name, field in row.items() if name != key} | {"custom_id": _key(path, number, row, key)}


def _key(path: Any, number: int, row: dict[str, Any], column: str) -> str:
    cell = _need(path, number, row, column)
    try:
        text = as_text(cell)
    except (RecursionError, ValueError) as error:
        raise UsageError(f"Row {number} of {path}: column {column!r} {_why_no_text(error)}. Fix the file.") from None
    if usable_key(text):
        return text
    fact = "is empty" if not text else f"has {len(text)} characters, more than {LONGEST_ID}"
    raise UsageError(
        f"Row {number} of {path}: the key in column {column!r} {fact}. Fix the file or choose another key."
    )


def _why_no_text(error: Exception) -> str:
    """Say what is wrong with a cell, without what it holds."""
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    return "holds bytes that are not UTF-8" if isinstance(error, UnicodeDecodeError) else f"cannot be a text: {error}"


def _need(path: Any, number: int, row: dict[str, Any], column: str) -> Any:
    if column not in row:
        raise UsageError(
            f"Row {number} of {path} has no column {column!r}. Its columns are {', '.join(map(repr, row))}."
        )
    return row[column]
