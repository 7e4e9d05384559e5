"""What Parquet files are made of."""

from __future__ import annotations

import pyarrow.parquet as pq


def group_sizes(file):
    """Return how many rows each row group has."""
    table = pq.ParquetFile(file).metadata
    return [table.row_group(number).num_rows for number in range(table.num_row_groups)]
