"""The settings of the emulator: its pace, its limits, its keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from airflow_batch_provider.emulator.instructions import Amount, Count, Instruction

MIB = 1024 * 1024
DAY = 86_400.0


class _Setting(Instruction):
    model_config = ConfigDict(frozen=True)
    field_word: ClassVar[str] = "setting"


class Progress(_Setting):
    """How fast a batch moves: each phase lasts so many seconds, or so many polls at its status.

    A poll is one status request; being in a list answer counts once per list request.
    """

    by: Literal["time", "polls"] = "time"
    pending: Amount = 1.0
    running: Amount = 4.0
    finalizing: Amount = 1.0
    settle: Amount = 2.0
    """How long a cancelled batch stays in its cancelling state."""


class Limits(_Setting):
    """The documented limits of the three services (2026-11); lower them to test what happens beyond."""

    anthropic_requests: Count = 100_000
    anthropic_bytes: Count = 256 * MIB
    openai_requests: Count = 50_000
    openai_bytes: Count = 200 * MIB
    openai_file_bytes: Count = 512 * MIB
    openai_embedding_inputs: Count = 50_000
    openai_enqueued_tokens: Count | None = None
    google_jobs: Count = 100
    google_inline_bytes: Count = 20 * MIB
    google_file_bytes: Count = 2048 * MIB
    google_enqueued_tokens: Count | None = None


class Settings(_Setting):
    """All settings; each has a working default."""

    progress: Progress = Progress()
    limits: Limits = Limits()
    keys: Annotated[frozenset[str] | None, Field(strict=False, repr=False)] = None
    """The accepted API keys; None accepts every key but the word `invalid`."""
    lenient: bool = False
    """Whether to take what the real services refuse: unknown models and parameters, schemas beyond their subsets."""
    models: Annotated[frozenset[str], Field(strict=False)] = frozenset()
    """Further names of models that exist, as shell patterns such as `ft-*`."""
    seed: int = 0
    """Decides the order of results and which rows a ratio rule hits."""
    dimensions: Annotated[int, Field(ge=1)] = 8
    """Length of an embedding when the request names none."""
    shuffle: bool = True
    """Whether Anthropic and OpenAI results come in another order than the requests."""
    separators: bool = False
    """Whether every answer carries raw U+2028, U+2029 and U+0085."""
    google_cancel_output: Literal["none", "partial"] = "none"
    anthropic_window: Amount = DAY
    openai_window: Amount = DAY
    google_window: Amount = 2 * DAY
    anthropic_retention: Amount = 29 * DAY
    """Seconds after creation until the results of an Anthropic batch are archived."""

    def changed(self, changes: Mapping[str, Any]) -> Settings:
        """Return these settings with some replaced; raise `ValueError` for a name or a type that does not exist."""
        return self.read(_merged(self.model_dump(), changes))


def _merged(old: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `old` with the changes laid over it, objects field by field."""
    merged = {**old, **changes}
    for name, new in changes.items():
        if isinstance(new, Mapping) and isinstance(kept := old.get(name), dict):
            merged[name] = {**kept, **new}
    return merged
