"""One task instance's record: what was asked, claimed, submitted, landed and paid."""

from __future__ import annotations

from airflow_batch_provider.ledger.context import LedgerContext, Policy
from airflow_batch_provider.ledger.criteria import SuccessCriteria
from airflow_batch_provider.ledger.final_files import Target
from airflow_batch_provider.ledger.landed import LandedBatch, LandedRows, landed_so_far
from airflow_batch_provider.ledger.ledger import Ledger
from airflow_batch_provider.ledger.limit import known_price
from airflow_batch_provider.ledger.manifest import Outcome
from airflow_batch_provider.ledger.plan import Draft
from airflow_batch_provider.ledger.records import Plan, Receipt, Wave
from airflow_batch_provider.ledger.retry import RetryBudget
from airflow_batch_provider.ledger.waiting import Waiting

__all__ = [
    "Draft",
    "LandedBatch",
    "LandedRows",
    "Ledger",
    "LedgerContext",
    "Outcome",
    "Plan",
    "Policy",
    "Receipt",
    "RetryBudget",
    "SuccessCriteria",
    "Target",
    "Waiting",
    "Wave",
    "known_price",
    "landed_so_far",
]
