"""The claims on one batch, one file each, none of which is ever changed: the last one counts.

A worker takes a claim, takes one over or withdraws one by making the next file, which only one worker can. So one that
slept between a look and a write finds that it was overtaken, instead of undoing what its successor wrote.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_batch_provider.ledger.records import Claim
from airflow_batch_provider.records import load

if TYPE_CHECKING:
    from airflow_batch_provider.storage import Directory


class ClaimLog:
    """The claims under one name, `NNNNN.claim.json`, `NNNNN.claim-1.json` and so on.

    Args:
        name: what the names of the batch's files begin with.
    """

    def __init__(self, directory: Directory, name: str) -> None:
        self._directory = directory
        self._name = name
        self._pattern = re.compile(rf"{re.escape(name)}\.claim(?:-(\d+))?\.json")

    def last(self) -> Claim | None:
        """The claim that counts, None when there is none or it was withdrawn."""
        number = max(self._numbers(), default=None)
        last = None if number is None else load(self._directory, self._file(number), Claim)
        return None if last is None or last.withdrawn else last

    def next(self) -> int:
        """Number of the claim that comes after all that there are."""
        return max(self._numbers(), default=-1) + 1

    def add(self, claim: Claim) -> bool:
        """Write a claim under its number; False when another worker was first."""
        return self._directory.create(self._file(claim.number), claim.model_dump_json().encode())

    def withdraw(self, claim: Claim) -> bool:
        """Say that nothing was bought under this claim; False when it does not count any more."""
        return self.add(claim.model_copy(update={"number": claim.number + 1, "withdrawn": True}))

    def is_last(self, claim: Claim) -> bool:
        """True while no other one followed, and nobody started the files over."""
        mine = load(self._directory, self._file(claim.number), Claim)
        return mine == claim and not self._directory.exists(self._file(claim.number + 1))

    def _numbers(self) -> list[int]:
        found = (self._pattern.fullmatch(name) for name in self._directory.names())
        return [int(match[1] or 0) for match in found if match]

    def _file(self, number: int) -> str:
        return f"{self._name}.claim{f'-{number}' if number else ''}.json"
