"""The commands about money: what batches have cost, and the end of those that are not wanted any more."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_batch_provider import loop
from airflow_batch_provider.airflow.dag_groups import dag_groups
from airflow_batch_provider.airflow.deployment import open_deployment
from airflow_batch_provider.airflow.task_state import ask_database
from airflow_batch_provider.cli.answer import DECIDE, FINE, Answer, account_of, command
from airflow_batch_provider.cli.output import rendered
from airflow_batch_provider.clock import Clock
from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.fleet.cancel import Canceller
from airflow_batch_provider.fleet.costs import dag_of, sum_of, sums_by
from airflow_batch_provider.providers import connected
from airflow_batch_provider.spending import month_of

if TYPE_CHECKING:
    from argparse import Namespace
    from datetime import datetime

    from airflow_batch_provider.fleet.cancel import Cancellation
    from airflow_batch_provider.fleet.deployment import Deployment
    from airflow_batch_provider.models import Account

_FOR_PROGRAMS = ("json", "yaml")


@command
def cost_batches(arguments: Namespace) -> Answer:
    """Sum what landed batches have cost."""
    deployment = open_deployment(arguments.storage_path)
    start = _start(arguments.since)
    if arguments.by == "budget":
        return Answer(
            FINE,
            rendered(_budgets(deployment, start), arguments.output, "No budget is set, or nothing counts for one."),
        )
    spent = list(deployment.registry.spending.since(start))
    dags = {dag for one in spent if (dag := dag_of(one))}
    sums = sums_by(spent, arguments.by, dag_groups(arguments.by, dags) if arguments.by in ("tag", "team") else {})
    if len(sums) > 1 and arguments.output not in _FOR_PROGRAMS:
        sums.append(sum_of("total", spent))
    rows = [{arguments.by: one.group, **one.model_dump(mode="json", exclude={"group"})} for one in sums]
    since = "" if start is None else f" since {start:%Y-%m-%d}"
    open_now = len(deployment.registry.tags())
    if open_now:
        print(f"{open_now} open or claimed: what they cost is known when they have landed.", file=sys.stderr)
    return Answer(FINE, rendered(rows, arguments.output, f"No batch has landed{since}."))


def _budgets(deployment: Deployment, start: datetime | None) -> list[dict[str, Any]]:
    """Return a row for each budget, amounts in US dollars."""
    book = deployment.registry.budgets
    rows = []
    for budget in book.all(month_of(start) if start else None):
        use = book.use(budget)
        amounts = {"limit": budget.limit, "spent": use.all_spent, "open": use.all_reserved, "left": use.left_of(budget)}
        rows.append({"budget": budget.name, **{f"{name}_usd": float(usd) for name, usd in amounts.items()}})
    return rows


def _start(since: datetime | timedelta | None) -> datetime | None:
    return Clock().now() - since if isinstance(since, timedelta) else since


@command
def cancel_batches(arguments: Namespace) -> Answer:
    """Cancel the open batches of a run's task, after a person agreed."""
    deployment = open_deployment(arguments.storage_path)
    canceller = Canceller(deployment, ask_database, even_if_waiting=arguments.even_if_waiting)
    entries = canceller.entries(arguments.dag_id, arguments.run_id, arguments.task_id, arguments.map_index)
    planned = canceller.plan(entries)
    wanted = [one for one in planned if one.action == "cancel"]
    if wanted and not arguments.yes and not _agreed(planned, len(wanted)):
        return Answer(DECIDE, "Nothing was cancelled.")
    by_tag = {entry.tag: entry for entry in entries}
    accounts = [account_of(by_tag[one.tag], deployment, arguments) for one in wanted]
    done = [one for one in planned if one.action == "skip"] + loop.run(_cancel(canceller, wanted, accounts))
    left = any(one.action != "cancelled" for one in done)
    return Answer(DECIDE if left else FINE, rendered(_rows(done), arguments.output, "No batch of it is open."))


def _rows(cancellations: list[Cancellation]) -> list[dict[str, Any]]:
    return [one.model_dump(mode="json") for one in cancellations]


def _agreed(planned: list[Cancellation], number: int) -> bool:
    """Ask the person at the terminal."""
    print(rendered(_rows(planned), "table", ""), file=sys.stderr)
    try:
        answer = input(f"Cancel {number} at the provider? (y/n) ")
    except EOFError:
        raise UsageError("Nobody is here to agree, so nothing was cancelled. Add --yes.") from None
    return answer.strip().lower() in ("y", "yes")


async def _cancel(canceller: Canceller, planned: list[Cancellation], accounts: list[Account]) -> list[Cancellation]:
    async with connected(accounts) as providers:
        return [await canceller.cancel(one, provider) for one, provider in zip(planned, providers, strict=True)]
