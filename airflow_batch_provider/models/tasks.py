"""Which task instance of Airflow is meant."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class TaskKey:
    """One task instance of Airflow, over all its tries: two keys that differ only in `try_number` are equal.

    Attributes:
        map_index: -1 where the task is not mapped.
        try_number: from 1.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1
    try_number: int = field(default=1, compare=False)

    def __str__(self) -> str:
        """Return `dag/run/task` or `dag/run/task/map_index`, as people and storage paths write it."""
        parts = [self.dag_id, self.run_id, self.task_id] + ([str(self.map_index)] if self.map_index >= 0 else [])
        return "/".join(parts)
