"""Polls batches for everybody in a process who waits: one poller per connection, whose sweeps answer all of them."""

from __future__ import annotations

from airflow_batch_provider.polling.connection import Connection
from airflow_batch_provider.polling.poller import Poller
from airflow_batch_provider.polling.subscription import Subscription

__all__ = ["Connection", "Poller", "Subscription"]
