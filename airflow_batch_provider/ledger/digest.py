"""Why rows have no good answer, counted by reason; messages that differ only in ids, numbers or quotes are one reason."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_batch_provider.models import REFUSED, ErrorDigest, ErrorReason

if TYPE_CHECKING:
    from collections.abc import Iterable

_TOP_REASONS = 5
_SAMPLES = 3
# More kinds of reasons than this are counted together, so that hostile messages cannot fill the memory.
_MOST_REASONS = 1000
_LONGEST = 200

# Quoted values, and words with a digit in them: keys, ids, numbers.
_VARIES = re.compile(r"""(?<!\w)(?:'[^']*'|"[^"]*"|`[^`]*`)(?!\w)|(?<![\w.:-])(?=[^\W\d]*[.:\w-]*\d)[\w.:-]+""")


@dataclass
class Reasons:
    """Counts of reasons, of which the most frequent are told."""

    _found: dict[tuple[str, str], _Reason] = field(default_factory=dict)

    def add(self, code: str, message: str, custom_id: str) -> None:
        """Count one row; what a model said when it refused may repeat the prompt, and a digest goes to logs and XCom."""
        told = REFUSED if code == "refusal" else message[:_LONGEST]
        self._of(code, told).add(1, (custom_id,))

    def merge(self, digest: ErrorDigest) -> None:
        """Count the rows of a digest."""
        for reason in digest.reasons:
            self._of(reason.code, reason.message).add(reason.count, reason.sample)

    def digest(self, most: int = _TOP_REASONS) -> ErrorDigest:
        """Return the top reasons, most frequent first, each in the words of its first row."""
        top = sorted(self._found.items(), key=lambda item: -item[1].count)[:most]
        return _told(top)

    @property
    def whole(self) -> ErrorDigest:
        """Return all reasons in the order of their first rows, so that the parts of a task add up to what its rows tell."""
        return _told(self._found.items())

    def _of(self, code: str, message: str) -> _Reason:
        key = (code, _VARIES.sub("#", message))
        if key not in self._found and len(self._found) >= _MOST_REASONS:
            key, message = ("other", "further reasons"), "further reasons"
        return self._found.setdefault(key, _Reason(message))


@dataclass
class _Reason:
    message: str
    count: int = 0
    sample: list[str] = field(default_factory=list)

    def add(self, count: int, sample: tuple[str, ...]) -> None:
        self.count += count
        self.sample += sample[: _SAMPLES - len(self.sample)]


def _told(found: Iterable[tuple[tuple[str, str], _Reason]]) -> ErrorDigest:
    return ErrorDigest(
        reasons=tuple(
            ErrorReason(code=code, message=reason.message, count=reason.count, sample=tuple(reason.sample))
            for (code, _), reason in found
        )
    )
