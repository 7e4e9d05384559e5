"""The batch APIs of Anthropic, OpenAI and Gemini on one loopback port: to try DAGs and to test them, without key or cost.

    python -m airflow_batch_provider.emulator                       # http://127.0.0.1:8765

Point a connection's host at it; any password will do (`invalid` is refused with 401):

    AIRFLOW_CONN_ANTHROPIC_DEFAULT='{"conn_type": "anthropic_batch", "password": "any", "host": "http://127.0.0.1:8765"}'
    AIRFLOW_CONN_OPENAI_DEFAULT='{"conn_type": "openai_batch", "password": "any", "host": "http://127.0.0.1:8765/v1"}'
    AIRFLOW_CONN_GEMINI_DEFAULT='{"conn_type": "gemini_batch", "password": "any", "host": "http://127.0.0.1:8765"}'

In a test: `with EmulatorServer() as server: AsyncOpenAI(base_url=server.openai_url, api_key="any")`, or the pytest
fixture `batch_emulator`. The prefixes `/anthropic`, `/openai` (so `/openai/v1`) and `/google` serve the same APIs.

What the real services refuse is refused here, in their words: models and parameters that they do not know, schemas outside
their subsets of JSON Schema, tools and thinking budgets that a model does not take. `--lenient` takes them all; the
setting `models` names further models, as shell patterns.

A prompt may hold markers that decide the fate of its row, `[[emulate:error=overloaded,times=1]]`:

    error=KIND     overloaded rate_limit api server timeout unavailable invalid_request authentication billing permission
                   not_found too_large; OpenAI also quota content_filter, Gemini also quota
    refusal  truncated  bad_json  bad_schema  empty  tool_use  expired  cancelled     what the row becomes
    missing  duplicate  copies=N  stranger                  its result line is lost, repeated, joined by a foreign one
    separators  pad=N                                       raw U+2028, U+2029 and U+0085; N more characters
    cached=N  reasoning=N                                   tokens that were read from a cache, or thought
    times=N                                                 only the first N askings of the same prompt; then it heals

Control routes, JSON in and out (GET shows what holds; POST instructions; DELETE on the first two forgets). Bound to this
machine, they answer only to its own names, 127.0.0.1 and localhost, and never to requests from a page of another site:

    /emulator/faults     {"route": "anthropic.create", "kind": "cut", "when": "after", "times": 1}   (GET lists the kinds)
    /emulator/rules      {"do": "error=overloaded", "keys": "a-*", "ratio": 0.1, "times": 1}
    /emulator/clock      {"advance": 3600}
    /emulator/settings   {"progress": {"by": "polls", "running": 2}, "limits": {"anthropic_requests": 3}}
    /emulator/books      every batch, prompt and call: what was bought, and whether twice
    /emulator/reset      forget all but clock and settings
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_batch_provider.emulator.clock import Clock
    from airflow_batch_provider.emulator.core import Emulator
    from airflow_batch_provider.emulator.server import EmulatorServer
    from airflow_batch_provider.emulator.settings import Limits, Progress, Settings

__all__ = ["Clock", "Emulator", "EmulatorServer", "Limits", "Progress", "Settings"]

_HOMES = {
    "Clock": "clock", "Emulator": "core", "EmulatorServer": "server", "Limits": "settings", "Progress": "settings",
    "Settings": "settings",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import on use: a pytest plugin loads this package in every test run."""
    from importlib import import_module  # noqa: PLC0415

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
