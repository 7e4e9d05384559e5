"""What the pages say is there: tests they name, files they link, code they show."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def functions(path):
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_a_page_names_exists(page):
    """A promise on a page points at the test that holds it."""
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"(tests/[\w/]+\.py)(?:::(\w+))?", text)
    named += [(file, name) for name, file in re.findall(r"\[(test_\w+)\]\((?:\.\./)?(tests/[\w/]+\.py)\)", text)]

    missing = [
        f"{file}::{name}"
        for file, name in named
        if not (ROOT / file).exists() or (name and name not in functions(ROOT / file))
    ]

    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page):
    """Relative links only; the network is not asked."""
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))

    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_has_a_merge_in_it(page):
    """Markers of a merge that was not finished."""
    lines = page.read_text(encoding="utf-8").splitlines()

    assert [line for line in lines if line.startswith(("<<<<<<<", ">>>>>>>"))] == []


def blocks():
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


def test_the_first_dag_of_the_readme_is_a_dag():
    """What a newcomer copies works."""
    names = {}
    exec(compile(blocks()[0], "README.md", "exec"), names)

    assert names["reviews"]().task_ids == ["classify"]


def test_every_python_block_of_the_readme_is_python():
    """Also the ones that only show a signature."""
    for block in blocks():
        ast.parse(block)


def test_the_readme_is_two_screens():
    """The rest has pages."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 100


# Pages of promises, with the rows that each has at least.
PROMISES = {"docs/money.md": 60, "SECURITY.md": 40}


@pytest.mark.parametrize("page", PROMISES)
def test_every_promise_about_money_and_safety_links_its_test(page):
    """No line of a table without one, but for its heading."""
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    heads = {above for above, below in pairwise(lines) if below.startswith("|---")}
    rows = [line for line in lines if line.startswith("| ") and line not in heads]

    assert len(rows) >= PROMISES[page]
    assert [line for line in rows if not re.search(r"\| \[test_\w+\]\((\.\./)?tests/[\w/]+\.py\) \|$", line)] == []


def test_the_page_names_the_public_names():
    """The table of the API boundary says what each package says of itself."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    table = re.findall(
        r"^\| `(\w+)` \| ((?:`\w+`(?:, )?)+) \|$", text.split("### API boundary")[1].split("##")[0], re.MULTILINE
    )
    named = {module: re.findall(r"`(\w+)`", names) for module, names in table}

    assert {"operators", "stages", "testing"} <= set(named)
    assert named == {module: import_module(f"airflow_batch_provider.{module}").__all__ for module in named}


# Folders whose modules stand in the map one by one; the others are one subject each.
MAPPED = ("", "fleet", "ledger", "providers", "stages")


def test_the_map_shows_every_module_and_no_other():
    """A newcomer finds each room, and no door leads nowhere."""
    package = ROOT / "airflow_batch_provider"
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    code_map = page.split("\n## Code map\n")[1].split("\n### ")[0]
    named = set(re.findall(r"(\w+)\.py\b", code_map))
    for group in re.findall(r"\{([\w,]+)\}\.py", code_map):
        named |= set(group.split(","))
    modules = {path.stem for folder in MAPPED for path in (package / folder).glob("*.py")}
    folders = {path.name for path in package.iterdir() if (path / "__init__.py").exists()}

    assert modules - named - {"__init__"} == set()
    assert named - {path.stem for path in package.rglob("*.py")} == set()
    assert {name for name in folders if f"{name}/" not in code_map} == set()
