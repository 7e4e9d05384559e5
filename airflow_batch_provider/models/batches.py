"""What one poll tells of a batch."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime

from airflow_batch_provider.frozen import FrozenModel

BatchState = Literal["pending", "processing", "completed", "failed", "expired", "cancelled"]
ENDED: frozenset[BatchState] = frozenset({"completed", "failed", "expired", "cancelled"})


class RequestCounts(FrozenModel):
    """How many requests of a batch are over, where the provider tells while it runs; unit: requests."""

    total: int = 0
    succeeded: int = 0
    failed: int = 0


class BatchStatus(FrozenModel):
    """The result of one poll of a batch.

    Attributes:
        status: in our words.
        counts: None where the provider tells nothing yet.
        tag: our own name for the batch there, None where the provider keeps none (Anthropic).
        error: why the batch as a whole failed.
        retryable: True when the batch failed for a passing reason (e.g. `token_limit_exceeded`) and nothing of it ran.
        unpaid: True when that reason is that the account has no credit, which passes only when a person pays.
        provider_status: the provider's own status word, for logs.
    """

    batch_id: str
    status: BatchState
    counts: RequestCounts | None = None
    tag: str | None = None
    created_at: AwareDatetime | None = None
    ended_at: AwareDatetime | None = None
    expires_at: AwareDatetime | None = None
    error: str | None = None
    retryable: bool = False
    unpaid: bool = False
    provider_status: str = ""

    @property
    def ended(self) -> bool:
        """True when nothing of this batch will run any more."""
        return self.status in ENDED
