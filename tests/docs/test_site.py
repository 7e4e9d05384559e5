"""The site of documentation: what `make docs` builds, and that it refuses what would mislead a reader."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from links import broken_links
from pages import repository_pages, write_pages

from airflow_batch_provider.operators import BatchGenerateOperator

ROOT = Path(__file__).parents[2]
BUILDER = ROOT / "docs/builder/build_site.py"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built once; a page, docstring or link that is wrong fails here."""
    folder = tmp_path_factory.mktemp("docs")
    done = subprocess.run([sys.executable, BUILDER, folder], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


@pytest.mark.slow
def test_every_page_is_on_the_site_and_in_its_navigation(site):
    """Whoever writes a page sees that it can be found."""
    config = BUILDER.with_name("zensical.toml").read_text(encoding="utf-8")
    pages = {path.relative_to(site).with_suffix(".md").as_posix() for path in site.rglob("*.html")}
    written = {page for page in pages if not page.startswith("source/")} - {"404.md"}

    assert {page for page in written if f'"{page}"' not in config} == set()
    assert len(written) == len(repository_pages())


@pytest.mark.slow
def test_the_readme_is_the_first_page(site):
    """With its picture, and links to pages of the site instead of files."""
    page = (site / "index.html").read_text(encoding="utf-8")

    assert "half price, no worker held, paid once" in page
    assert 'src="images/page-light.png"' in page
    assert 'href="money.html"' in page


@pytest.mark.slow
def test_a_test_that_a_page_names_can_be_read_there(site):
    """Promises link the code that holds them."""
    page = (site / "source/tests/ledger/test_killed_anywhere.py.html").read_text(encoding="utf-8")

    assert "test_a_job_killed_anywhere_is_paid_once_and_whole" in page


@pytest.mark.slow
@pytest.mark.parametrize("module", ["operators", "sensors", "hooks", "stages", "client", "testing"])
def test_the_reference_has_every_public_name(site, module):
    """By its docstring, or in words."""
    page = (site / f"reference/{module}.html").read_text(encoding="utf-8")

    assert [name for name in import_module(f"airflow_batch_provider.{module}").__all__ if name not in page] == []


@pytest.mark.slow
def test_the_reference_names_every_argument_of_the_operator(site):
    """With its default, and what the docstring says of it."""
    page = (site / "reference/operators.html").read_text(encoding="utf-8")
    arguments = [
        name
        for name, parameter in inspect.signature(BatchGenerateOperator).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]

    assert [name for name in arguments if f"<code>{name}</code>" not in page] == []


def test_nothing_on_a_page_waits_to_be_made(tmp_path):
    """Each mark is replaced by tables of what the code defines now."""
    write_pages(tmp_path)
    text = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.md")}

    assert [name for name, page in text.items() if re.search(r"^<!-- made:", page, re.MULTILINE)] == []
    assert "AIRFLOW__BATCH_PROVIDER__STORAGE_PATH" in text["configuration.md"]
    assert "`extra.console`" in text["connections.md"]
    assert "airflow batches adopt TAG BATCH_ID" in text["commands.md"]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('<a href="gone.html">x</a>', "gone.html is not there"),
        ('<a href="#gone">x</a>', "#gone: the page has no such anchor"),
        ('<img src="https://example.com/x.png">', "loads https://example.com/x.png"),
    ],
)
def test_a_link_that_leads_nowhere_is_told(tmp_path, body, problem):
    """Also to an anchor; and no page asks another host for anything."""
    (tmp_path / "index.html").write_text(f"<html>{body}</html>")

    assert broken_links(tmp_path) == [f"index.html: {problem}"]
