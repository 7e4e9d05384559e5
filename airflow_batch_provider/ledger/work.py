"""What every part of a ledger works with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_batch_provider.clock import Clock
    from airflow_batch_provider.models import Spec
    from airflow_batch_provider.providers.base import BatchProvider
    from airflow_batch_provider.registry import Registry
    from airflow_batch_provider.storage import Directory


@dataclass(frozen=True)
class Policy:
    """How far a task goes for its rows.

    Attributes:
        retry_rows: waves after the first in one attempt.
        in_flight: most batches at the provider at once; None takes the provider's limit.
        enqueued_tokens: most estimated input tokens at the provider at once; None means any number.
        retry_truncated: ask answers again that were cut off, with twice the room each time.
        clean_up: delete what the provider keeps of a batch that is of no use there any more.
    """

    retry_rows: int = 2
    in_flight: int | None = None
    enqueued_tokens: int | None = None
    retry_truncated: bool = False
    clean_up: bool = True


@dataclass(frozen=True, kw_only=True)
class Work:
    """One task instance's requests at one provider.

    Attributes:
        root: the task instance's directory.
        label: whose it is, for the provider's console: `dag/run/task`.
        attempt: try of the task, from 1.
        registry: what this deployment has at the providers; None where there is none (a script).
    """

    root: Directory
    provider: BatchProvider
    spec: Spec
    policy: Policy
    clock: Clock
    label: str
    attempt: int
    registry: Registry | None = None
