"""Ask a language model millions of things, in batch, from Apache Airflow."""

__version__ = "0.1.0"
