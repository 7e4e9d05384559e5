"""Airflow's database, and `dag.test()` over it."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from airflow_batch_provider import hub

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="session")
def database() -> None:
    """Airflow's database, made once."""
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True)


@dataclass(frozen=True)
class TestRun:
    """What became of a DAG that `dag.test()` ran in this process."""

    __test__ = False

    run: Any
    log: str

    def states(self) -> dict[tuple[str, int], str]:
        return {(ti.task_id, ti.map_index): str(ti.state) for ti in self.run.get_task_instances()}

    def state(self, task_id: str, map_index: int = -1) -> str:
        return self.states()[task_id, map_index]

    def xcom(self, task_id: str, map_index: int = -1, key: str = "return_value") -> Any:
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session

        with create_session() as session:
            query = XComModel.get_many(
                run_id=self.run.run_id, key=key, task_ids=task_id, dag_ids=self.run.dag_id, map_indexes=map_index
            )
            found = session.scalars(query).first()
            if found is None:
                return None
            return json.loads(found.value) if isinstance(found.value, str) else found.value


@pytest.fixture
def tested(
    database: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[Any], TestRun]:
    """Runs a DAG by `dag.test()`: worker, trigger and resumed worker in this process, over Airflow's own machinery."""
    monkeypatch.setenv("AIRFLOW__BATCH_PROVIDER__STORAGE_PATH", (tmp_path / "batches").as_uri())
    monkeypatch.setattr(hub, "WINDOW", 0.0)  # tasks run one by one, so that no neighbour's poll is worth half a second

    def run(dag: Any) -> TestRun:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Airflow's own machinery warns about itself; the DAG was made before
            _register(dag)
            done = dag.test()
            return TestRun(done, capsys.readouterr().out)

    return run


def _register(dag: Any) -> None:
    """`dag.test` runs a serialised DAG of a known bundle only."""
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.serialization.definitions.dag import SerializedDAG
    from airflow.serialization.serialized_objects import LazyDeserializedDAG
    from airflow.utils.session import create_session

    with create_session() as session:
        session.merge(DagBundleModel(name="tests"))
        session.flush()
        lazy = LazyDeserializedDAG.from_dag(dag)
        SerializedDAG.bulk_write_to_db("tests", None, [lazy], session=session)
        SerializedDagModel.write_dag(lazy, bundle_name="tests", session=session)
