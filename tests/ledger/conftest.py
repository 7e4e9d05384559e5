"""What several tests of the ledger ask for."""

from __future__ import annotations

import pytest
from ledgers import plan_of, policy_of
from upath import UPath

from airflow_batch_provider.ledger import Ledger, LedgerContext
from airflow_batch_provider.models import Spec
from airflow_batch_provider.registry import Registry
from airflow_batch_provider.storage import Directory


@pytest.fixture
def new_ledger(tmp_path, provider, clock):
    """Makes the ledger of a task without a plan: `new_ledger(skip_bad_rows=True)`."""

    def make(registry=None, row_cache=None, **policy):
        return Ledger(
            LedgerContext(
                root=Directory(UPath(tmp_path / "storage")),
                provider=provider,
                spec=Spec(model="m"),
                policy=policy_of(**policy),
                clock=clock,
                label="dag/run/task",
                attempt=1,
                registry=registry,
                row_cache=row_cache,
            )
        )

    return make


@pytest.fixture
def ledger(tmp_path, new_ledger):
    """Makes the ledger of a task with a registry, planned for three rows: `ledger(in_flight=1)`."""

    def make(**policy):
        registry = Registry(Directory(UPath(tmp_path / "registry")))
        planned = new_ledger(registry, **policy)
        plan_of(planned, "a", "b", "c")
        return planned, registry

    return make
