"""The soak itself, in short: a few fixed rounds balance, a round is repeated exactly, and broken code is found."""

from __future__ import annotations

import pytest
from soak import report, soak
from soak_round import play
from soak_script import draw

from airflow_batch_provider.ledger import submit

SEED = "short"
ROUNDS = 9


@pytest.fixture
def dangerous_storage():
    """A round sees to it itself."""


@pytest.mark.sweep
@pytest.mark.parametrize("number", range(ROUNDS))
def test_the_books_of_a_round_balance(number, sweep):
    """Whatever fails, dies, is cleared or runs twice in it."""
    if number not in sweep.of(range(ROUNDS), 1):
        pytest.skip("not in today's sample")

    played = play(draw(SEED, number))

    assert not played.problems, report(played, SEED, number)


def test_a_round_is_played_again_exactly():
    """What was logged at which second shows who went first."""
    once, again = (play(draw(SEED, 3)) for _ in range(2))

    assert once.books == again.books
    assert [line.split("/batches/")[-1] for line in once.diary] == [line.split("/batches/")[-1] for line in again.diary]


def test_code_that_pays_twice_is_found(monkeypatch):
    """A claim without a receipt is bought again: the report names the row, the seed and the way to see it again."""

    async def buy(self, claim):
        return await self._take_and_send(self._handle.succession(claim), lost=claim)

    async def nothing(_self, _claim):
        return None

    monkeypatch.setattr(submit._Submission, "_reconcile", buy)
    monkeypatch.setattr(submit._Submission, "_search", nothing)
    said = []

    failed = soak(SEED, minutes=5, say=said.append)

    assert failed is not None
    assert any("was bought 2 times" in problem for problem in failed.problems)
    assert f"make soak SEED={SEED} ROUND=" in said[-1]
