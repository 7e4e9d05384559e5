"""What a built-in stage waits for, from the worker that suspends to the polls of the triggerer and back."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Self

from airflow_batch_provider.ledger import Waiting
from airflow_batch_provider.places import Places
from airflow_batch_provider.stages.values import NONE_YET, PollConfig, Suspended, SuspendedState
from airflow_batch_provider.timing import PLACE_PAUSE, WAKE_AFTER

if TYPE_CHECKING:
    from airflow_batch_provider.models import BatchStatus
    from airflow_batch_provider.stages.config import BatchConfig
    from airflow_batch_provider.stages.context import CheckCompletionContext


@dataclass(slots=True)
class Wait:
    """What one poll of a wait leaves to the next, so that one which finds nothing new costs next to nothing.

    Attributes:
        shown: what the newest record tells of the batches; None before the first.
    """

    state: SuspendedState
    waiting: Waiting
    shown: list[BatchStatus] | None = None

    @classmethod
    def of(cls, state: SuspendedState) -> Self:
        """Return a wait that nothing was polled of yet."""
        return cls(state, waiting_of(state))


def suspended(waiting: Waiting, config: BatchConfig, provider: str, landed: tuple[str, ...]) -> Suspended:
    """Return the suspension of a task that waits.

    Args:
        provider: its name.
        landed: ids of the batches whose answers it has.
    """
    state = SuspendedState(
        batch_id=waiting.batch_ids[0] if waiting.batch_ids else NONE_YET,
        submitted_at=waiting.started_at,
        metadata=waiting.model_dump(mode="json"),
    )
    return Suspended(
        state=state,
        poll=_poll(waiting, config),
        batch_ids=(*landed, *waiting.batch_ids),
        provider=provider,
        model=config.spec.model,
    )


def _poll(waiting: Waiting, config: BatchConfig) -> PollConfig:
    """Return the user's, but back at `resume_at`, or soon for a place, when that is sooner than the first poll."""
    if waiting.resume_at is None and waiting.place is None:
        return config.poll
    pauses = [PLACE_PAUSE] if waiting.place else []
    if waiting.resume_at is not None:
        pauses.append(max(timedelta(0), waiting.resume_at - waiting.seen_at))
    soon = min(pauses)
    return config.poll.model_copy(update={"first_poll": min(soon, config.poll.first_poll or config.poll.interval)})


def waiting_of(state: SuspendedState) -> Waiting:
    """Return what a suspended task waits for."""
    return Waiting.model_validate(state.metadata)


async def place_is_free(waiting: Waiting, ctx: CheckCompletionContext[BatchConfig]) -> bool:
    """Tell whether there is a place at the provider now for a batch that waits for one; False where none does.

    Where the limits were taken away meanwhile, there is.
    """
    if waiting.place is None or ctx.registry is None:
        return False
    provider = await ctx.hub.provider(ctx.config.connection)
    places = Places.of(
        ctx.registry,
        ctx.config.connection,
        provider.account,
        ctx.config.spec.model,
        lambda: provider.now() or ctx.now(),
    )
    return places is None or await asyncio.to_thread(places.wait, waiting.place.tag) is None


async def leave_place(waiting: Waiting, ctx: CheckCompletionContext[BatchConfig]) -> None:
    """Stop waiting for a place, so that others need not wait for who does not come back."""
    if waiting.place is not None and ctx.registry is not None:
        place = waiting.place
        places = Places(ctx.registry, place.scope, place.limits, ctx.now)
        await asyncio.to_thread(places.leave, place.tag)


async def count_gone(waiting: Waiting, shown: int, ctx: CheckCompletionContext[BatchConfig]) -> int:
    """Return how many of the batches the provider does not show and never will."""
    hidden = len(waiting.batch_ids) - shown
    if not hidden:
        return 0
    provider = await ctx.hub.provider(ctx.config.connection)
    is_young = (provider.now() or ctx.now()) - (waiting.newest_at or waiting.started_at) < WAKE_AFTER
    return 0 if is_young else hidden
