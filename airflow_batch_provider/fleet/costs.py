"""What batches have cost, summed by what a person asks for."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.fleet.deployment import task_of
from airflow_batch_provider.frozen import FrozenModel
from airflow_batch_provider.spending import month_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow_batch_provider.spending import Spent

Group = Literal["dag", "run", "task", "tag", "team", "model", "provider", "connection", "month"]
_NONE: Mapping[str, tuple[str, ...]] = {}


class Sum(FrozenModel):
    """The batches of one group.

    Attributes:
        usd: US dollars, of the batches that have a known price; None when none has.
        saved_usd: what they would have cost more without a batch; None when unknown.
        unpriced: what the amounts leave out, as in `Cost`.
    """

    group: str
    batches: int
    requests: int
    succeeded: int
    input_tokens: int
    output_tokens: int
    usd: float | None
    saved_usd: float | None
    unpriced: tuple[str, ...]


def sums_by(spent: Iterable[Spent], group: Group, dag_groups: Mapping[str, tuple[str, ...]] = _NONE) -> list[Sum]:
    """Return the sum of each group, the dearest first; months in order.

    Args:
        dag_groups: DAG → its tags or its team; a batch counts in each of them.
    """
    groups: dict[str, list[Spent]] = defaultdict(list)
    for one in spent:
        for name in _names(one, group, dag_groups):
            groups[name].append(one)
    sums = [sum_of(name, members) for name, members in groups.items()]
    if group == "month":
        return sorted(sums, key=lambda one: one.group)
    return sorted(sums, key=lambda one: (-(one.usd or 0.0), one.group))


def dag_of(spent: Spent) -> str | None:
    """Return the DAG that bought a batch; None when neither its label nor its claim names one."""
    try:
        return task_of(spent).dag_id
    except UsageError:
        return None


def sum_of(name: str, spent: list[Spent]) -> Sum:
    """Return the sum of these batches."""
    return Sum(
        group=name,
        batches=len(spent),
        requests=sum(one.requests for one in spent),
        succeeded=sum(one.succeeded for one in spent),
        input_tokens=sum(one.usage.input_tokens for one in spent),
        output_tokens=sum(one.usage.output_tokens for one in spent),
        usd=_dollars([one.cost.usd for one in spent]),
        saved_usd=_dollars([one.cost.saved_usd for one in spent]),
        unpriced=tuple(sorted({name for one in spent for name in one.cost.unpriced})),
    )


def _dollars(amounts: list[float | None]) -> float | None:
    known = [Decimal(str(amount)) for amount in amounts if amount is not None]
    return float(sum(known)) if known else None


def _names(spent: Spent, group: Group, dag_groups: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    if group in ("tag", "team"):
        return dag_groups.get(dag_of(spent) or "", (f"no {group}",))
    return (_name(spent, group),)


def _name(spent: Spent, group: Group) -> str:
    match group:
        case "month":
            return month_of(spent.submitted_at)
        case "connection":
            return spent.connection or "unknown"
        case "model":
            return spent.model
        case "provider":
            return spent.provider
    try:
        task = task_of(spent)
    except UsageError:  # neither its label nor its claim names a task
        return "unknown"
    return {"dag": task.dag_id, "run": f"{task.dag_id}/{task.run_id}", "task": f"{task.dag_id}/{task.task_id}"}[group]
