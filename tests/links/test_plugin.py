"""What Airflow is told of the page and of the tab, by its version, and how much a browser loads for them."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

import airflow_batch_provider.operators as of_operators
import airflow_batch_provider.plugins
from airflow_batch_provider.decorators.batch import _EmbedDecorated, _GenerateDecorated
from airflow_batch_provider.links.page import has_page, has_tab
from airflow_batch_provider.operators.base import StageOperator
from airflow_batch_provider.plugins.batches import OPERATORS, TAB, LlmBatchesPlugin
from airflow_batch_provider.sensors import BatchSensor

WWW = Path(airflow_batch_provider.plugins.__file__).with_name("www")
KB = 1024
_IMPORT = re.compile(r'from "\./([\w.]+)"')


def loaded_by(name: str, seen: set[str] | None = None) -> set[str]:
    """A script and all that it imports."""
    seen = set() if seen is None else seen
    if name not in seen:
        seen.add(name)
        for other in _IMPORT.findall((WWW / name).read_text(encoding="utf-8")):
            loaded_by(other, seen)
    return seen


@pytest.mark.parametrize(("entry", "most"), [("main.js", 50 * KB), ("tab.js", 10 * KB)])
def test_a_browser_loads_little(entry, most):
    """As one gzipped bundle; React, the router and the colours are Airflow's own."""
    whole = b"".join((WWW / name).read_bytes() for name in sorted(loaded_by(entry)))

    assert len(gzip.compress(whole, 9)) <= most


def test_every_script_is_loaded_by_page_or_tab_and_imports_only_its_neighbours():
    """Nothing comes from another host, and nothing lies about unused."""
    scripts = {path.name for path in WWW.glob("*.js")}

    assert loaded_by("main.js") | loaded_by("tab.js") == scripts
    for name in scripts:
        assert not re.findall(r'(?:from|import\()\s*"(?!\./)', (WWW / name).read_text(encoding="utf-8")), name


@pytest.mark.parametrize(
    ("airflow", "page", "tab"), [("3.1.8", 0, 0), ("3.2.2", 0, 0), ("3.3.2", 1, 0), ("3.4.0", 1, 1), ("4.0.0rc1", 1, 1)]
)
def test_what_is_too_old_is_offered_nothing_that_it_would_show_broken(airflow, page, tab):
    """A tab that is shown at every task, or an entry that leads nowhere."""
    assert (has_page(airflow), has_tab(airflow)) == (bool(page), bool(tab))


def test_the_plugin_offers_what_this_airflow_can_show():
    """One entry with a script and a label of its own for each; Airflow's loader keeps components by their labels."""
    assert len(LlmBatchesPlugin.react_apps) == has_page() + has_tab()
    for app in (*LlmBatchesPlugin.react_apps, TAB):
        script = (WWW / app["bundle_url"].rpartition("/")[2]).read_text(encoding="utf-8")
        assert f'globalThis["{app["name"]}"] = ' in script


def test_the_tab_is_at_tasks_of_every_operator_that_buys():
    """By the name that Airflow shows: the class, or the decorator."""
    operators = [getattr(of_operators, name) for name in of_operators.__all__]
    ours = {one.__name__ for one in (*operators, BatchSensor) if issubclass(one, StageOperator)}
    decorated = {one.custom_operator_name for one in (_GenerateDecorated, _EmbedDecorated)}

    assert set(OPERATORS) == ours | decorated
    assert TAB["applies_to"] == {"operator_name": list(OPERATORS)}
