"""Links at a task instance in Airflow's UI: to its line on the page of batches, and to the provider's console."""

from __future__ import annotations

from airflow_batch_provider.links.batch import CONSOLE_LINKS, BatchLink, ConsoleLink

__all__ = ["CONSOLE_LINKS", "BatchLink", "ConsoleLink"]
