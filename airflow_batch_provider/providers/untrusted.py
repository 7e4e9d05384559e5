"""Reading what a provider sends, which may have any shape, size, depth and encoding."""

from __future__ import annotations

import json
import logging
import math
import re
from array import array
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_batch_provider.exceptions import Rejected, Unavailable, Unresolved

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_batch_provider.models import BatchState

log = logging.getLogger(__name__)

MOST_LEVELS = 100
"""Deepest nesting of JSON that is passed on as values; what nests deeper is passed on as its text."""

LARGEST_SINGLE = 3.4028234663852886e38
"""The largest finite number of single precision (IEEE 754)."""

# No request has a trillion of anything; sums over a million rows of less fit into 64 bits, as Parquet keeps them.
MOST = 10**12

_MOST_DIGITS = 1000
_SHORTEST_KEY = 16
# The longest known are those of LiteLLM's proxy, which packs routing into base64.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.=-]{0,511}")
_OPENING, _CLOSING = {b"{", b"["}, {b"}", b"]"}
_VALUE = re.compile(rb'\s*:\s*("[^"\\]*(?:\\.[^"\\]*)*")', re.DOTALL)
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[{]|[\]}]', re.DOTALL)
# C0, DEL, C1, the line and paragraph separators, and what turns the direction of writing.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


def read_object(data: bytes, levels: int = 16) -> dict[str, Any]:
    """Return the JSON object in `data`, read as leniently as its meaning allows.

    Halves of surrogate pairs (answers cut at `max_tokens`) and bad UTF-8 become `?`; `NaN`, `Infinity` and numbers of
    more digits than any number has become None. When the object is nested too deeply to be read, the parts below
    `levels` become texts of their JSON.

    Raises:
        Rejected: it is not a JSON object; the message tells its length, never its content.
    """
    value: object = None
    if data[:16].lstrip()[:1] == b"{":
        try:
            value = msgspec.json.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            value = _read_leniently(data, levels)
    if not isinstance(value, dict):
        raise Rejected(f"{len(data)} bytes are not a JSON object.", code="unreadable_line")
    return value


def read_line(data: bytes, name: str, levels: int) -> tuple[str, dict[str, Any]]:
    """Return the key that a result line has under `name`, and its object: an empty one where only the key can be read.

    Raises:
        Rejected: the line has no key that can be read.
    """
    record: dict[str, Any] = {}
    try:
        record = read_object(data, levels)
        key = record.get(name)
    except Rejected:
        key = _key(data, name)
    if not isinstance(key, str):
        raise Rejected(f"A line of {len(data)} bytes has no {name}.", code="unreadable_line")
    return key, record


def _key(data: bytes, name: str) -> str | None:
    """Return the text under `name` in the outermost object of what is not JSON as a whole."""
    level, wanted = 0, json.dumps(name).encode()
    for token in _TOKEN.finditer(data):
        if token[0] in _OPENING:
            level += 1
        elif token[0] in _CLOSING:
            level -= 1
        elif level == 1 and token[0] == wanted and (value := _VALUE.match(data, token.end())):
            return as_text(_read_leniently(value[1], 0))
    return None


def _read_leniently(data: bytes, levels: int) -> object:
    try:
        return _loads(data)
    except RecursionError:
        data = _flattened(data, levels)
    except ValueError:
        return None
    try:
        return _loads(data)
    except (ValueError, RecursionError):
        return None


def _loads(data: bytes) -> object:
    value = json.loads(data.decode("utf-8", "replace"), parse_constant=_no_number, parse_int=_whole, strict=False)
    encodable = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
    return json.loads(encodable, parse_constant=_no_number)


def _no_number(_word: str) -> None:
    """Read `NaN` and `Infinity`, which are not JSON, as null."""


def _whole(digits: str) -> int | None:
    return int(digits) if len(digits) <= _MOST_DIGITS else None


def _flattened(data: bytes, levels: int) -> bytes:
    """Replace every object and list below `levels` with a string of its JSON."""
    kept: list[bytes] = []
    level = start = 0
    for token in _TOKEN.finditer(data):
        if token[0] in _OPENING:
            level += 1
            if level == levels + 1:
                kept.append(data[start : token.start()])
                start = token.start()
        elif token[0] in _CLOSING:
            if level == levels + 1:
                kept.append(json.dumps(data[start : token.end()].decode("utf-8", "replace")).encode())
                start = token.end()
            level -= 1
    return b"".join([*kept, data[start:]])


def without_key(data: bytes, key: str) -> bytes:
    """Return what a provider sent without the account's key, which some proxies quote; a word is not taken for a key."""
    return data.replace(key.encode(), b"***") if len(key) >= _SHORTEST_KEY else data


