"""Commands for people: `airflow batches …`, or `python -m airflow_batch_provider batches …` before Airflow 3.2."""
