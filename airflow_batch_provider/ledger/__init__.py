"""The record of what was asked, claimed, submitted, landed and paid."""

from __future__ import annotations

from airflow_batch_provider.ledger.finish import Outcome, Standard, Target, finish, judge, note_unmet, seal, sealed
from airflow_batch_provider.ledger.ledger import Ledger, Waiting
from airflow_batch_provider.ledger.patience import Patience
from airflow_batch_provider.ledger.records import Plan, Wave
from airflow_batch_provider.ledger.work import Policy, Work
from airflow_batch_provider.registry import Registry

__all__ = [
    "Ledger",
    "Outcome",
    "Patience",
    "Plan",
    "Policy",
    "Registry",
    "Standard",
    "Target",
    "Waiting",
    "Wave",
    "Work",
    "finish",
    "judge",
    "note_unmet",
    "seal",
    "sealed",
]
