"""The names of part files: the same ones whenever a result is written again."""

from __future__ import annotations

import re

from airflow_batch_provider.formats import RESULT_FORMATS, ResultFormat

_PART = re.compile(rf"part-\d{{5,}}\.({'|'.join(map(re.escape, RESULT_FORMATS))})")


def part_name(number: int, result_format: ResultFormat) -> str:
    """Return the name of a part file, from 0; names in order are parts in order up to 100,000 of them."""
    return f"part-{number:05d}.{result_format}"


def is_part(name: str) -> bool:
    """Tell whether a file is named as ours are."""
    return _PART.fullmatch(name) is not None
