"""A long soak of the money protocol: rounds of random tasks, faults, kills and clears, and the books balanced after each.

    make soak                       ten minutes from a seed of its own, which it prints
    make soak SEED=7 SOAK_MINUTES=480
    make soak SEED=7 ROUND=42       that round only, as it was

A round is drawn from seed and number, and played in virtual time on one thread: the same code plays it the same way, also
who goes first. Code that makes one call more or less lets another worker go first from there on.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from random import SystemRandom

PROVIDERS = ("ANTHROPIC_", "OPENAI_", "GEMINI_", "GOOGLE_")
PROGRESS = 10.0
"""Seconds between two lines."""

if __name__ == "__main__":  # under pytest, tests/conftest.py has seen to both
    os.environ["AIRFLOW_HOME"] = HOME = tempfile.mkdtemp(prefix="soak-airflow-")
    for variable in [name for name in os.environ if name.startswith(PROVIDERS)]:
        del os.environ[variable]

from soak_round import play  # noqa: E402
from soak_script import draw  # noqa: E402

SUMS = ("rows", "kills", "faults", "tokens", "dollars", "unresolved", "resolved")


def soak(seed, minutes, say, watch=time.monotonic):
    """Play rounds until the time is up or the books do not balance; the failed round, None when there is none."""
    began = told = watch()
    sums = Counter()
    number = 0
    while watch() - began < 60 * minutes:
        played = play(draw(seed, number))
        sums.update({name: getattr(played, name) for name in SUMS})
        if played.problems:
            say(report(played, seed, number))
            return played
        number += 1
        if watch() - told >= PROGRESS:
            told = watch()
            say(f"{told - began:6.0f} s  {number} rounds, {_summed(sums)}")
    say(f"All books balance: seed {seed}, {number} rounds, {_summed(sums)}.")
    return None


def _summed(sums):
    questions = f"{sums['unresolved']} stopped with a question, {sums['resolved']} answers by a person"
    money = f"{sums['tokens']} tokens for US$ {sums['dollars']:.4f}"
    return f"{sums['rows']} rows, {sums['kills']} kills, {sums['faults']} faults, {questions}, {money}"


def report(played, seed, number):
    """All that is known of a round."""
    return "\n".join(
        [
            f"== round {number} of seed {seed} was:",
            str(played.script),
            "== what became of the tasks",
            *played.ends,
            "== the provider's books",
            *played.books,
            "== what was logged, by the seconds of the round",
            *played.diary,
            "== WRONG",
            *played.problems,
            f"== again: make soak SEED={seed} ROUND={number}",
        ]
    )


def main():
    """As the Makefile says."""
    seed = os.environ.get("SEED") or str(SystemRandom().randrange(10**6))
    if number := os.environ.get("ROUND"):
        played = play(draw(seed, int(number)))
        _print(report(played, seed, number))
        return bool(played.problems)
    _print(f"seed {seed}")
    return soak(seed, float(os.environ.get("SOAK_MINUTES") or 10), _print) is not None


def _print(text):
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:
        shutil.rmtree(HOME, ignore_errors=True)
