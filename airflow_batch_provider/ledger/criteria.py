"""When a task has succeeded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from airflow_batch_provider.exceptions import RowsFailed, UsageError

if TYPE_CHECKING:
    from airflow_batch_provider.ledger.manifest import Outcome
    from airflow_batch_provider.ledger.records import Plan
    from airflow_batch_provider.models import Manifest


@dataclass(frozen=True)
class SuccessCriteria:
    """How many rows must have a good answer.

    Attributes:
        min_success_ratio: share of the rows that must have a good answer; one row always must.
        on_partial: `fail` asks for every row.
    """

    min_success_ratio: float
    on_partial: Literal["succeed", "fail"]

    @property
    def ratio(self) -> float:
        """Return the share that is really asked for."""
        return 1.0 if self.on_partial == "fail" else self.min_success_ratio

    def are_met(self, manifest: Manifest) -> bool:
        """Tell whether enough rows have a good answer; an input without rows asks for none."""
        good = manifest.counts["succeeded"]
        return not manifest.requests or (good > 0 and good >= self.ratio * manifest.requests)

    def check_possible(self, plan: Plan) -> None:
        """Raise before anything is bought when too few rows can be asked.

        Raises:
            UsageError: the skipped rows alone make the task fail.
        """
        asked = plan.requests - plan.skipped
        if asked and asked < self.ratio * plan.requests:
            raise UsageError(
                f"Only {asked} of {plan.requests} rows can be asked, less than {self} asks for. Fix the others, set "
                "on_bad_row='fail' to be told what is wrong with them, or ask for less."
            )

    def check(self, outcome: Outcome) -> None:
        """Raise when too few rows have a good answer.

        Raises:
            RowsFailed: none has, or fewer than asked for.
        """
        manifest = outcome.manifest
        if self.are_met(manifest):
            return
        good = manifest.counts["succeeded"]
        fact = (
            f"Only {good} of {manifest.requests} requests succeeded, less than {self} asks for"
            if good
            else f"All batch requests failed: none of {manifest.requests} has an answer"
        )
        withheld = f" {manifest.withheld}" if manifest.withheld else ""
        raise RowsFailed(
            f"{fact}.{withheld} All rows are in {manifest.results}; a retry asks only the rest. Reasons: {manifest.errors.in_one_line}",
            digest=manifest.errors,
            retryable=outcome.open_rows > 0 and not manifest.withheld,
        )

    def __str__(self) -> str:
        """Write the criteria as the user did."""
        return "on_partial='fail'" if self.on_partial == "fail" else f"min_success_ratio={self.min_success_ratio}"