def as_object(value: object) -> dict[str, Any]:
    """Return the value if it is an object, an empty one otherwise."""
    return value if isinstance(value, dict) else {}


def as_error(value: object) -> dict[str, Any]:
    """Return an error that is an object, or one of only a message where it is a text."""
    return {"message": value} if isinstance(value, str) and value else as_object(value)


def as_objects(value: object) -> list[dict[str, Any]]:
    """Return the objects in a list; nothing if it is not a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def as_text(value: object) -> str:
    """Return the value if it is a text, an empty one otherwise."""
    return value if isinstance(value, str) else ""


def as_count(value: object) -> int:
    """Return the value if it is a credible number of things, 0 otherwise; some servers write 12.0 for 12."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST else 0


def as_vector(value: object) -> list[float] | None:
    """Return the finite numbers of a list; None if it is empty, or holds anything else.

    Vectors are of single precision at the providers, as in Parquet: what is beyond it would be infinite there.
    """
    if not isinstance(value, list) or not value or set(map(type, value)) - {int, float}:
        return None
    try:
        numbers = array("d", value).tolist()
    except OverflowError:
        return None
    # No number exceeds the length of its vector, which is quicker than a check of each.
    is_small = math.hypot(*numbers) <= LARGEST_SINGLE
    return numbers if is_small or all(abs(number) <= LARGEST_SINGLE for number in numbers) else None


def as_arguments(value: object) -> Any:
    """Return what a model calls a tool with, as its JSON text if it is nested too deeply or has numbers too large."""
    return value if _is_plain(value) else json.dumps(value, ensure_ascii=False)


def _is_plain(value: object) -> bool:
    level = [value]
    for _ in range(MOST_LEVELS):
        if any(isinstance(one, int) and not -(2**63) <= one < 2**64 for one in level):
            return False
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return True
    return False


def one_line(text: object, limit: int = 300) -> str:
    """Return a provider's words fit for a log: on one line, without control characters, at most `limit` characters.

    Raw escape sequences could move a terminal's cursor, and raw newlines could forge a line of the log.
    """
    shown = _CONTROL.sub(" ", as_text(text)[: limit * 4]).strip()
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def moment(value: object) -> datetime | None:
    """Return the aware time of an RFC 3339 text or of Unix seconds; None if it is neither."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
        when = datetime.fromisoformat(value) if isinstance(value, str) else None
    except (ValueError, OverflowError, OSError):
        return None
    # Years beyond these are not a time that anything can be added to.
    return when.replace(tzinfo=when.tzinfo or UTC) if when and 1970 <= when.year < 9000 else None


def checked_id(value: object, what: str = "batch") -> str:
    """Return the id if it can stand in a URL as one step of a path.

    Raises:
        Rejected: it holds anything but letters, digits and `_.=-`, or is longer than 512 characters.
    """
    if not isinstance(value, str) or not _ID.fullmatch(value):
        shown = one_line(value, 80) if isinstance(value, str) else type(value).__name__
        raise Rejected(
            f"{shown!r} is not an id of a {what}. It is not sent anywhere; check where it came from.",
            code="invalid_id",
        )
    return value


def bought_id(batch_id: object, tag: str) -> str:
    """Return the id of a batch just created.

    Raises:
        Unavailable: the provider took the batch and told no usable id; looking for the tag says the rest.
    """
    try:
        return checked_id(batch_id)
    except Rejected as error:
        raise Unavailable(
            f"The provider accepted batch {tag} but returned no usable id: {error}", ambiguous=True
        ) from None


def found_id(batch_id: object, tag: str) -> str:
    """Return the id of a batch that may be the claimed one.

    Raises:
        Unresolved: it is not usable, and neither adopting the batch nor buying it again would be right.
    """
    try:
        return checked_id(batch_id)
    except Rejected as error:
        raise Unresolved(
            f"A batch that may be the claimed {tag} exists, under an id that cannot be used: {error} "
            "Look for it in the provider's console and cancel it there, then clear the task."
        ) from None


class StatusTable:
    """A provider's status words in ours; one that is not in the table is logged once and taken for `processing`."""

    def __init__(self, provider: str, table: Mapping[str, BatchState]) -> None:
        self._provider = provider
        self._table = table
        self._strange: set[str] = set()

    def __getitem__(self, word: str) -> BatchState:
        if word in self._table:
            return self._table[word]
        if word not in self._strange:
            self._strange.add(word)
            log.warning("%s says batch status %r, which is not documented; taken for processing.", self._provider, word)
        return "processing"
