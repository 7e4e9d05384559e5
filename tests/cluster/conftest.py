"""One cluster for all tests of this folder; they disturb all of it, so they run one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cluster import Cluster, missing
from needed import not_here
from scenes import SLOW_MACHINE

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents and "cluster" in getattr(item, "fixturenames", ()):
            for mark in (pytest.mark.airflow, pytest.mark.slow, pytest.mark.timeout(3600 * SLOW_MACHINE)):
                item.add_marker(mark)


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if needed := missing():
        not_here(f"A cluster needs {', '.join(needed)}.")
    with Cluster(tmp_path_factory.mktemp("cluster"), HERE / "dags") as running:
        yield running
