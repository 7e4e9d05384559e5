"""The lists by which `make test` spreads its tests are those of the folder."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from scheduling import LONGEST, ONE_AIRFLOW, ONE_DATABASE

ROOT = Path(__file__).parents[1]
SHARES = re.compile(r"^def \w+\([^)]*\b(stack|finished)\b", re.MULTILINE)

RUNS_DAGS = re.compile(r"^(?:async )?def \w+\([^)]*\b(database|tested)\b", re.MULTILINE)


def test_whoever_asks_for_the_one_airflow_runs_where_it_is():
    """On the other process it would be started a second time."""
    files = sorted((ROOT / "tests/stack").glob("test_*.py"))
    asking = {path.relative_to(ROOT).as_posix() for path in files if SHARES.search(path.read_text(encoding="utf-8"))}

    assert asking == set(ONE_AIRFLOW)


def test_whoever_runs_dags_runs_where_airflows_database_is():
    """On another process a second one would be made."""
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if path.parent.name not in ("stack", "cluster")]
    running = [path for path in files if RUNS_DAGS.search(path.read_text(encoding="utf-8"))]

    assert running
    assert [path for path in running if not path.relative_to(ROOT).as_posix().startswith(ONE_DATABASE)] == []


def test_every_place_that_takes_long_is_there():
    """A file that was renamed would start last."""
    assert [place for place in LONGEST if not (ROOT / place).exists()] == []


def test_no_two_files_of_tests_have_one_name():
    """The folders have no `__init__.py`, so pytest would import both as one module, and collect neither."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))

    assert [name for name, files in names.items() if files > 1] == []
