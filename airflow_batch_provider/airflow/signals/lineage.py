"""OpenLineage: the datasets that a task reads and writes, and what it used; only where Airflow's provider for it is installed.

Dataset names follow OpenLineage's naming page (`spec/Naming.md`, 2026-10): the namespace is the store, the name the path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import unquote, urlsplit

from airflow_batch_provider.airflow.signals.metrics import tokens
from airflow_batch_provider.airflow.signals.table import FACET

if TYPE_CHECKING:
    from airflow_batch_provider.models import Manifest

_SCHEMA = "urn:airflow-batch-provider:facet:1-0-0:BatchUsageRunFacet"
_MOST_BATCHES = 100

# Azure's own addresses name the container before the account, which then belongs to the namespace.
_AZURE = frozenset({"abfs", "abfss", "wasb", "wasbs"})


def lineage(source: str | None, manifest: Manifest | None) -> Any:
    """Return an `OperatorLineage`; None where OpenLineage is not installed.

    Args:
        source: URI of the rows, None where they come from the DAG.
        manifest: of a task that has ended; None before.
    """
    try:
        from airflow.providers.openlineage.extractors import OperatorLineage  # noqa: PLC0415 — an extra
    except ImportError:
        return None
    return OperatorLineage(
        inputs=_inputs(source, manifest), outputs=_outputs(manifest), run_facets=_run_facets(manifest)
    )


def dataset_name(uri: str) -> tuple[str, str]:
    """Return a dataset's namespace and name; the connection that Airflow puts into an address is not part of it.

    `s3://conn@bucket/a.csv` is `s3://bucket`, `a.csv`; `abfss://container@account.dfs.core.windows.net/a.csv` keeps its container;
    a local path is `file`, `/path`.
    """
    parts = urlsplit(uri)
    if parts.scheme in ("", "file"):
        return "file", unquote(parts.path) if parts.scheme else uri
    *_, before, store = ["", *parts.netloc.split("@")]
    if before and parts.scheme in _AZURE and "." in store:
        store = f"{before}@{store}"
    return f"{parts.scheme}://{store}", parts.path.lstrip("/") or "/"


def _inputs(source: str | None, manifest: Manifest | None) -> list[Any]:
    if source is None:
        return []
    from openlineage.client.event_v2 import InputDataset  # noqa: PLC0415
    from openlineage.client.facet_v2 import input_statistics_input_dataset  # noqa: PLC0415

    facet = input_statistics_input_dataset.InputStatisticsInputDatasetFacet
    namespace, name = dataset_name(source)
    facets: dict[str, Any] = {"inputStatistics": facet(rowCount=manifest.requests)} if manifest else {}
    return [InputDataset(namespace=namespace, name=name, inputFacets=facets)]


def _outputs(manifest: Manifest | None) -> list[Any]:
    if manifest is None or manifest.dry_run:
        return []
    from openlineage.client.event_v2 import OutputDataset  # noqa: PLC0415
    from openlineage.client.facet_v2 import output_statistics_output_dataset  # noqa: PLC0415

    facet = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet
    namespace, name = dataset_name(manifest.results)
    return [
        OutputDataset(
            namespace=namespace, name=name, outputFacets={"outputStatistics": facet(rowCount=manifest.requests)}
        )
    ]


def _run_facets(manifest: Manifest | None) -> dict[str, Any]:
    if manifest is None:
        return {}
    from openlineage.client.facet_v2 import external_query_run  # noqa: PLC0415

    facets: dict[str, Any] = {FACET: _usage_facet(manifest)}
    if len(manifest.batches) == 1:
        facets["externalQuery"] = external_query_run.ExternalQueryRunFacet(
            externalQueryId=manifest.batches[0], source=manifest.provider
        )
    return facets


def _usage_facet(manifest: Manifest) -> Any:
    from openlineage.client.facet_v2 import RunFacet  # noqa: PLC0415

    class BatchUsageRunFacet(RunFacet):
        # Airflow's secrets masker takes every name with "token" in it for a secret.
        _additional_skip_redact: ClassVar[list[str]] = ["tokens"]

        @staticmethod
        def _get_schema() -> str:
            return _SCHEMA

    values = {
        "provider": manifest.provider,
        "model": manifest.model,
        "requests": manifest.requests,
        "rows": dict(manifest.counts),
        "tokens": tokens(manifest.usage),
        "costUsd": manifest.cost.usd,
        "savedUsd": manifest.cost.saved_usd,
        "currency": manifest.cost.currency,
        "isEstimated": manifest.cost.estimated or manifest.dry_run,
        "waves": manifest.waves,
        "batches": list(manifest.batches[:_MOST_BATCHES]),
    }
    return BatchUsageRunFacet().with_additional_properties(**values)
