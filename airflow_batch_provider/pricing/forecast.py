"""The highest cost of rows, from their lines as they will be sent."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Self, TypeGuard

import msgspec

from airflow_batch_provider.models import Cost, Spec, Usage
from airflow_batch_provider.pricing.estimate import estimate, may_hold_media, text_tokens

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_batch_provider.pricing.bill import Bill


class _Config(msgspec.Struct, rename="camel"):
    max_output_tokens: object = None


class _Body(msgspec.Struct):
    """The fields of a request body that say what an answer may cost, in the words of the three providers."""

    model: object = None
    n: object = None
    max_tokens: object = None
    max_completion_tokens: object = None
    max_output_tokens: object = None
    generation_config: _Config | None = msgspec.field(default=None, name="generationConfig")

    def room(self, spec: Spec) -> int:
        """Return the most output tokens: the row's own, or else the task's."""
        if spec.kind == "embed":
            return 0
        config = self.generation_config or _Config()
        told = (self.max_completion_tokens, self.max_tokens, self.max_output_tokens, config.max_output_tokens)
        room = next((count for count in told if _is_count(count)), spec.max_tokens)
        return room * (self.n if _is_count(self.n) else 1)


class _Line(msgspec.Struct):
    """A line of a batch: Anthropic calls the body `params`, OpenAI `body`, Gemini `request`."""

    params: _Body | None = None
    body: _Body | None = None
    request: _Body | None = None


_LINE = msgspec.json.Decoder(_Line)

_MOST_TOLD = 3
"""Models without a price that a message names."""
_LONGEST_NAME = 100
"""Characters that it shows of each."""


@dataclass(frozen=True)
class Learned:
    """What the answers of a task so far tell of those to come.

    Attributes:
        longest: output tokens of the longest answer; None expects the longest possible.
        growth: input tokens that were used for each one that was estimated.
    """

    longest: int | None = None
    growth: float = 1.0

    def usage(self, tokens_in: int, room: int) -> tuple[int, int]:
        """Return the expected tokens in and out of a row, from the estimate and from the longest possible answer."""
        return ceil(tokens_in * self.growth), room if self.longest is None else min(room, self.longest)


NOTHING_LEARNED = Learned()


class Expected(msgspec.Struct, frozen=True, gc=False):
    """What one request will use at most.

    Attributes:
        usage: estimated input, and the longest possible output.
        model: the one that the request names; None where it names none.
        unknown: fields of `Usage` that hold more than is told here.
        is_text: nothing but text goes in.
    """

    usage: Usage
    model: str | None
    unknown: frozenset[str] = frozenset()
    is_text: bool = True


def expected(line: bytes, spec: Spec) -> Expected:
    """Return what a line of a batch will use, as it will be sent."""
    body = _body(line)
    model, room = body.model if isinstance(body.model, str) else None, body.room(spec)
    if not may_hold_media(line):
        return Expected(Usage(input_tokens=text_tokens(len(line)), output_tokens=room), model)
    told = estimate(line, model or spec.model)
    return Expected(msgspec.structs.replace(told.usage, output_tokens=room), model, told.unknown, is_text=False)


class Forecast:
    """The highest usage and cost of rows, summed up as they pass.

    Args:
        bill: an empty one, which is filled.
    """

    def __init__(self, bill: Bill) -> None:
        self.bill = bill
        self._media = Usage()
        self._text_in = self._text_out = 0  # of rows of nothing but text, which most are

    def add(self, row: Expected, tokens: int, rows: int = 1, *, realtime: bool = False) -> None:
        """Count rows that are alike.

        Args:
            row: what each will use, or another one that differs in the length of its text only.
            tokens: input of each.
            rows: number of them.
            realtime: they are asked by single calls, without the discount of a batch.
        """
        if row.is_text:
            room = row.usage.output_tokens
            self._text_in += tokens * rows
            self._text_out += room * rows
            self.bill.add_text(tokens, room, asked=row.model, rows=rows, realtime=realtime)
            return
        self._media += row.usage * rows
        self.bill.leave_out(row.unknown)
        self.bill.add(row.usage, asked=row.model, rows=rows, realtime=realtime)

    @property
    def usage(self) -> Usage:
        """Return the estimated input, and the longest possible output."""
        return self._media + Usage(input_tokens=self._text_in, output_tokens=self._text_out)

    @property
    def cost(self) -> Cost:
        """Return the sum of all rows."""
        return self.bill.cost

    @property
    def gaps(self) -> str | None:
        """Return what the cost leaves out, in sentences for people; None when it holds everything."""
        unknown = self.bill.unknown
        told = [
            f"No price is known for model {model[:_LONGEST_NAME]!r} ({rows:,} of the requests), so nothing of it is counted as cost."
            f"{_meant(self.bill.near(model))}"
            for model, rows in list(unknown.items())[:_MOST_TOLD]
        ]
        if len(unknown) > _MOST_TOLD:
            told.append(f"The same holds for {len(unknown) - _MOST_TOLD} more models.")
        if unknown:
            told.append("Set the price of a model that nobody lists in the connection's option 'prices'.")
        if others := [kind for kind in self.cost.unpriced if kind != "model"]:
            told.append(f"The price of {', '.join(others)} is not in the estimate.")
        return " ".join(told) or None


class Uses:
    """What requests will use, counted: those that are alike are one entry, so that a batch of them is a short list.

    Of rows that differ in the length of their text only, the first one stands for all, beside the tokens of each.
    """

    def __init__(self) -> None:
        self._counts: dict[Expected, dict[int, int]] = {}
        self._last: Expected | None = None
        self._alike: dict[int, int] = {}  # of the last row

    def add(self, row: Expected, tokens: int) -> None:
        """Count one row.

        Args:
            row: what it will use, or another one that differs in the length of its text only.
            tokens: its own input.
        """
        alike = self._counted_with(row)
        alike[tokens] = alike.get(tokens, 0) + 1

    def add_alike(self, row: Expected, tokens: Iterable[int]) -> None:
        """Count rows that differ in the length of their text only, each by its own input."""
        alike = self._counted_with(row)
        for one, rows in Counter(tokens).items():
            alike[one] = alike.get(one, 0) + rows

    def _counted_with(self, row: Expected) -> dict[int, int]:
        if row is not self._last:
            self._last, self._alike = row, self._counts.setdefault(_without_length(row), {})
        return self._alike

    def add_to(self, total: Forecast, learned: Learned = NOTHING_LEARNED, *, realtime: bool = False) -> None:
        """Count all rows in a forecast.

        Args:
            learned: from the rows of the task that have landed.
            realtime: as for `Forecast.add`.
        """
        for row, alike in self._counts.items():
            for tokens, rows in alike.items():
                used, made = learned.usage(tokens, row.usage.output_tokens)
                usage = msgspec.structs.replace(row.usage, input_tokens=used, output_tokens=made)
                total.add(msgspec.structs.replace(row, usage=usage), used, rows, realtime=realtime)

    def encode(self) -> bytes:
        """Return the counts as JSON."""
        return msgspec.json.encode(list(self._counts.items()))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return counts that were encoded.

        Raises:
            msgspec.DecodeError: the JSON is of something else.
        """
        uses = cls()
        uses._counts = dict(_USES.decode(data))
        return uses


def _without_length(row: Expected) -> Expected:
    """Return what stands for all rows of text that may be answered at the same length, by the same model."""
    return Expected(Usage(output_tokens=row.usage.output_tokens), row.model) if row.is_text else row


_USES = msgspec.json.Decoder(list[tuple[Expected, dict[int, int]]])


def _meant(near: tuple[str, ...]) -> str:
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


def _body(line: bytes) -> _Body:
    try:
        told = _LINE.decode(line)
    except (msgspec.DecodeError, RecursionError):
        return _Body()
    return told.params or told.body or told.request or _Body()


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
