"""From the user's rows to planned ones: checked, numbered, encoded; nothing is paid here."""

from __future__ import annotations

import hashlib
import sqlite3
import tempfile
from collections.abc import Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, is_dataclass
from datetime import date
from decimal import Decimal
from difflib import get_close_matches
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import BaseModel, ValidationError

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.ledger.bad_rows import refuse_bad
from airflow_batch_provider.ledger.bodies import Bodies
from airflow_batch_provider.ledger.records import NO_BODY, PlannedRow, encoded
from airflow_batch_provider.models import LONGEST_ID, BadRow, BatchRequest
from airflow_batch_provider.schemas import answer_schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import msgspec
    from pydantic_core import ErrorDetails

    from airflow_batch_provider.ledger.bad_rows import Rows
    from airflow_batch_provider.models import Spec
    from airflow_batch_provider.providers.base import BatchProvider

_LOOKED_UP_AT_ONCE = 5000
_LONGEST_SHOWN = 50
"""Characters of a key that a message shows."""
_TOO_LARGE = 10**LONGEST_ID


def plan_rows(requests: Iterable[Any], provider: BatchProvider, spec: Spec) -> Rows:
    """Check, number and encode every request, in the order given; memory does not grow with their number.

    Raises:
        UsageError: no rows at all, rows that cannot be asked, or a `custom_id` that is used twice; names the rows.
    """
    return refuse_empty(refuse_bad(check_rows(requests, provider, spec)))


def refuse_empty(rows: Rows) -> Rows:
    """Return the rows.

    Raises:
        UsageError: there are none.
    """
    is_empty = True
    with closing(rows):
        for row in rows:
            is_empty = False
            yield row
    if is_empty:
        raise UsageError("Cannot submit empty batch: the list of requests has no rows.")


def check_rows(requests: Iterable[Any], provider: BatchProvider, spec: Spec) -> Rows:
    """Do as `plan_rows`, but a row that cannot be asked says why, and there may be no rows.

    Raises:
        UsageError: a `custom_id` is used twice.
    """
    bodies = Bodies(provider.codec, spec)
    with _seen_ids() as seen:
        for index, given in enumerate(requests):
            row = _checked(index, given, bodies)
            seen.add(index, row.custom_id)
            yield row
        seen.flush()


def _checked(index: int, given: Any, bodies: Bodies) -> PlannedRow:
    numbered = f"request-{index}"
    try:
        request = _as_request(index, given)
        body, schema = _encoded(index, request, bodies)
    except UsageError as error:
        return PlannedRow(index=index, custom_id=_key_of(given) or numbered, body=NO_BODY, problem=str(error))
    return PlannedRow(index=index, custom_id=request.custom_id or numbered, body=body, schema=schema)


def _key_of(given: Any) -> str | None:
    """Return the key of a row that cannot be asked, None where that cannot be used either."""
    fields = _fields(given)
    key = _plain(fields).get("custom_id") if isinstance(fields, dict) else getattr(fields, "custom_id", None)
    if isinstance(key, str) and 0 < len(key) <= LONGEST_ID and _is_text(key):
        return key
    return None


