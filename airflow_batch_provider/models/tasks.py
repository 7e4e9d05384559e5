"""Which task instance of Airflow is meant."""

from __future__ import annotations

from dataclasses import dataclass, field

from airflow_batch_provider.exceptions import UsageError


def refuse_half_characters(name: str, value: str) -> None:
    """Refuse a text with a lone surrogate, which UTF-8 does not have.

    Raises:
        UsageError: as said; with the name, the text and where it is.
    """
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{name}={value!a} holds half a character, {value[error.start]!a} at {error.start}. Give a text of whole "
            "characters; bytes are read by bytes.decode('utf-8')."
        ) from None


@dataclass(frozen=True)
class TaskKey:
    """One task instance of Airflow, over all its tries: two keys that differ only in `try_number` are equal.

    Attributes:
        map_index: -1 where the task is not mapped.
        try_number: from 1.

    Raises:
        UsageError: an id holds half a character, which no folder, record or provider can hold.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1
    try_number: int = field(default=1, compare=False)

    def __post_init__(self) -> None:
        """Refuse ids that cannot be written, before anything is."""
        for name in ("dag_id", "run_id", "task_id"):
            refuse_half_characters(name, getattr(self, name))

    def __str__(self) -> str:
        """Return `dag/run/task` or `dag/run/task/map_index`, as people and storage paths write it."""
        parts = [self.dag_id, self.run_id, self.task_id] + ([str(self.map_index)] if self.map_index >= 0 else [])
        return "/".join(parts)
