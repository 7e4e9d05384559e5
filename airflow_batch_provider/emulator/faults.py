"""The fault plan: what shall go wrong, on which route, how often."""

from __future__ import annotations

import dataclasses
import fnmatch
import itertools
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Literal

from airflow_batch_provider.emulator.jobs import Job, Veil

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Kind = Literal[
    "status", "cut", "stall", "cut_body", "gone", "unknown_status", "extra_fields", "empty_file_ids",
    "hide", "unlist", "stuck", "expire", "fail", "fail_rows",
]  # fmt: skip
KINDS: dict[str, str] = {
    "status": "answer with `status`, `code`, `message`, `headers`, `retry_after`; `when`: after = it happened nevertheless",
    "cut": "close the connection; `when`: before = nothing happened, after = it happened and the answer is lost",
    "stall": "wait `seconds` of real time, before or after",
    "cut_body": "close the connection after so many `bytes` or `lines` of the answer",
    "gone": "404, for results beyond their retention",
    "unknown_status": "put `word` where the status stands",
    "extra_fields": "add fields nobody knows",
    "empty_file_ids": "write empty strings where an absent file id is null",
    "hide": "on a create: the new job is 404 for `looks` requests or `seconds`",
    "unlist": "on a create: the new job is absent from `looks` lists or for `seconds`",
    "stuck": "on a create: the new job never progresses",
    "expire": "on a create: the new job expires when `fraction` of its rows have run",
    "fail": "on a create: the new job fails with `code` and `message`",
    "fail_rows": "on a create: every row of the new job fails with the error `code`",
}


@dataclass(slots=True)
class Fault:
    """One thing that goes wrong on the routes that match, `times` times (None: always), after `after` good calls."""

    route: str
    kind: Kind
    times: int | None = 1
    after: int = 0
    when: Literal["before", "after"] = "before"
    path: str = "*"
    """A shell pattern over the request's path, to hit one job or file."""
    status: int = 500
    code: str | None = None
    message: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    retry_after: float | str | None = None
    """Seconds, or `date:30` for an HTTP date 30 seconds ahead."""
    details: Any = None
    seconds: float = 0.0
    looks: int = 0
    bytes: int | None = None
    lines: int | None = None
    word: str = "rebalancing"
    fraction: float = 0.5
    id: int = 0
    seen: int = 0
    taken: int = 0

    @classmethod
    def read(cls, order: Mapping[str, Any]) -> Fault:
        """From JSON; raises `ValueError` for what it cannot mean."""
        known = {item.name for item in dataclasses.fields(cls)} - {"id", "seen", "taken"}
        if unknown := sorted(set(order) - known):
            raise ValueError(f"No field {unknown[0]!r} in a fault. Choose among: {', '.join(sorted(known))}.")
        if order.get("kind") not in KINDS:
            raise ValueError(f"No fault {order.get('kind')!r}. Choose among: {', '.join(KINDS)}.")
        if not order.get("route"):
            raise ValueError("A fault needs a `route`, for example 'anthropic.create' or '*.create'.")
        if order.get("when", "before") not in ("before", "after"):
            raise ValueError(f"A fault strikes 'before' or 'after', not {order['when']!r}.")
        return cls(**order)

    def strikes(self, route: str, path: str) -> bool:
        """Whether it happens to this call; asking counts the call."""
        if not (fnmatch.fnmatchcase(route, self.route) and fnmatch.fnmatchcase(path, self.path)):
            return False
        self.seen += 1
        if self.seen <= self.after or (self.times is not None and self.taken >= self.times):
            return False
        self.taken += 1
        return True

    def all_headers(self, now: float) -> dict[str, str]:
        """The headers of the answer, with retry-after spelled out."""
        if self.retry_after is None:
            return self.headers
        text = str(self.retry_after)
        if text.startswith("date:"):
            text = formatdate(now + float(text.removeprefix("date:")), usegmt=True)
        return {**self.headers, "retry-after": text.removesuffix(".0")}

    def mark(self, job: Job, now: float) -> None:
        """Give the orders to a job that was just created."""
        veil = Veil(looks=self.looks, until=now + self.seconds if self.seconds else None)
        match self.kind:
            case "hide":
                job.orders.hidden = veil
            case "unlist":
                job.orders.unlisted = veil
            case "stuck":
                job.orders.stuck = True
            case "expire":
                job.orders.expire = self.fraction
            case "fail" if job.provider == "anthropic":
                # Anthropic has no failed batch, only batches whose rows all errored.
                job.orders.row_error = "api"
            case "fail":
                job.orders.fail = (
                    self.code or "invalid_request",
                    self.message or "The emulator was told to fail this batch.",
                )
            case "fail_rows":
                job.orders.row_error = self.code or "api"

    def alter(self, body: dict[str, Any], status: tuple[str, ...]) -> None:
        """Change an answer in place; `status` is the way to the status word in one item."""
        items = body.get("data") or body.get("operations") or [body]
        for item in items if isinstance(items, list) else [body]:
            match self.kind:
                case "unknown_status":
                    _put(item, status, self.word)
                case "extra_fields":
                    item["emulator_extra"] = {"new": True, "list": [1, "two", None]}
                case "empty_file_ids":
                    absent = [
                        name
                        for name in ("output_file_id", "error_file_id", "results_url")
                        if item.get(name, "") is None
                    ]
                    item.update(dict.fromkeys(absent, ""))


def _put(item: dict[str, Any], way: tuple[str, ...], word: str) -> None:
    *parents, last = way
    for name in parents:
        item = item.get(name) or {}
    if last in item:
        item[last] = word


class Faults:
    """All faults that were ordered."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self.all: list[Fault] = []

    def add(self, route: str, kind: Kind, **order: Any) -> Fault:
        """Order a fault; the fields are those of `Fault`. Raises `ValueError` for an unknown one."""
        fault = Fault.read({"route": route, "kind": kind, **order})
        fault.id = next(self._numbers)
        self.all.append(fault)
        return fault

    def take(self, route: str, path: str) -> list[Fault]:
        """The faults that happen to this call, in the order they were given."""
        return [fault for fault in self.all if fault.strikes(route, path)]

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        self.all.clear()

    def __iter__(self) -> Iterator[Fault]:
        return iter(self.all)
