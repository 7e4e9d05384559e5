"""The price of a plan before anything is bought: all input of the first wave, and the longest output."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from airflow_batch_provider.amounts import digits, dollars
from airflow_batch_provider.exceptions import OverBudget
from airflow_batch_provider.ledger import known_price
from airflow_batch_provider.models import Manifest
from airflow_batch_provider.stages.summary import number_of, price_of

if TYPE_CHECKING:
    from airflow_batch_provider.formats import ResultFormat
    from airflow_batch_provider.ledger import Plan
    from airflow_batch_provider.pricing import Forecast


@dataclass(frozen=True)
class Estimate:
    """The price of the first wave of a plan."""

    plan: Plan
    expected: Forecast

    def check(self, limit: float | None, spent: Decimal = Decimal(0)) -> None:
        """Refuse to spend more than the limit, in US dollars; None sets none.

        Args:
            spent: on earlier requests of the task; US dollars.

        Raises:
            OverBudget: the estimate is above the limit, or leaves something out.
        """
        if limit is None or not self.plan.first.requests:
            return
        price, usage = known_price(self.expected, f"max_cost_usd={digits(limit)}"), self.expected.usage
        if price + spent > Decimal(str(limit)):
            before = f" with the {dollars(spent)} that earlier requests of the task have cost" if spent else ""
            raise OverBudget(
                f"{self.plan.first.requests} requests may cost up to {dollars(price)} ({usage.input_tokens} tokens in, at most "
                f"{usage.output_tokens} out),{before} more than max_cost_usd={digits(limit)}. Ask less, lower max_tokens or raise the "
                "limit."
            )

    def __str__(self) -> str:
        """Return what is asked and what it may cost, in one sentence."""
        plan, usage = self.plan, self.expected.usage
        out = f", at most {usage.output_tokens:,} out" if usage.output_tokens else ""
        batches = number_of(len(plan.first.chunks), "batch", "batches")
        asked = number_of(plan.first.requests, "request", "requests")
        skipped = f" ({number_of(plan.skipped, 'row', 'rows')} skipped as bad)" if plan.skipped else ""
        same = f" ({number_of(plan.copies, 'row asks', 'rows ask')} the same as another)" if plan.copies else ""
        if plan.cached:
            same += f" ({number_of(plan.cached, 'row is', 'rows are')} in the row cache)"
        first = number_of(plan.first.canary, "row is", "rows are")
        how = ", in realtime" if plan.first.chunks and plan.first.chunks[0].realtime else ""
        canary = f" The first {first} asked alone, as a canary{how}." if plan.first.canary else ""
        price = self.expected.cost
        may_cost = (
            "whose price is not known" if price.usd is None else f"for at most {price_of(price)} in the first wave"
        )
        return (
            f"{asked}{skipped}{same} to {plan.provider} {plan.spec.model} in {batches}: about "
            f"{usage.input_tokens:,} tokens in{out}, {may_cost}.{canary}"
        )

    def manifest(self, stage: str, result_format: ResultFormat) -> Manifest:
        """Return the manifest of a dry run: nothing was bought, every row that can be asked counts as missing."""
        return Manifest(
            stage=stage,
            provider=self.plan.provider,
            model=self.plan.spec.model,
            results="",
            format=result_format,
            requests=self.plan.requests,
            counts={"missing": self.plan.requests - self.plan.skipped - self.plan.cached}
            | ({"succeeded": self.plan.cached} if self.plan.cached else {})
            | ({"failed": self.plan.skipped} if self.plan.skipped else {}),
            copies=self.plan.copies,
            cached=self.plan.cached,
            usage=self.expected.usage,
            cost=self.expected.cost,
            waves=0,
            dry_run=True,
        )
