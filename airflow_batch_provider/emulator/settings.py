"""What a user may change of the emulator: its pace, its limits, its keys."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

MIB = 1024 * 1024
DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How fast a batch moves: each phase lasts so many seconds, or so many looks at its status.

    A look is one status request; being in a list answer counts once per list request.
    """

    by: Literal["time", "looks"] = "time"
    pending: float = 1.0
    running: float = 4.0
    finalizing: float = 1.0
    settle: float = 2.0
    """How long a cancelled batch stays in its cancelling state."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The documented limits of the three services (2026-11); lower them to test what happens beyond."""

    anthropic_requests: int = 100_000
    anthropic_bytes: int = 256 * MIB
    openai_requests: int = 50_000
    openai_bytes: int = 200 * MIB
    openai_file_bytes: int = 512 * MIB
    openai_embedding_inputs: int = 50_000
    openai_enqueued_tokens: int | None = None
    google_jobs: int = 100
    google_inline_bytes: int = 20 * MIB
    google_file_bytes: int = 2048 * MIB
    google_enqueued_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings; each has a working default."""

    progress: Progress = field(default_factory=Progress)
    limits: Limits = field(default_factory=Limits)
    keys: frozenset[str] | None = None
    """The accepted API keys; None accepts every key but the word `invalid`."""
    seed: int = 0
    """Decides the order of results and which rows a ratio rule hits."""
    dimensions: int = 8
    """Length of an embedding when the request names none."""
    shuffle: bool = True
    """Whether Anthropic and OpenAI results come in another order than the requests."""
    separators: bool = False
    """Whether every answer carries raw U+2028, U+2029 and U+0085."""
    google_cancel_output: Literal["none", "partial"] = "none"
    anthropic_window: float = DAY
    openai_window: float = DAY
    google_window: float = 2 * DAY
    anthropic_retention: float = 29 * DAY
    """Seconds after creation until the results of an Anthropic batch are archived."""

    def changed(self, changes: Mapping[str, Any]) -> Settings:
        """These settings with some replaced; raises `ValueError` for a name or a type that does not exist."""
        changed: Settings = _changed(self, changes)
        return changed


def _changed(value: Any, changes: Mapping[str, Any]) -> Any:
    fields = {item.name for item in dataclasses.fields(value)}
    if unknown := sorted(set(changes) - fields):
        raise ValueError(f"No setting {unknown[0]!r}. Choose among: {', '.join(sorted(fields))}.")
    fitted = {name: _fitted(name, getattr(value, name), new) for name, new in changes.items()}
    return dataclasses.replace(value, **fitted)


_WORDS = {"by": ("time", "looks"), "google_cancel_output": ("none", "partial")}


def _fitted(name: str, old: object, new: Any) -> object:
    if isinstance(old, Progress | Limits) and isinstance(new, Mapping):
        return _changed(old, new)
    if name == "keys":
        return None if new is None else frozenset(map(str, new))
    if name in _WORDS and new not in _WORDS[name]:
        raise ValueError(f"Setting {name!r} is one of {', '.join(_WORDS[name])}, not {new!r}.")
    if not _alike(old, new):
        raise ValueError(f"Setting {name!r} is now {old!r} and cannot become {new!r}.")
    return new


def _alike(old: object, new: object) -> bool:
    if isinstance(old, bool) or isinstance(new, bool):
        return isinstance(old, bool) and isinstance(new, bool)
    if isinstance(old, int | float | None):
        return isinstance(new, int | float) or (old is None and new is None) or new is None
    return isinstance(new, type(old))
