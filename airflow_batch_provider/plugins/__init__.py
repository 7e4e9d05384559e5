"""Additions to Airflow's UI; Airflow finds them by the entry point `airflow.plugins`."""

from __future__ import annotations
