"""What a suspended task waits for keeps one shape on its way through Airflow's database."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from fakes import START
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from airflow_batch_provider.ledger import Waiting

IDS = st.lists(st.text(min_size=1), max_size=3).map(tuple)
WAITINGS = st.builds(
    Waiting,
    batch_ids=IDS,
    queued=st.integers(0, 5),
    started_at=st.just(START),
    seen_at=st.just(START),
    resume_at=st.none() | st.timedeltas(timedelta(0), timedelta(days=3)).map(START.__add__),
    must_wait=st.booleans(),
    tentative=IDS,
    newest_at=st.none() | st.just(START),
)


@given(WAITINGS)
def test_it_comes_back_from_json_as_it_was(waiting):
    """Whatever ids a provider gives."""
    stored = json.loads(json.dumps(waiting.model_dump(mode="json")))

    assert Waiting.model_validate(stored) == waiting
    assert stored["batch_ids"] == list(waiting.batch_ids)  # Airflow's side shows them


@given(WAITINGS, st.integers(0, 3), st.timedeltas(timedelta(0), timedelta(days=4)))
def test_a_worker_is_woken_only_for_work(waiting, ended, later):
    """It is due, or may come back and a batch has ended that matters."""
    now = START + later
    due = waiting.resume_at is not None and now >= waiting.resume_at
    matters = bool(ended) and (waiting.queued > 0 or ended == len(waiting.batch_ids))

    assert waiting.wakes(ended, now) is (due or (matters and not waiting.must_wait))


def test_a_state_of_another_shape_is_refused():
    """A typing error in a key would be waited for until the deadline."""
    with pytest.raises(ValidationError):
        Waiting.model_validate({"batch_ids": [], "queued": 0, "started_at": START, "seen_at": START, "held": True})
