"""Rows as a command prints them: Airflow's own tables for people, JSON and YAML with their types for programs."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

from airflow.cli.simple_table import AirflowConsole
from airflow.utils import yaml
from airflow.utils.platform import is_tty
from rich.markup import escape

from airflow_batch_provider.amounts import digits

if TYPE_CHECKING:
    from collections.abc import Sequence

# A table that is piped or stored is not folded.
_UNFOLDED = 10_000


def rendered(rows: Sequence[dict[str, Any]], output: str, nothing: str) -> str:
    """Return rows as text.

    Args:
        output: `table`, `json`, `yaml` or `plain`.
        nothing: the sentence for people when there are no rows.
    """
    if output == "json":
        return json.dumps(rows, indent=2)
    if output == "yaml":
        text: str = yaml.dump(list(rows))
        return text.rstrip("\n")
    if not rows:
        return nothing
    shown = [{name: _cell(value, output) for name, value in row.items()} for row in rows]
    if output == "plain":
        return _plain(shown)
    with redirect_stdout(io.StringIO()) as printed:
        console = AirflowConsole()
        if not is_tty():
            console.width = _UNFOLDED
        console.print_as(data=shown, output=output)
    return "\n".join(line.rstrip() for line in printed.getvalue().splitlines() if line.strip())


def _plain(rows: Sequence[dict[str, str]]) -> str:
    """Return a line for the names and one for each row; Airflow's own reads texts as numbers: an id `12e3` becomes `12000`."""
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def clean(value: object) -> str:
    """Return text that comes from a provider or from files without what would steer the terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in str(value))


def _cell(value: object, output: str) -> str:
    if isinstance(value, list):
        value = ", ".join(map(str, value)) or None
    elif isinstance(value, float):
        value = digits(value)  # an amount of cents has no exponent for people
    text = "-" if value is None else clean(value)
    return escape(text) if output == "table" else text
