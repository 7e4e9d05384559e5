"""What happens in one round of the soak, drawn from its seed before it begins, and readable by a person."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from killable_task import CREATE, FORM

ROUTES = {
    "anthropic": ("create", "list", "retrieve", "cancel", "results"),
    "openai": (
        "batches.create", "batches.list", "batches.retrieve", "batches.cancel",
        "files.create", "files.list", "files.content", "files.delete",
    ),
    "google": ("upload.start", "upload.chunk", "files.get", "files.delete", "create", "list", "get", "cancel", "download"),
}  # fmt: skip

MINUTE, HOUR = 60.0, 3600.0
# The package counts on a minute between the moment a worker decides to create and the one its batch can be seen. It may
# stand still, its call may be held up, take its time, and the batch may be invisible: so long each.
HELD = 10.0
UNSEEN = 30.0

# After a create that happened, an answer of these would be a lie that no client can see through: it says "refused".
REFUSING = (400, 401, 402, 403, 404, 413, 429)
DOUBTFUL = (408, 409, 500, 502, 503, 504, 529)

PASSING = ("overloaded", "rate_limit", "api", "timeout", "unavailable")
FINAL = ("invalid_request", "too_large", "permission")
ODDITIES = ("missing", "duplicate", "stranger", "separators", "copies=3", "pad=300", "cached=3", "reasoning=5")
FATES = ("refusal", "truncated", "bad_json", "bad_schema", "empty", "tool_use", "expired", "cancelled")
TEXTS = (
    "plain",
    'quo"ted \\ {braces}',
    "separators \u2028\u2029\u0085",
    "null \x00 and bell \x07",
    "日本 🎉",
    "a\r\nb",
)


@dataclass(frozen=True)
class Attempt:
    """One try of a task, and what befalls it.

    Attributes:
        rest: seconds before it starts.
        end: `own`: it ends by itself. `moment`: killed at the nth write or call; `wait`: at the nth await; `time`: after
            so many seconds. `left`: after so many seconds the next one starts while this one goes on, a zombie.
            `marked`: after so many seconds a person marks the task failed.
        at: n, or seconds.
        frozen: it stands still at its nth await for so many seconds. When it does so for long, right between its last
            check of the claim and its create, it is overtaken, and cancels what it created.
        twin: a second worker runs the same try at the same time.
        failed_before: the try before counts as failed until this one starts, as when a person clears the task.
    """

    rest: float
    end: str = "own"
    at: float = 0
    frozen: tuple[int, float] | None = None
    twin: bool = False
    failed_before: bool = False


@dataclass(frozen=True)
class TaskScript:
    """One task instance; when it is `abandoned`, nobody clears it after its last scripted try."""

    name: str
    rows: tuple
    config: dict
    poll: tuple[float, float]
    attempts: tuple[Attempt, ...]
    abandoned: bool = False


@dataclass(frozen=True)
class Garble:
    """Hostile bytes on the wire: the nth answers of one role are spoiled."""

    role: str
    how: str
    after: int
    times: int


@dataclass(frozen=True)
class Script:
    """One round."""

    seed: str
    provider: str
    options: dict
    settings: dict
    skew: float
    latency: tuple[float, ...]
    tasks: tuple[TaskScript, ...]
    faults: tuple[tuple[float, dict], ...]
    garbles: tuple[Garble, ...]
    jumps: tuple[tuple[float, float], ...]
    reconciles: tuple[tuple[float, float], ...]
    neighbours: tuple[tuple[float, int], ...] = field(default=())

    def __str__(self):
        lines = [
            f"provider {self.provider} {self.options}, its clock {self.skew:+.0f} s, calls take {self.latency} s",
            f"settings {self.settings}",
        ]
        for task in self.tasks:
            fate = "then nobody clears it" if task.abandoned else "then cleared until it ends"
            lines.append(
                f"task {task.name}: {task.config}, polls every {task.poll[0]:.0f} s for {task.poll[1]:.0f} s; {fate}"
            )
            lines += [f"    row {row!r}" for row in task.rows]
            lines += [f"    try {number}: {_told(one)}" for number, one in enumerate(task.attempts, 1)]
        lines += [f"fault from {at:.0f} s: {fault}" for at, fault in self.faults]
        lines += [f"{garble}" for garble in self.garbles]
        lines += [f"the clock jumps at {at:.0f} s by {by:.0f} s" for at, by in self.jumps]
        lines += [f"reconcile at {at:.0f} s, grace {grace:.0f} s" for at, grace in self.reconciles]
        lines += [f"somebody else's batch of {size} at {at:.0f} s" for at, size in self.neighbours]
        return "\n".join(lines)


def _told(one):
    said = [f"after {one.rest:.0f} s"]
    said += ["marked failed until then"] if one.failed_before else []
    said += [f"{one.end} {one.at:.0f}"] if one.end != "own" else []
    said += [f"stands still at await {one.frozen[0]} for {one.frozen[1]:.0f} s"] if one.frozen else []
    said += ["with a twin"] if one.twin else []
    return ", ".join(said)


def draw(seed, number):
    """The script of one round."""
    return _Draw(Random(f"{seed}:{number}")).script(f"{seed}:{number}")


class _Draw:
    def __init__(self, dice):
        self._dice = dice
        self._provider = dice.choice(tuple(ROUTES))
        # Rounds in which workers stand still for long have batches that do not run at once, and cancels that work.
        self._freezing = dice.random() < 0.15

    def script(self, seed):
        dice = self._dice
        size = dice.randint(1, 4)
        return Script(
            seed=seed,
            provider=self._provider,
            options={"max_requests": size}
            | ({"api": dice.choice(("chat", "responses"))} if self._provider == "openai" else {}),
            settings=self._settings(),
            skew=dice.choice((0, -50, 50, -HOUR, HOUR)),
            latency=dice.choice(((0,), (0, 0.1), (0.1, 1, 5))),
            tasks=tuple(self._task(f"task-{number}") for number in range(dice.choice((1, 1, 2, 3, 4)))),
            faults=tuple(fault for fault in self._faults() if not (self._freezing and self._hinders_cancel(fault[1]))),
            garbles=tuple(self._garble() for _ in range(dice.choice((0, 0, 0, 1, 2)) * (not self._freezing))),
            jumps=tuple((self._soon(), dice.choice((90, 700, 5 * HOUR))) for _ in range(dice.choice((0, 0, 0, 1)))),
            reconciles=tuple((self._soon(), dice.choice((0, HOUR))) for _ in range(dice.choice((0, 0, 1, 2)))),
            neighbours=self._neighbours(size) if self._provider == "anthropic" else (),
        )

    def _neighbours(self, size):
        """Batches of somebody else, most of them as large as ours."""
        dice = self._dice
        return tuple((self._soon(), dice.choice((size, size, 1, 2))) for _ in range(dice.choice((0, 0, 4, 12))))

    def _soon(self):
        return self._dice.choice((0, 1, 5, 30, 61, 120, 400, 1500, HOUR)) * self._dice.random()

    def _settings(self):
        dice = self._dice
        progress = {
            "pending": 40 if self._freezing else dice.choice((0, 2, 30)),
            "running": dice.choice((0, 5, 60, 600)),
            "finalizing": dice.choice((0, 20)),
            "settle": dice.choice((0, 5, 200)),
        }
        limits = {}
        if dice.random() < 0.15:
            limits |= {"openai_enqueued_tokens": 150, "google_enqueued_tokens": 150, "google_jobs": 2}
        windows = {f"{name}_window": dice.choice((2, 5)) * HOUR for name in ROUTES}
        cancelled = {"google_cancel_output": dice.choice(("none", "partial")), "seed": dice.randint(0, 99)}
        return {"progress": progress, "limits": limits} | windows | cancelled

    # tasks

    def _task(self, name):
        dice = self._dice
        interval = dice.choice((10, 60, 300))
        config = {
            "retry_rows": dice.choice((0, 1, 1, 2)),
            "on_timeout": dice.choice(("fail", "salvage", "leave")),
            "max_in_flight": dice.choice((None, None, 1, 2)),
            "retry_truncated": dice.random() < 0.3,
            "on_partial": dice.choice(("succeed", "succeed", "fail")),
            "clean_up": dice.random() < 0.8,
        }
        return TaskScript(
            name=name,
            rows=tuple(self._row(name, index) for index in range(dice.choice((1, 2, 3, 5, 8, 12)))),
            config=config,
            poll=(interval, dice.choice((max(interval, 200), HOUR, 8 * HOUR))),
            attempts=tuple(self._attempt() for _ in range(dice.choice((0, 1, 2, 3, 5)))),
            abandoned=dice.random() < 0.12,
        )

    def _row(self, name, index):
        dice = self._dice
        text = (
            f"{name} asks {index}: {dice.choice(TEXTS)}" + self._marker() + (self._marker() if index % 7 == 3 else "")
        )
        if dice.random() < 0.25:
            return {"custom_id": f"{name}/{index}", "prompt": text, "output_type": FORM}
        return text

    def _marker(self):
        dice = self._dice
        kind = dice.choices(("none", "passing", "final", "odd", "fate"), (10, 3, 0.5, 2, 2))[0]
        if kind == "none":
            return ""
        if kind == "final":
            return f" [[emulate:error={dice.choice(FINAL)}]]"
        if kind == "odd":
            word = dice.choice(ODDITIES)
        else:
            word = f"error={dice.choice(PASSING)}" if kind == "passing" else dice.choice(FATES)
        return f" [[emulate:{word}{dice.choice(('', ',times=1', ',times=1', ',times=2'))}]]"

    def _attempt(self):
        dice = self._dice
        end = dice.choice(("own", "moment", "moment", "moment", "wait", "wait", "time", "left", "left", "marked"))
        at = {"moment": dice.randint(0, dice.choice((20, 120))), "wait": dice.randint(0, 60), "own": 0}.get(
            end, self._soon()
        )
        if self._freezing and dice.random() < 0.5:
            frozen = (dice.randint(0, 50), dice.choice((90, 400, 2000)))
            return Attempt(
                dice.choice((0, 30)),
                *dice.choice((("own", 0), ("left", self._soon()))),
                frozen,
                twin=dice.random() < 0.3,
            )
        return Attempt(
            rest=dice.choice((0, 0, 1, 30, 61, 700)),
            end=end,
            at=at,
            frozen=(dice.randint(0, 50), HELD) if dice.random() < 0.2 and not self._freezing else None,
            twin=dice.random() < 0.15,
            failed_before=dice.random() < 0.4,
        )

    # the provider

    def _faults(self):
        return [self._fault() for _ in range(self._dice.choice((0, 1, 2, 4, 8)))]

    def _hinders_cancel(self, fields):
        """True when an overtaken worker may be kept from cancelling what it created."""
        lost = fields["route"] == CREATE[self._provider] and fields["kind"] in ("status", "cut", "cut_body", "stall")
        return lost or fields["kind"] == "hide" or fields["route"].endswith((".cancel", ".*"))

    def _fault(self):
        dice = self._dice
        start = dice.choice((0, 0, self._soon()))
        create = CREATE[self._provider]
        route = dice.choice((create, f"{self._provider}.{dice.choice(ROUTES[self._provider])}", f"{self._provider}.*"))
        kind = dice.choice(("call", "call", "call", "answer", "job", "job"))
        fields = getattr(self, f"_{kind}_fault")(route, create)
        return start, {"times": dice.choice((1, 1, 2, 3, 9)), "after": dice.choice((0, 0, 1, 2, 5))} | fields

    def _call_fault(self, route, create):
        """A call that fails, before or after it did what it says."""
        dice = self._dice
        when = dice.choice(("before", "after"))
        kind = dice.choice(("status", "status", "cut", "stall", "gone"))
        if kind == "cut":
            return {"route": route, "kind": "cut", "when": when}
        if kind == "stall":
            create_held = when == "before" and (route == create or route.endswith("*"))
            times = {"times": 1} if create_held else {}
            return times | {
                "route": route,
                "kind": "stall",
                "when": when,
                "seconds": HELD if create_held else dice.choice((45, 700)),
            }
        if kind == "gone":
            return {"route": f"{self._provider}.{dice.choice(ROUTES[self._provider][-2:])}", "kind": "gone"}
        lies = when == "after" and (route == create or route.endswith("*"))
        status = dice.choice(DOUBTFUL if lies else DOUBTFUL + REFUSING)
        wait = dice.choice((None, None, 3, 40, 900, "date:30"))
        return {"route": route, "kind": "status", "status": status, "when": when, "retry_after": wait}

    def _answer_fault(self, route, _create):
        """An answer of another shape than expected."""
        dice = self._dice
        kind = dice.choice(("cut_body", "cut_body", "unknown_status", "extra_fields", "empty_file_ids"))
        if kind == "cut_body":
            return {"route": route, "kind": kind, "bytes": dice.choice((0, 1, 20, 300))}
        return {"route": f"{self._provider}.*", "kind": kind, "times": dice.choice((3, 30))}

    def _job_fault(self, _route, create):
        """A batch with a fate of its own."""
        dice = self._dice
        kind = dice.choice(("hide", "unlist", "stuck", "expire", "fail", "fail_rows"))
        fields = {"route": create, "kind": kind}
        if kind == "hide":
            return fields | dice.choice(({"polls": 3}, {"seconds": UNSEEN}, {"seconds": 300}, {"seconds": 900}))
        if kind == "unlist":
            return fields | dice.choice(({"polls": 3}, {"seconds": UNSEEN * dice.random()}))
        if kind == "expire":
            return fields | {"fraction": dice.choice((0, 0.3, 0.5, 1))}
        if kind == "fail":
            passing = {"openai": "token_limit_exceeded", "google": "UNAVAILABLE"}.get(self._provider)
            return fields | {"code": dice.choice((None, passing))}
        return fields | ({"code": dice.choice((*PASSING, *FINAL))} if kind == "fail_rows" else {})

    def _garble(self):
        dice = self._dice
        role = dice.choice(("create", "poll", "results", "results"))
        how = dice.choice(
            ("spoil", "insert") if role == "results" else ("nothing", "null", "list", "page", "id", "bytes")
        )
        return Garble(role, how, dice.choice((0, 1, 3)), dice.choice((1, 2)))
