"""`@task.batch_generate` and `@task.batch_embed`: public by these names only, which Airflow finds in provider info."""

from __future__ import annotations
