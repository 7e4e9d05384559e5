"""Airflow's notifiers, called on the worker when something happens that a person wants to know.

The triggerer calls none: it has neither the task's context nor time for others' code. It wakes the worker, which does.
"""

from __future__ import annotations

import copy
import inspect
import logging
import threading
from contextlib import contextmanager
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow.sdk.bases.notifier import BaseNotifier

from airflow_batch_provider import loop
from airflow_batch_provider.exceptions import OverBudget, Unresolved, UsageError
from airflow_batch_provider.timing import NEAR, NOTIFY_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from airflow_batch_provider.stages.suspension import Suspension

log = logging.getLogger(__name__)

Notify: TypeAlias = "BaseNotifier | Callable[[Any], Any] | Sequence[BaseNotifier | Callable[[Any], Any]] | None"
"""One notifier, or any function of Airflow's context, plain or async, or several of them."""

_ERRORS = ((Unresolved, "unresolved"), (OverBudget, "budget"))


def checked(name: str, given: Notify) -> Notify:
    """Return what is to be called.

    Raises:
        UsageError: some of it cannot be.
    """
    for one in _each(given):
        if not callable(one):
            raise UsageError(f"{name}={one!r} is not a notifier. Give one of Airflow's, or a function of the context.")
    return given


def notice(name: str, message: str, suspension: Suspension | None = None) -> dict[str, Any]:
    """Return what notifiers find as `batch_signal` in the context; see `table.NOTICE`."""
    return {
        "name": name,
        "message": message,
        "batch_ids": suspension.batch_ids if suspension else [],
        "deadline": suspension.deadline.isoformat() if suspension else None,
    }


def near_notice(suspension: Suspension) -> dict[str, Any]:
    """Return the notice of a deadline that is near."""
    return notice(
        "deadline_near",
        f"{NEAR:.0%} of the time for {suspension.task} has passed: its deadline is "
        f"{suspension.deadline.isoformat(timespec='seconds')}. It waits for {suspension.awaited}. "
        "What has finished by then is kept, as on_timeout says; the max_wait of poll is the time for the next run.",
        suspension,
    )


@contextmanager
def errors_noticed(wanted: Mapping[str, Notify], context: Any) -> Iterator[None]:
    """Call the notifiers of an error that people want to know of, and let it go on.

    Args:
        wanted: name of a notice → its notifiers.
    """
    try:
        yield
    except (Unresolved, OverBudget) as error:
        name = next(name for kind, name in _ERRORS if isinstance(error, kind))
        notify(wanted.get(name), context, notice(name, " ".join(str(error).split())))
        raise


def notify(given: Notify, context: Any, about: Mapping[str, Any], limit: float = NOTIFY_LIMIT.total_seconds()) -> None:
    """Call each notifier; one that fails or takes too long is logged, and the task goes on.

    Args:
        limit: time for each, in seconds.
    """
    for one in _each(given):
        told = {**context, "batch_signal": dict(about)}
        thread = threading.Thread(
            target=copy_context().run, args=(_call, one, told), name="batch-notifier", daemon=True
        )
        thread.start()
        thread.join(limit)
        if thread.is_alive():
            log.warning("%r was not done with %s after %.0f s; the task goes on.", one, about["name"], limit)


def _each(given: Notify) -> Sequence[Any]:
    if given is None:
        return ()
    return given if isinstance(given, list | tuple) else (given,)


def _call(one: Any, context: dict[str, Any]) -> None:
    try:
        if isinstance(one, BaseNotifier):
            _call_notifier(copy.copy(one), context)  # it renders its templates in itself, once for all
        elif inspect.isawaitable(found := one(context)):
            loop.run(_awaited(found))
    except Exception as error:
        log.warning("%r was not told of %s: %r", one, context["batch_signal"]["name"], error)
        log.debug("The notifier failed", exc_info=True)


def _call_notifier(one: BaseNotifier, context: dict[str, Any]) -> None:
    if type(one).notify is BaseNotifier.notify:  # it has `async_notify` only
        one.context = context  # type: ignore[assignment]  # Airflow's context with one more name in it
        loop.run(_awaited(one))
    else:
        one(context)


async def _awaited(what: Any) -> Any:
    return await what
