"""What this package adds to Airflow's UI; Airflow finds it by the entry point `airflow.plugins`."""

from __future__ import annotations
