"""The price of a plan before anything is bought: all input of the first wave, and the longest output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.models import Cost, Manifest, Usage
from airflow_batch_provider.pricing import cost

if TYPE_CHECKING:
    from airflow_batch_provider.ledger import Plan


@dataclass(frozen=True)
class Estimate:
    """An upper bound for the first wave of a plan."""

    plan: Plan

    @property
    def usage(self) -> Usage:
        """Return all input, and for each answer as many tokens as it may have."""
        spec = self.plan.spec
        output = self.plan.requests * spec.max_tokens if spec.kind == "generate" else 0
        return Usage(input_tokens=self.plan.first.tokens, output_tokens=output)

    @property
    def cost(self) -> Cost:
        """Return the price; `usd` is None for a model that has no known one."""
        return cost(self.plan.provider, self.plan.spec.model, self.usage)

    def check(self, limit: float | None) -> None:
        """Refuse to spend more than the limit, in US dollars; None sets none.

        Raises:
            UsageError: the estimate is above the limit, or there is none.
        """
        if limit is None:
            return
        price, usage = self.cost.usd, self.usage
        if price is None:
            raise UsageError(
                f"Model {self.plan.spec.model!r} has no known price, so max_cost_usd={limit} cannot be held. Drop it."
            )
        if price > limit:
            raise UsageError(
                f"{self.plan.requests} requests may cost up to ${price:.4f} ({usage.input_tokens} tokens in, at most "
                f"{usage.output_tokens} out), more than max_cost_usd={limit}. Ask less, lower max_tokens or raise the limit."
            )

    def manifest(self, stage: str, result_format: Literal["jsonl", "parquet"]) -> Manifest:
        """Return the manifest of a dry run: nothing was bought, every row counts as missing."""
        return Manifest(
            stage=stage,
            provider=self.plan.provider,
            model=self.plan.spec.model,
            results="",
            format=result_format,
            requests=self.plan.requests,
            counts={"missing": self.plan.requests},
            usage=self.usage,
            cost=self.cost,
            waves=0,
            dry_run=True,
        )
