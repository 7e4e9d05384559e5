"""One wait of one stage: where its storage is, what it waits for, and until when."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import uuid4

from pydantic import AwareDatetime

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.layout import REGISTRY
from airflow_batch_provider.models import FrozenModel, TaskKey
from airflow_batch_provider.registry import Registry
from airflow_batch_provider.stages.values import PollConfig, SuspendedState
from airflow_batch_provider.storage import Directory

if TYPE_CHECKING:
    from airflow_batch_provider.stages.context import OpenPath
    from airflow_batch_provider.stages.values import Suspended

# Trigger arguments lie in Airflow's database in plain text, and are read by every component.
LARGEST = 8 * 1024


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
        root = open_path(self.storage)
        for segment in _segments(self.task):
            root = root / segment
        return Directory(root)

    def registry(self, open_path: OpenPath) -> Registry:
        """Open the record of everything that tasks with this root have at the providers; blocking, as `directory`."""
        return Registry(Directory(open_path(self.storage) / REGISTRY))


class Suspension(FrozenModel):
    """One wait of one stage: all that a trigger is given, plain JSON without prompts, keys or configuration.

    Attributes:
        suspended_at: the first poll counts from here, the deadline from `state.submitted_at`.
        token: distinguishes this wait from earlier ones of the same task.
        lost: how often its trigger was lost.
    """

    location: StageLocation
    state: SuspendedState
    poll: PollConfig
    suspended_at: AwareDatetime
    token: str
    lost: int = 0

    @classmethod
    def begin(
        cls, location: StageLocation, suspended: Suspended, now: datetime, poll: PollConfig | None = None
    ) -> Suspension:
        """Make a new wait; `poll` wins over the stage's own."""
        return cls(
            location=location,
            state=suspended.state,
            poll=poll or suspended.poll,
            suspended_at=now,
            token=uuid4().hex,
        )

    @property
    def task(self) -> TaskKey:
        """The task instance that waits."""
        return self.location.task

    @property
    def batch_ids(self) -> list[str]:
        """Every batch that the stage lists as `batch_ids` in `state.metadata`, by default the one of the state."""
        named = self.state.metadata.get("batch_ids")
        return list(map(str, named)) if isinstance(named, list) and named else [self.state.batch_id]

    @property
    def deadline(self) -> datetime:
        """When waiting ends, also after restarts."""
        return self.state.submitted_at + self.poll.max_wait

    @property
    def first_poll_at(self) -> datetime:
        """When the batch is polled first."""
        wait = self.poll.interval if self.poll.first_poll is None else self.poll.first_poll
        return min(self.suspended_at + wait, self.deadline)

    def again(self, now: datetime) -> Suspension:
        """Return the same wait for another trigger, because this one was lost."""
        return self.model_copy(update={"lost": self.lost + 1, "suspended_at": now})

    def kwargs(self) -> dict[str, Any]:
        """Return the trigger's arguments.

        Raises:
            UsageError: they are too large.
        """
        kwargs = self.model_dump(mode="json")
        size = len(json.dumps(kwargs))
        if size > LARGEST:
            raise UsageError(
                f"The suspended state of {str(self.task)!r} makes {size} bytes of trigger arguments, above {LARGEST}. "
                "Keep only ids in Suspended.state.metadata and save the rest with ctx.storage.save."
            )
        return kwargs


def seconds_until(moment: datetime, now: datetime) -> float:
    """Seconds, not below zero."""
    return max((moment - now) / timedelta(seconds=1), 0.0)


def _segments(task: TaskKey) -> list[str]:
    """Path segments that no id can break out of: percent-encoded, and never `.` or `..`."""
    names = [task.dag_id, task.run_id, task.task_id, *([str(task.map_index)] if task.map_index >= 0 else [])]
    quoted = [quote(name, safe="") for name in names]
    return [name.replace(".", "%2E") if set(name) == {"."} else name for name in quoted]
