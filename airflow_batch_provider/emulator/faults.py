"""The fault plan: which fault happens on which route, and how often."""

from __future__ import annotations

import fnmatch
import itertools
from email.utils import formatdate
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator

from airflow_batch_provider.emulator.instructions import Amount, Count, Instruction
from airflow_batch_provider.emulator.job import Hidden, Job

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Kind = Literal[
    "status", "cut", "stall", "cut_body", "short", "gone", "unknown_status", "extra_fields", "empty_file_ids",
    "hide", "unlist", "stuck", "expire", "fail", "fail_rows",
]  # fmt: skip
KINDS: dict[str, str] = {
    "status": "answer with `status`, `code`, `message`, `headers`, `retry_after`; `when`: after = it happened nevertheless",
    "cut": "close the connection; `when`: before = nothing happened, after = it happened and the answer is lost",
    "stall": "wait `seconds` of real time, before or after",
    "cut_body": "close the connection after so many `bytes` or `lines` of the answer",
    "short": "end the answer after so many `bytes` or `lines`, as if there were no more",
    "gone": "404, for results beyond their retention",
    "unknown_status": "put `word` where the status stands",
    "extra_fields": "add fields nobody knows",
    "empty_file_ids": "write empty strings where an absent file id is null",
    "hide": "on a create: the new job is 404 for `polls` requests or `seconds`",
    "unlist": "on a create: the new job is absent from `polls` lists or for `seconds`",
    "stuck": "on a create: the new job never progresses",
    "expire": "on a create: the new job expires when `fraction` of its rows have run",
    "fail": "on a create: the new job fails with `code` and `message`",
    "fail_rows": "on a create: every row of the new job fails with the error `code`",
}


class FaultInstruction(Instruction):
    """One thing that goes wrong on the routes that match, `times` times (None: always), after `after` good calls."""

    route: Annotated[str, Field(min_length=1, description="for example 'anthropic.create' or '*.create'")]
    kind: Annotated[Kind, Field(title="fault", description="GET /emulator/faults lists the kinds")]
    times: Count | None = 1
    after: Count = 0
    when: Literal["before", "after"] = "before"
    path: str = "*"
    """A shell pattern over the request's path, to hit one job or file."""
    status: Annotated[int, Field(ge=200, le=599)] = 500
    code: str | None = None
    message: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    retry_after: float | str | None = None
    """Seconds, `date:30` for an HTTP date 30 seconds ahead, or any other text as it stands."""
    details: Any = None
    seconds: Amount = 0.0
    polls: Count = 0
    bytes: Count | None = None
    lines: Count | None = None
    word: str = "rebalancing"
    fraction: Annotated[float, Field(ge=0, le=1)] = 0.5

    @field_validator("retry_after", mode="before")
    @classmethod
    def _is_seconds_or_text(cls, given: Any) -> Any:
        try:
            if isinstance(given, str) and given.startswith("date:"):
                float(given.removeprefix("date:"))
            elif not isinstance(given, str | None):
                float(given)
        except (TypeError, ValueError):
            raise ValueError(
                f"'retry_after' cannot become {given!r}: it is seconds, 'date:30', or other text."
            ) from None
        return given


class Fault(FaultInstruction):
    """An ordered fault with its number, the calls it has seen and the calls it has taken."""

    id: int
    seen: int = 0
    taken: int = 0

    def takes(self, route: str, path: str) -> bool:
        """Return whether it happens to this call; asking counts the call."""
        if not (fnmatch.fnmatchcase(route, self.route) and fnmatch.fnmatchcase(path, self.path)):
            return False
        self.seen += 1
        if self.seen <= self.after or (self.times is not None and self.taken >= self.times):
            return False
        self.taken += 1
        return True

    def all_headers(self, now: float) -> dict[str, str]:
        """Return the headers of the answer, with `retry_after` as seconds or as a date."""
        if self.retry_after is None:
            return self.headers
        text = str(self.retry_after)
        if text.startswith("date:"):
            text = formatdate(now + float(text.removeprefix("date:")), usegmt=True)
        return {**self.headers, "retry-after": text.removesuffix(".0")}

    def mark(self, job: Job, now: float) -> None:
        """Give the fault to a job that was just created."""
        hidden = Hidden(polls=self.polls, until=now + self.seconds if self.seconds else None)
        match self.kind:
            case "hide":
                job.faults.hidden = hidden
            case "unlist":
                job.faults.unlisted = hidden
            case "stuck":
                job.faults.stuck = True
            case "expire":
                job.faults.expire = self.fraction
            case "fail" if job.provider == "anthropic":
                # Anthropic has no failed batch, only batches whose rows all errored.
                job.faults.row_error = "api"
            case "fail":
                message = self.message or "The emulator was told to fail this batch."
                job.faults.fail = (self.code or "invalid_request", message)
            case "fail_rows":
                job.faults.row_error = self.code or "api"

    def alter(self, body: dict[str, Any], status: tuple[str, ...]) -> None:
        """Change an answer in place; `status` is the path to the status word in one item."""
        items = body.get("data") or body.get("operations") or [body]
        for item in items if isinstance(items, list) else [body]:
            match self.kind:
                case "unknown_status":
                    _put(item, status, self.word)
                case "extra_fields":
                    item["emulator_extra"] = {"new": True, "list": [1, "two", None]}
                case "empty_file_ids":
                    names = ("output_file_id", "error_file_id", "results_url")
                    item.update({name: "" for name in names if item.get(name, "") is None})


def _put(item: dict[str, Any], path: tuple[str, ...], word: str) -> None:
    *parents, last = path
    for name in parents:
        item = item.get(name) or {}
    if last in item:
        item[last] = word


class Faults:
    """All faults that were ordered."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self.all: list[Fault] = []

    def add(self, route: str, kind: Kind, **fields: Any) -> Fault:
        """Add a fault; the fields are those of `FaultInstruction`. Raise `ValueError` for an unknown one."""
        return self.extend([FaultInstruction.read({"route": route, "kind": kind, **fields})])[0]

    def extend(self, instructions: Iterable[FaultInstruction]) -> list[Fault]:
        """Add some faults."""
        added = [Fault(id=next(self._numbers), **one.model_dump()) for one in instructions]
        self.all += added
        return added

    def take(self, route: str, path: str) -> list[Fault]:
        """Return the faults that happen to this call, in the order they were given."""
        return [fault for fault in self.all if fault.takes(route, path)]

    def clear(self) -> None:
        """Forget all faults."""
        self.all.clear()

    def __iter__(self) -> Iterator[Fault]:
        return iter(self.all)
