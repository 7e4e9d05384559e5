"""Stale stage storage: the directories of task instances that nobody needs any more, and their removal."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec
from pydantic import AwareDatetime

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.fleet.deployment import segments, task_in
from airflow_batch_provider.folders import is_shortened
from airflow_batch_provider.frozen import FrozenModel
from airflow_batch_provider.layout import CONFIG, MANIFEST, OUTPUT, PLAN, SUSPENDED
from airflow_batch_provider.ledger.row_cache import written_at
from airflow_batch_provider.models import TaskKey

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from airflow_batch_provider.fleet.deployment import AskAirflow, Deployment
    from airflow_batch_provider.storage import Directory

log = logging.getLogger(__name__)

# Folders down to that of a DAG run.
_RUN_DEPTH = 2
# A directory with one of these files is a task instance's; the last one written first.
_MARKS = (MANIFEST, OUTPUT, SUSPENDED, PLAN, CONFIG)


class StaleStorage(FrozenModel):
    """A directory that may go.

    Attributes:
        state: `finished`: it has plan and manifest. `unfinished`: a task that never came to its end, or a stage of one's
            own, of which only its author knows when it is done.
        touched_at: when its last mark was written.
    """

    folders: tuple[str, ...]
    uri: str
    state: Literal["finished", "unfinished"]
    touched_at: AwareDatetime


@dataclass(frozen=True)
class StaleAnswers:
    """Objects of a row cache that may go; readers take one that is gone for one that never was.

    Attributes:
        directory: of one scope of the cache.
        names: of the objects in it.
    """

    directory: Directory
    names: tuple[str, ...]

    @property
    def touched_at(self) -> datetime:
        """Return when the newest of them was written."""
        return max(at for at in map(written_at, self.names) if at)

    def delete(self) -> None:
        """Delete them."""
        for name in self.names:
            self.directory.delete(name)
        log.info("Deleted %d objects of %s, none newer than %s.", len(self.names), self.directory, self.touched_at)


class Pruner:
    """Looks through one deployment.

    Args:
        ask: tells the state of a task instance by Airflow; nothing of one that waits is ever deleted.
    """

    def __init__(self, deployment: Deployment, ask: AskAirflow) -> None:
        self._deployment = deployment
        self._storage = deployment.storage
        self._ask = ask

    def stale(self, before: datetime, *, unfinished: bool = False) -> Iterator[StaleStorage]:
        """Return the directories last touched before then that hold no open batch and that no task waits for.

        Args:
            unfinished: also those without plan and manifest.
        """
        busy = self._open()
        for folders in self._stages():
            found = self._state(folders)
            wanted = found is not None and (unfinished or found.state == "finished")
            if found and wanted and found.touched_at < before and folders not in busy and self._is_over(folders):
                yield found

    def delete(self, stale: StaleStorage) -> bool:
        """Delete a directory, and those above it that are then empty; False when its task took it up again."""
        if stale.folders in self._open() or not self._is_over(stale.folders):
            return False
        for depth in range(len(stale.folders), 0, -1):
            name = "/".join(stale.folders[:depth])
            if depth < len(stale.folders) and self._storage.names(name):
                break
            self._storage.delete(name)
            if depth == _RUN_DEPTH:
                self._deployment.registry.budgets.forget_run(*stale.folders[:depth])
        log.info("Deleted %s, %s since %s.", stale.uri, stale.state, stale.touched_at)
        return True

    def _stages(self) -> Iterator[tuple[str, ...]]:
        """Return the folders of every task instance's directory: `dag/run/task`, and below it one per map index."""
        for dag in self._storage.names():
            if dag.startswith("="):
                continue
            for run in self._storage.names(dag):
                for task in self._storage.names(f"{dag}/{run}"):
                    yield dag, run, task
                    mapped = [name for name in self._storage.names(f"{dag}/{run}/{task}") if name.isdecimal()]
                    yield from ((dag, run, task, index) for index in mapped)

    def _state(self, folders: tuple[str, ...]) -> StaleStorage | None:
        name = "/".join(folders)
        names = set(self._storage.names(name))
        mark = next((mark for mark in _MARKS if mark in names), None)
        if mark is None or any(map(str.isdecimal, names)):  # one that became mapped holds others of its kind
            return None
        return StaleStorage(
            folders=folders,
            uri=self._storage.uri(name),
            state="finished" if {PLAN, MANIFEST} <= names else "unfinished",
            touched_at=self._storage.modified(f"{name}/{mark}"),
        )

    def _is_over(self, folders: tuple[str, ...]) -> bool:
        task = self._task(folders)
        return task is not None and self._ask(task) in ("over", "gone")

    def _task(self, folders: tuple[str, ...]) -> TaskKey | None:
        """Return the task instance of a directory; for a shortened name as its last wait tells, None without any."""
        if not any(map(is_shortened, folders)):
            try:
                return task_in(list(folders))
            except UsageError:  # a folder whose name is not a text, which no task of ours has made
                return None
        data = self._storage.read("/".join((*folders, SUSPENDED)))
        return None if data is None else TaskKey(**msgspec.json.decode(data)["location"]["task"])

    def stale_answers(self, cache: Directory, before: datetime) -> Iterator[StaleAnswers]:
        """Return the objects of a row cache that were written before then, by folder."""
        for scope in cache.names():
            names = [name for name in cache.names(scope) if (at := written_at(name)) and at < before]
            if names:
                yield StaleAnswers(cache.sub(scope), tuple(names))

    def _open(self) -> set[tuple[str, ...]]:
        """Return the folders of tasks with an open batch.

        Raises:
            BatchError: an entry cannot be read, so that it is unknown whose batch is open.
        """
        return {tuple(segments(entry)) for entry in self._deployment.registry.entries()}
