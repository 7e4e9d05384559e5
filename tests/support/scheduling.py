"""Which process of `make test` runs which tests: those of one real Airflow on one, those of DAGs on one, the longest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from xdist.scheduler import LoadFileScheduling

if TYPE_CHECKING:
    from xdist.remote import Producer

# They share an Airflow, whose start takes half a minute of both processors.
# Those of runs that take a while come after those that look at the page meanwhile.
ONE_AIRFLOW = (
    "tests/stack/test_page.py",
    "tests/stack/test_connection_forms.py",
    "tests/stack/test_signals_of_airflow.py",
    "tests/stack/test_example_dags.py",
    "tests/stack/test_kills.py",
)
# They run DAGs in their own process (the fixtures `database` and `tested`), the first of which costs it ten seconds of a
# processor: Airflow's database, its API and all it imports. So one process runs them all.
ONE_DATABASE = (
    "tests/docs/test_examples.py",
    "tests/cli/",
    "tests/operators/test_batches.py",
    "tests/operators/test_files_anywhere.py",
    "tests/operators/test_last_line.py",
    "tests/operators/test_many_machines.py",
    "tests/operators/test_operators.py",
    "tests/operators/test_pools.py",
    "tests/operators/test_tables_page.py",
    "tests/operators/test_templates.py",
    "tests/airflow/test_notifiers.py",
    "tests/airflow/test_signals_received.py",
)
# Places whose tests take longest, first those that mostly wait; a process that begins one of them last ends alone.
LONGEST = (
    *ONE_AIRFLOW,
    *ONE_DATABASE,
    "tests/stack/",
    "tests/ledger/test_killed_on_any_storage.py",
    "tests/docs/",
    "tests/operators/",
    "tests/test_results.py",
    "tests/money/",
    "tests/ledger/test_killed_anywhere.py",
    "tests/client/test_client_killed_anywhere.py",
)


class OneAirflow(LoadFileScheduling):
    """Tests of a file stay together, as do all that share an Airflow or a database; they start in the order of collection."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(ONE_AIRFLOW):
            return "one Airflow"
        return "one database" if nodeid.startswith(ONE_DATABASE) else str(super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OneAirflow:
    """Replace xdist's own order, by number of tests: one of a real Airflow takes longer than hundreds of others."""
    config.option.loadscopereorder = False
    return OneAirflow(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    return next((at for at, place in enumerate(LONGEST) if item.nodeid.startswith(place)), len(LONGEST))
