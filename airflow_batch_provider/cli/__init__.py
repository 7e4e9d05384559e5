"""Commands for people: `airflow batches …`, or `python -m airflow_batch_provider batches …` before Airflow 3.2.

Public are the commands, their arguments, exit codes and JSON; the modules are not.
"""
