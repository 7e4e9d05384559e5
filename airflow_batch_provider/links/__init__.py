"""Links at a task instance in Airflow's UI: to its line on the page of batches, and to the provider's console."""

from __future__ import annotations

from airflow_batch_provider.links.batch import BatchLink, ConsoleLink

__all__ = ["BatchLink", "ConsoleLink"]
