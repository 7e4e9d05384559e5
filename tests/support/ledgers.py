"""Ledgers made by hand, without a stage around them."""

from __future__ import annotations

from airflow_batch_provider.ledger import Policy


def policy_of(**policy):
    """The policy of one wave, with these changes."""
    plain = {
        "retry_rows": 0,
        "in_flight": None,
        "enqueued_tokens": None,
        "retry_truncated": False,
        "clean_up": True,
        "leave_running": False,
    }
    return Policy(**plain | policy)


def plan_of(ledger, *requests):
    """The plan of these requests, committed unless it was before."""
    while (plan := ledger.current_plan(requests)) is None:
        with ledger.draft(requests) as draft:
            if draft.commit():
                return draft.plan
    return plan
