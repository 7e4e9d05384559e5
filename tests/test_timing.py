"""The waits of the package hang together: each relation is good for one promise."""

from __future__ import annotations

from datetime import timedelta

from airflow_batch_provider import timing
from airflow_batch_provider.stages.values import PRESETS


def test_a_woken_worker_takes_for_gone_what_woke_it():
    """Otherwise it would find nothing to do, suspend, and be woken again at once."""
    assert timing.WAKE_AFTER > timing.GONE_AFTER


def test_a_batch_is_gone_only_long_after_it_could_be_listed():
    """A list that lags is not a reason to buy again."""
    assert timing.GONE_AFTER >= 10 * timing.LIST_LAG


def test_the_last_search_comes_at_the_end_of_the_list_lag():
    """Searches are whole pauses apart, so none is left out."""
    assert timedelta(0) == timing.LIST_LAG % timing.SEARCH_PAUSE


def test_a_submit_lock_outlives_every_submit():
    """Retries and the search after a lost answer are done under it."""
    assert timing.LOCK_LEASE > timing.WORKER_RETRY_BUDGET + timing.LIST_LAG


def test_batches_settle_after_their_answers_can_have_appeared():
    """Rows that land at the deadline are not given up for being late."""
    assert timing.SETTLE > timing.RESULTS_LAG


def test_a_chunk_is_submitted_again_within_any_deadline():
    """A full queue costs time, never the task."""
    assert timing.RESUBMIT_DELAY < timing.LONGEST_RESUBMIT_DELAY < timing.LONGEST_WAIT
    assert all(preset.max_wait <= timing.LONGEST_WAIT for preset in PRESETS.values())


def test_the_lists_are_read_back_over_the_longest_batch():
    """Gemini's end after 48 hours at the latest."""
    assert timedelta(hours=48) + timing.CLOCK_SKEW < timing.LOOK_BACK


def test_the_trigger_tells_the_deadline_before_airflow_does():
    """Also one that waits out a fault or a check, and whose event is delayed: Airflow's time-out has no words of ours."""
    assert timing.EVENT_DELAY + timing.LONGEST_POLL_PAUSE + timing.CHECK_GRACE < timing.DEADLINE_MARGIN
