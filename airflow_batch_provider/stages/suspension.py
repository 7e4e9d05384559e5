"""One wait of one stage: where its storage is, what it waits for, and until when."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4
from weakref import WeakValueDictionary

from pydantic import AwareDatetime, Field, field_validator

from airflow_batch_provider.budgets import NO_LIMITS, BudgetLimits
from airflow_batch_provider.folders import task_folders
from airflow_batch_provider.frozen import FrozenModel
from airflow_batch_provider.layout import REGISTRY
from airflow_batch_provider.models import TaskKey
from airflow_batch_provider.registry import Registry
from airflow_batch_provider.signals import WaitBegun
from airflow_batch_provider.stages.values import NONE_YET, PollConfig, SuspendedState
from airflow_batch_provider.storage import Directory
from airflow_batch_provider.timing import NEAR

if TYPE_CHECKING:
    from airflow_batch_provider.stages.context import OpenPath
    from airflow_batch_provider.stages.values import Suspended

# Trigger arguments lie in Airflow's database in plain text, and are read by every component.
LARGEST = 8 * 1024

# A triggerer holds thousands of waits, most of which poll alike.
_POLLS: WeakValueDictionary[PollConfig, PollConfig] = WeakValueDictionary()


class StageLocation(FrozenModel):
    """Which stage runs for which task instance, and where its storage is.

    Attributes:
        stage: `module.Class`.
        storage: root of all stage storage, a URI.
        conn_id: the connection that `ctx.batch` uses when none is named.
    """

    stage: str
    task: TaskKey
    storage: str
    conn_id: str | None = None

    def directory(self, open_path: OpenPath) -> Directory:
        """Open the task instance's stage storage; blocking, and may read the storage's connection."""
        return self.folder(Directory(open_path(self.storage)))

    def folder(self, root: Directory) -> Directory:
        """Return the task instance's stage storage below the open root of all."""
        return root.sub("/".join(task_folders(self.task)))

    def registry(self, open_path: OpenPath, budgets: BudgetLimits = NO_LIMITS) -> Registry:
        """Open the record of everything that tasks with this root have at the providers; blocking, as `directory`."""
        return Registry(Directory(open_path(self.storage)).sub(REGISTRY), budgets, self.task)


class Suspension(FrozenModel):
    """One wait of one stage: all that a trigger is given, plain JSON without prompts, keys or configuration.

    Attributes:
        suspended_at: the first poll counts from here, the deadline from `state.submitted_at`.
        token: distinguishes this wait from earlier ones of the same task.
        lost: how often its trigger was lost.
        metrics: of the suspension.
        is_bare: state and metrics are left out, because they are too large for a trigger.
        provider, model: whom the stage waits for, where it says so.
        traceparent: W3C trace context of the worker that suspended; None where nothing is traced.
        near_at: when the worker is woken to say that the deadline is near; None where nobody wants to be told, or was.
    """

    location: StageLocation
    state: SuspendedState
    poll: PollConfig
    suspended_at: AwareDatetime
    token: str
    lost: int = 0
    metrics: dict[str, float] = Field(default_factory=dict)
    is_bare: bool = False
    provider: str | None = None
    model: str | None = None
    traceparent: str | None = None
    near_at: AwareDatetime | None = None

    @field_validator("poll")
    @classmethod
    def _shared(cls, poll: PollConfig) -> PollConfig:
        return _POLLS.setdefault(poll, poll)

    @classmethod
    def begin(
        cls,
        location: StageLocation,
        suspended: Suspended,
        now: datetime,
        poll: PollConfig | None = None,
        traceparent: str | None = None,
    ) -> Suspension:
        """Make a new wait; `poll` wins over the stage's own."""
        return cls(
            location=location,
            state=suspended.state,
            poll=poll or suspended.poll,
            suspended_at=now,
            token=uuid4().hex,
            metrics=suspended.metrics,
            provider=suspended.provider,
            model=suspended.model,
            traceparent=traceparent,
        )

    @property
    def task(self) -> TaskKey:
        """The task instance that waits."""
        return self.location.task

    @property
    def batch_ids(self) -> list[str]:
        """Every batch that the stage lists as `batch_ids` in `state.metadata`, by default the one of the state."""
        named = self.state.metadata.get("batch_ids")
        if isinstance(named, list) and named:
            return list(map(str, named))
        return [] if self.state.batch_id == NONE_YET else [self.state.batch_id]

    @property
    def awaited(self) -> str:
        """Name what is waited for, as a part of a sentence."""
        if not (ids := self.batch_ids):
            return "its first batch, which is not bought yet"
        more = f" and {len(ids) - 1} more" if len(ids) > 1 else ""
        return f"batch {ids[0]!r}{more}"

    @property
    def deadline(self) -> datetime:
        """When waiting ends, also after restarts."""
        return self.state.submitted_at + self.poll.max_wait

    @property
    def first_poll_at(self) -> datetime:
        """When the batch is polled first."""
        wait = self.poll.interval if self.poll.first_poll is None else self.poll.first_poll
        return min(self.suspended_at + wait, self.deadline)

    def begun(self, now: datetime) -> WaitBegun:
        """Return what an observer is told when it begins to be polled."""
        named = self.state.metadata.get("batch_ids")
        return WaitBegun(
            provider=self.provider,
            model=self.model,
            batches=len(named) if isinstance(named, list) else 1,
            started_at=self.state.submitted_at,
            deadline=self.deadline,
            now=now,
            traceparent=self.traceparent,
        )

    def again(self, now: datetime) -> Suspension:
        """Return the same wait for another trigger, because this one was lost."""
        return self.model_copy(update={"lost": self.lost + 1, "suspended_at": now})

    def with_near(self, earlier: Suspension | None) -> Suspension:
        """Return this wait with a time at which somebody is told that its deadline is near, once for each deadline.

        Args:
            earlier: the wait of the same task before this one.
        """
        is_told = earlier is not None and earlier.near_at is None and earlier.deadline == self.deadline
        near_at = None if is_told else self.deadline - (1 - NEAR) * self.poll.max_wait
        return self.model_copy(update={"near_at": near_at})

    def after_near(self, now: datetime) -> Suspension:
        """Return the same wait, after somebody was told that its deadline is near; its first poll is over, or due as before."""
        left = self.first_poll_at - now
        poll = self.poll.model_copy(update={"first_poll": left if left > timedelta(0) else None})
        return self.model_copy(update={"near_at": None, "suspended_at": now, "poll": poll})

    def kwargs(self) -> dict[str, Any]:
        """Return the trigger's arguments; a large state stays in stage storage, where `StageFiles.whole` finds it."""
        kwargs = self.model_dump(mode="json")
        if len(json.dumps(kwargs)) <= LARGEST:
            return kwargs
        bare = self.state.model_copy(update={"metadata": {}})
        return self.model_copy(update={"state": bare, "metrics": {}, "is_bare": True}).model_dump(mode="json")


def seconds_until(moment: datetime, now: datetime) -> float:
    """Seconds, not below zero."""
    return max((moment - now).total_seconds(), 0.0)
