"""The formats of result files, by the words that users write and by the endings of file names."""

from __future__ import annotations

from typing import Literal, get_args

ResultFormat = Literal[
    "jsonl", "jsonl.gz", "jsonl.zst", "csv", "csv.gz", "csv.zst", "tsv", "tsv.gz", "tsv.zst", "parquet"
]
RESULT_FORMATS: tuple[ResultFormat, ...] = get_args(ResultFormat)


def format_of(name: str) -> ResultFormat | None:
    """Return the format that the ending of a file's name says, None when it says none of them."""
    lower = name.lower()
    return next((one for one in RESULT_FORMATS if lower.endswith(f".{one}")), None)


def is_plain(result_format: ResultFormat) -> bool:
    """Tell whether a format knows only columns of text, so that its files are always tables."""
    return result_format.startswith(("csv", "tsv"))
