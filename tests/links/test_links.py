"""The links at a task instance: one to the page, and one to the provider's console for each of a few batches."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from airflow.sdk.execution_time.xcom import XCom
from hypothesis import given
from hypothesis import strategies as st

from airflow_batch_provider.links import CONSOLE_LINKS
from airflow_batch_provider.links.batch import consoles_of
from airflow_batch_provider.operators import BatchGenerateOperator

KEY = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=None)


def batch(number):
    return {"batch_id": f"b{number}", "url": f"https://console.example/{number}"}


@pytest.mark.parametrize(
    ("record", "shown"),
    [
        ({"batches": [batch(1)]}, [1]),
        ({"batches": [batch(1), batch(2)], "landed": [batch(3), batch(4)]}, [1, 2, 4, 3]),
        ({"batches": [batch(number) for number in range(9)]}, [0, 1, 2, 3]),
        ({"landed": [batch(1), batch(2)]}, [2, 1]),
        ({"batches": [batch(1), batch(1)]}, [1]),  # a console of one's own that has one page for all
        ({"batches": [{"batch_id": "b", "url": None}, batch(2)]}, [2]),
        (None, []),
    ],
)
def test_each_of_the_first_batches_has_a_link_and_the_other_links_lead_nowhere(monkeypatch, record, shown):
    """Airflow shows no button for an empty address."""
    monkeypatch.setattr(XCom, "get_one", lambda **_: record)

    found = [link.get_link(None, ti_key=KEY) for link in CONSOLE_LINKS]

    assert found == [*(f"https://console.example/{number}" for number in shown), *[""] * (4 - len(shown))]


def test_the_record_is_read_once_each_time_that_airflow_asks_for_the_links(monkeypatch):
    """Each worker that lets go of a task asks for all of them, by calls of Airflow's API."""
    records = [{"batches": [batch(1), batch(2)]}, {"batches": [batch(3)]}]
    monkeypatch.setattr(XCom, "get_one", lambda **_: records.pop(0))

    asked = [[link.get_link(None, ti_key=KEY).rpartition("/")[2] for link in CONSOLE_LINKS] for _ in range(2)]

    assert asked == [["1", "2", "", ""], ["3", "", "", ""]]


def test_a_link_never_shows_the_batch_of_another_task(monkeypatch):
    """Whichever of them is asked for first."""
    monkeypatch.setattr(
        XCom, "get_one", lambda **task: {"batches": [{"url": f"https://{task['task_id']}/{n}"} for n in "12"]}
    )
    keys = [SimpleNamespace(dag_id="d", run_id="r", task_id=name, map_index=None) for name in ("one", "other")]

    assert [CONSOLE_LINKS[1].get_link(None, ti_key=key) for key in keys] == ["https://one/2", "https://other/2"]


def test_every_link_has_a_name_and_an_xcom_of_its_own():
    """Airflow keeps them by both, from when the DAG is parsed."""
    links = BatchGenerateOperator(task_id="t", model="claude-x", requests=["x"]).operator_extra_links

    assert [link.name for link in links] == [
        "Batch", "Provider console", "Provider console 2", "Provider console 3", "Provider console 4",
    ]  # fmt: skip
    assert len({link.xcom_key for link in links}) == 5


@given(st.recursive(st.none() | st.integers() | st.text(), lambda deeper: st.lists(deeper) | st.dictionaries(
    st.sampled_from(["batches", "landed", "url", "x"]), deeper)))  # fmt: skip
def test_a_record_of_any_shape_names_only_addresses_of_the_web(record):
    """A task may push what it likes under the name; Airflow's finalizers must not fail by it."""
    assert all(url.startswith(("https://", "http://")) for url in consoles_of(record))