def _is_text(value: str) -> bool:
    """Return whether a string can be written: a lone surrogate cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _as_request(index: int, given: Any) -> BatchRequest:
    if isinstance(given, BadRow):
        raise UsageError(given.problem)
    if isinstance(given, BatchRequest):
        return given
    if not isinstance(given, str | dict):
        given = _fields(given)
    try:
        if isinstance(given, str):
            return BatchRequest(prompt=given)
        if isinstance(given, dict):
            return BatchRequest.model_validate(_plain(given))
    except ValidationError as error:
        problems = "; ".join(map(_told, error.errors(include_url=False, include_context=False)[:3]))
        known = ", ".join(BatchRequest.model_fields)
        raise UsageError(f"Row {index} is not a request: {problems}. A row is a str or a dict of {known}.") from None
    raise UsageError(f"Row {index} is not a prompt but {type(given).__name__}. Give a str, a dict or a BatchRequest.")


def _fields(given: Any) -> Any:
    """Return an object with fields (of a dataclass, a pydantic model, a named tuple, any mapping) as a dict."""
    if is_dataclass(given) and not isinstance(given, type):
        return asdict(given)
    if isinstance(given, BaseModel):
        return given.model_dump()
    if isinstance(given, tuple) and hasattr(given, "_asdict"):
        return given._asdict()
    return dict(given) if isinstance(given, Mapping) else given


def _told(problem: ErrorDetails) -> str:
    """Return a problem in words; a field that does not exist, with the one that was probably meant."""
    field = ".".join(map(str, problem["loc"])) or "row"
    if problem["type"] == "string_unicode":
        return f"{field} holds a lone surrogate, which is not a character"
    if problem["type"] != "extra_forbidden":
        shown = f", and this is {_shown(problem['input'])}" if field == "custom_id" else ""
        return f"{field}: {problem['msg']}{shown}"
    near = get_close_matches(field.lower(), BatchRequest.model_fields, n=1)
    return f"{field!r} is not a field" + (f" (did you mean {near[0]!r}?)" if near else "")


def _shown(key: Any) -> str:
    try:
        return repr(key)[:_LONGEST_SHOWN]
    except ValueError:  # Python writes no number of more than 4,300 digits
        return "a number of thousands of digits"


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with its key as text, as files give it too, and without request_params that are null."""
    plain = {name: value for name, value in row.items() if name != "request_params" or value is not None}
    key = plain.get("custom_id")
    if isinstance(key, float) and key.is_integer():  # a frame makes 1.0 of 1 where another row has none
        key = int(key)
    if isinstance(key, Integral) and not isinstance(key, bool) and abs(int(key)) < _TOO_LARGE:
        plain["custom_id"] = str(int(key))
    elif isinstance(key, UUID | date | Decimal):
        plain["custom_id"] = str(key)
    return plain


def _encoded(index: int, request: BatchRequest, bodies: Bodies) -> tuple[msgspec.Raw, msgspec.Raw]:
    """Return the row's body, and its own schema if it has one."""
    if request.prompt is not None and request.prompt.isspace():
        raise UsageError(f"Row {index}: its prompt holds nothing but white space. Fill it.")
    schema = encoded(request.output_type)
    try:
        if schema:
            answer_schema(bytes(schema))
        body = bodies.encode(request)
    except UsageError as error:
        raise UsageError(f"Row {index}: {error}") from error
    except UnicodeEncodeError:
        raise UsageError(f"Row {index} holds a lone surrogate, which is not a character. Fix its text.") from None
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UsageError(f"Row {index} cannot be sent as JSON: {error}. Give plain lists, dicts and numbers.") from None
    if request.custom_id is not None and not _is_text(request.custom_id):
        raise UsageError(f"Row {index}: its custom_id holds a lone surrogate, which is not a character. Fix it.")
    return body, schema


class _SeenIds:
    """Finds a key used twice with a table on disk, so that a million keys take no memory."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._waiting: list[tuple[bytes, int, str]] = []
        self._database.execute("CREATE TABLE seen (digest BLOB PRIMARY KEY, row INTEGER) WITHOUT ROWID")

    def add(self, index: int, custom_id: str) -> None:
        self._waiting.append((hashlib.blake2b(custom_id.encode(), digest_size=16).digest(), index, custom_id))
        if len(self._waiting) >= _LOOKED_UP_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        before = self._database.total_changes
        self._database.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?)", [entry[:2] for entry in waiting])
        if self._database.total_changes - before == len(waiting):
            return
        for digest, index, custom_id in waiting:
            (first,) = self._database.execute("SELECT row FROM seen WHERE digest = ?", (digest,)).fetchone()
            if first != index:
                raise UsageError(
                    f"custom_id {custom_id!r} is used by row {first} and by row {index}. Give each row a key of its own."
                )


@contextmanager
def _seen_ids() -> Iterator[_SeenIds]:
    with tempfile.TemporaryDirectory(prefix="batch-") as scratch:
        database = sqlite3.connect(Path(scratch, "seen.sqlite"), isolation_level=None)
        try:
            database.execute("PRAGMA journal_mode = OFF")
            database.execute("PRAGMA synchronous = OFF")
            database.execute("BEGIN")
            yield _SeenIds(database)
        finally:
            database.close()


class Fingerprint:
    """Tells whether two plans ask the same rows in the same way."""

    def __init__(self, provider: str, spec: Spec) -> None:
        self._hash = hashlib.blake2b(f"{provider}\n{spec.model_dump_json()}".encode(), digest_size=16)
        self.requests = 0

    def add(self, line: bytes) -> None:
        """Take in one planned row."""
        self._hash.update(line + b"\n")
        self.requests += 1

    def __str__(self) -> str:
        """32 hex digits."""
        return self._hash.hexdigest()
