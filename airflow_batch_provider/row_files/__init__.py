"""Files of rows, streamed: JSONL, JSON, CSV, TSV or Parquet, one file, a folder or a glob."""

from __future__ import annotations

from airflow_batch_provider.row_files.arrow_values import records
from airflow_batch_provider.row_files.csv_rows import LONGEST_CELL
from airflow_batch_provider.row_files.file import RowFile, in_blocks, partitions_of
from airflow_batch_provider.row_files.parquet_rows import batches_of, open_parquet, parquet_records
from airflow_batch_provider.row_files.reading import READ, blocks_in, files_at

__all__ = [
    "LONGEST_CELL",
    "READ",
    "RowFile",
    "batches_of",
    "blocks_in",
    "files_at",
    "in_blocks",
    "open_parquet",
    "parquet_records",
    "partitions_of",
    "records",
]
