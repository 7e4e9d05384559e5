"""A DAG whose signals are on, run by `dag.test()` in a process of its own, as Airflow reads its settings when it starts.

    python observed_dag.py SOURCE RESULTS

One line that it writes begins with `OBSERVED` and is JSON: states of the tasks, extras of the asset events.
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta

from airflow.models.asset import AssetEvent
from airflow.sdk import DAG, Asset
from airflow.utils.session import create_session
from dag_runs import _register
from opentelemetry import metrics
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from sqlalchemy import select

from airflow_batch_provider.operators import BatchGenerateOperator
from airflow_batch_provider.stages import PollConfig

SOON = PollConfig(interval=timedelta(seconds=1), max_wait=timedelta(minutes=20), first_poll=timedelta(0))
LABELS = Asset(name="labels", uri="file:///labels")


def observed(source: str, results: str) -> DAG:
    with DAG("observed", schedule=None) as dag:
        BatchGenerateOperator(
            task_id="ask",
            model="claude-sonnet-4-5",
            source=source,
            prompt="Secret question: {text}",
            key="id",
            result_path=results,
            poll=SOON,
            outlets=[LABELS],
        )
    return dag


def main() -> None:
    # The deployment's own counters; Airflow's metrics go to statsd.
    metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())]))
    dag = observed(*sys.argv[1:])
    _register(dag)
    run = dag.test()
    metrics.get_meter_provider().force_flush()
    states = {ti.task_id: str(ti.state) for ti in run.get_task_instances()}
    with create_session() as session:
        extras = list(session.scalars(select(AssetEvent.extra).where(AssetEvent.source_run_id == run.run_id)))
    sys.stdout.write("\nOBSERVED " + json.dumps({"states": states, "extras": extras}) + "\n")


if __name__ == "__main__":
    main()
