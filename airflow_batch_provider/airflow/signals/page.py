"""The page `docs/signals.md`, whose tables are made of `table.py`: `python -m airflow_batch_provider.airflow.signals.page PAGE`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_batch_provider.airflow.signals import table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_batch_provider.airflow.signals.table import Fact


def made(page: str) -> str:
    """Return the page with every table as `table.py` has it now."""
    found = re.sub(
        r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)",
        lambda marks: f"{marks[1]}{_TABLES[marks[2]]}{marks[3]}",
        page,
        flags=re.DOTALL,
    )
    missing = [name for name in _TABLES if f"<!-- table: {name} -->" not in page]
    if missing:
        raise ValueError(
            f"No place for the tables {', '.join(missing)}. Add <!-- table: NAME --> and <!-- end --> to it."
        )
    return found


def _markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _facts(facts: Iterable[Fact], head: str) -> str:
    return _markdown((head, ""), ((_name(fact.name), fact.meaning) for fact in facts))


def _name(name: str) -> str:
    return name if " " in name else f"`{name}`"


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


_TABLES = {
    "metrics": _markdown(
        ("metric", "kind", "unit", "tags", ""),
        ((f"`{one.name}`", one.kind, one.unit, _names(one.tags), one.meaning) for one in table.METRICS),
    ),
    "counters": _markdown(("counter, unit `{token}`", ""), ((f"`{one.name}`", one.meaning) for one in table.COUNTERS)),
    "spans": _markdown(
        ("span", "attributes", ""), ((f"`{one.name}`", _names(one.attributes), one.meaning) for one in table.SPANS)
    ),
    "lineage": _facts(table.LINEAGE, "OpenLineage"),
    "assets": _facts(table.ASSET_EXTRA, "key of `extra`"),
    "notifiers": _facts(table.NOTIFIERS, "argument"),
    "notice": _facts(table.NOTICE, "in the context"),
}


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(made(path.read_text(encoding="utf-8")), encoding="utf-8")
