"""Budgets of one deployment: the most that a DAG run, or a connection in a calendar month, may cost.

A budget has a folder, and each batch that counts for it an empty file there, whose name is the batch's tag with an amount:
reserved before it is bought, spent once it has landed, which then counts alone. So one listing tells what is left, however many
batches there are, and a worker that dies writes the same names again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING
from urllib.parse import unquote

from pydantic import Field

from airflow_batch_provider.amounts import dollars
from airflow_batch_provider.folders import folder_name
from airflow_batch_provider.frozen import FrozenModel
from airflow_batch_provider.spending import month_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from airflow_batch_provider.models import TaskKey
    from airflow_batch_provider.storage import Directory

ANY = "*"
"""Stands for each DAG, or connection, that has no amount of its own."""

RUN_OPTION, MONTH_OPTION = "run_budgets", "monthly_budgets"
_RESERVED, _SPENT = "reserved", "spent"
_COUNTED = re.compile(rf"([a-z0-9-]{{1,40}})=(\d+(?:\.\d+)?)\.({_RESERVED}|{_SPENT})")


class BudgetLimits(FrozenModel):
    """The amounts that a deployment has set, US dollars.

    Attributes:
        run: DAG id → the most that all tasks of one of its runs may cost.
        month: connection id → the most that it may cost in a calendar month, UTC.
    """

    run: dict[str, Decimal] = Field(default_factory=dict)
    month: dict[str, Decimal] = Field(default_factory=dict)


NO_LIMITS = BudgetLimits()


@dataclass(frozen=True, kw_only=True)
class Budget:
    """One DAG run, or one connection in one month, with an amount that it may cost.

    Attributes:
        folder: of its files, below the book's.
        limit: US dollars.
        option: of Airflow's configuration, where the amount is set.
    """

    folder: str
    limit: Decimal
    option: str
    name: str

    def __str__(self) -> str:
        """Return the amount, whose it is and where it is set, as a part of a sentence."""
        return f"budget of {dollars(self.limit)} for {self.name} ([batch_provider] {self.option})"

    def file(self, tag: str, usd: Decimal) -> str:
        """Return the name of the file that reserves an amount for a batch."""
        return f"{self.folder}/{_counted(tag, usd, _RESERVED)}"


@dataclass
class BudgetUse:
    """What counts for a budget.

    Attributes:
        spent: tag of a batch that has landed → what it cost, US dollars.
        reserved: tag of a batch that has not → the most that it may cost.
    """

    spent: dict[str, Decimal] = field(default_factory=dict)
    reserved: dict[str, Decimal] = field(default_factory=dict)

    @classmethod
    def of(cls, names: Iterable[str], *, without: str | None = None) -> BudgetUse:
        """Read the names of a budget's files.

        Args:
            without: tag of a batch that is left out.
        """
        use = cls()
        for tag, usd, kind in (match.groups() for match in map(_COUNTED.fullmatch, names) if match):
            amounts = use.spent if kind == _SPENT else use.reserved
            # Of two amounts for one batch, written before and after a price changed, the higher counts.
            if tag != without:
                amounts[tag] = max(Decimal(usd), amounts.get(tag, Decimal(0)))
        use.reserved = {tag: usd for tag, usd in use.reserved.items() if tag not in use.spent}
        return use

    @property
    def total(self) -> Decimal:
        """Return US dollars, spent and reserved."""
        return self.all_spent + self.all_reserved

    def left_of(self, budget: Budget) -> Decimal:
        """Return US dollars that may still be spent; never less than nothing."""
        return max(budget.limit - self.total, Decimal(0))

    @property
    def all_spent(self) -> Decimal:
        """Return the sum of what landed batches cost."""
        return sum(self.spent.values(), Decimal(0))

    @property
    def all_reserved(self) -> Decimal:
        """Return the sum of what other batches may cost."""
        return sum(self.reserved.values(), Decimal(0))


class BudgetBook:
    """The budgets of one deployment, as one task sees them.

    Args:
        directory: shared by all workers.
        task: whose batches count; None where nothing is bought.
    """

    def __init__(self, directory: Directory, limits: BudgetLimits = NO_LIMITS, task: TaskKey | None = None) -> None:
        self._directory = directory
        self._limits = limits
        self._task = task

    def that_limit(self, connection: str | None, moment: datetime) -> tuple[Budget, ...]:
        """Return the budgets that a batch of this connection must keep to, if it is bought at this moment."""
        run = self._run_budget(folder_name(self._task.dag_id), folder_name(self._task.run_id)) if self._task else None
        month = self._month_budget(month_of(moment), folder_name(connection)) if connection else None
        return tuple(budget for budget in (run, month) if budget)

    def all(self, since: str | None = None) -> list[Budget]:
        """Return every budget with a limit for which anything was ever counted, runs first.

        Args:
            since: the first month to tell, `2026-11`; None tells all.
        """
        runs = (self._run_budget(dag, run) for dag, run in self._below("run"))
        months = (self._month_budget(month, name) for month, name in self._below("month") if month >= (since or ""))
        return [budget for budget in (*runs, *months) if budget]

    def use(self, budget: Budget, *, without: str | None = None) -> BudgetUse:
        """Return what counts for a budget; see `BudgetUse.of`."""
        return BudgetUse.of(self._directory.names(budget.folder), without=without)

    def reserve(self, names: Iterable[str]) -> None:
        """Let these files count."""
        for name in names:
            self._directory.write(name, b"")

    def free(self, names: Iterable[str]) -> None:
        """Let these files count no more: nothing was bought."""
        for name in names:
            self._directory.delete(name)

    def reserved_at(self, budget: Budget, tag: str, usd: Decimal) -> datetime | None:
        """Return when an amount was reserved, by the clock of the filesystem; None when it no longer is."""
        try:
            return self._directory.modified(budget.file(tag, usd))
        except FileNotFoundError:
            return None

    def settle(self, tag: str, connection: str | None, submitted_at: datetime, usd: Decimal) -> None:
        """Count what a landed batch has cost, whether or not there is a limit now; the same again changes nothing."""
        folders = [f"month/{month_of(submitted_at)}/{folder_name(connection)}"] if connection else []
        if self._task is not None:
            folders.append(f"run/{folder_name(self._task.dag_id)}/{folder_name(self._task.run_id)}")
        for folder in folders:
            self._directory.write(f"{folder}/{_counted(tag, usd, _SPENT)}", b"")

    def forget_run(self, dag_folder: str, run_folder: str) -> None:
        """Delete what counts for a run, of which nothing is left; the folders are those of its stage storage."""
        self._directory.delete(f"run/{dag_folder}/{run_folder}")

    def _below(self, kind: str) -> list[tuple[str, str]]:
        return [
            (above, name) for above in self._directory.names(kind) for name in self._directory.names(f"{kind}/{above}")
        ]

    def _run_budget(self, dag: str, run: str) -> Budget | None:
        name = f"run {unquote(run)!r} of DAG {unquote(dag)!r}"
        return _budget(f"run/{dag}/{run}", self._limits.run, unquote(dag), RUN_OPTION, name)

    def _month_budget(self, month: str, connection: str) -> Budget | None:
        name = f"connection {unquote(connection)!r} in {month}"
        return _budget(f"month/{month}/{connection}", self._limits.month, unquote(connection), MONTH_OPTION, name)


def _budget(folder: str, limits: dict[str, Decimal], owner: str, option: str, name: str) -> Budget | None:
    """Return the budget of a DAG or a connection, None where it has no amount."""
    limit = limits.get(owner, limits.get(ANY))
    return None if limit is None else Budget(folder=folder, limit=limit, option=option, name=name)


def _counted(tag: str, usd: Decimal, kind: str) -> str:
    return f"{tag}={usd:f}.{kind}"
