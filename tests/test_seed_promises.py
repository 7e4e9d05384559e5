"""The index of the guide's promises: every row of the checklist has its test in `tests/seed`, named after the row."""

from __future__ import annotations

import ast
import re
from pathlib import Path

SEED = Path(__file__).parent / "seed"

ROWS = range(1, 68)
"""Rows of the checklist's first part: what the guide names."""
BROKEN = range(1, 14)
"""Rows of its second part: what the guide promises and its engine did not keep."""

_ROW = re.compile(r"test_(row|a2)_(\d\d)(?:_and_(\d\d))?_")


def promises() -> dict[tuple[str, int], list[ast.AsyncFunctionDef | ast.FunctionDef]]:
    """Part and row → the tests that bear its number."""
    found: dict[tuple[str, int], list[ast.AsyncFunctionDef | ast.FunctionDef]] = {}
    for file in sorted(SEED.glob("test_*.py")):
        for node in ast.parse(file.read_text("utf-8")).body:
            if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef) and (named := _ROW.match(node.name)):
                for number in filter(None, named.groups()[1:]):
                    found.setdefault((named[1], int(number)), []).append(node)
    return found


def test_every_row_of_the_checklist_has_a_test():
    """1 to 67 of what the guide names, and no number that the checklist does not have."""
    assert sorted(number for part, number in promises() if part == "row") == list(ROWS)


def test_every_promise_that_the_guides_engine_broke_has_a_test():
    """1 to 13."""
    assert sorted(number for part, number in promises() if part == "a2") == list(BROKEN)


def test_every_one_of_them_says_the_promise():
    """In a docstring, and asserts something."""
    for tests in promises().values():
        for test in tests:
            assert ast.get_docstring(test), test.name
            body = ast.unparse(test)
            assert "assert " in body or "pytest.raises" in body, test.name
