"""Airflow connections that lead to an emulator instead of the three providers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_batch_provider.emulator.server import EmulatorServer

KEY = "emulator-takes-any-key"


def addresses(emulator: EmulatorServer) -> dict[str, str]:
    """The emulator's address for each provider, by the word with which its connection type begins."""
    return {"anthropic": emulator.anthropic_url, "openai": emulator.openai_url, "gemini": emulator.google_url}


def to_emulator(emulator: EmulatorServer) -> dict[str, str]:
    """`anthropic_default`, `openai_default` and `gemini_default` as Airflow reads them from the environment."""
    console = f"{emulator.url}/#{{batch_id}}"
    return {
        f"AIRFLOW_CONN_{name.upper()}_DEFAULT": json.dumps(
            {"conn_type": f"{name}_batch", "host": host, "password": KEY, "extra": {"console": console}}
        )
        for name, host in addresses(emulator).items()
    }
