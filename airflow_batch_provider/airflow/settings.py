"""The `[batch_provider]` section of Airflow's configuration."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

from airflow.configuration import AIRFLOW_HOME, conf

from airflow_batch_provider.budgets import ANY, MONTH_OPTION, RUN_OPTION, BudgetLimits
from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.stages.values import PollConfig

_SECTION = "batch_provider"


def chosen_storage_path() -> str:
    """Return the root of all stage storage as the configuration names it, a URI; "" where it names none."""
    configured: str = conf.get(_SECTION, "storage_path", fallback="")
    return configured.rstrip("/")


def storage_path() -> str:
    """Return the root of all stage storage, a URI; a folder below AIRFLOW_HOME where none is configured."""
    return chosen_storage_path() or Path(AIRFLOW_HOME, "batch_provider").resolve().as_uri()


def poll() -> PollConfig:
    """Return how tasks poll their batches unless they say so themselves.

    Raises:
        UsageError: the option names no preset.
    """
    return PollConfig.of(conf.get(_SECTION, "poll", fallback="") or "long")


def budgets() -> BudgetLimits:
    """Return what DAG runs and connections may cost.

    Raises:
        UsageError: an option cannot be read.
    """
    return BudgetLimits(run=_amounts(RUN_OPTION, "DAG"), month=_amounts(MONTH_OPTION, "connection"))


def _amounts(option: str, of: str) -> dict[str, Decimal]:
    text: str = conf.get(_SECTION, option, fallback="").strip()
    try:
        told = json.loads(text or "{}", parse_float=Decimal, parse_int=Decimal, parse_constant=str)
    except ValueError as error:
        raise _unreadable(option, of, f"{text!r} is not JSON ({error})") from None
    amounts = {ANY: told} if isinstance(told, Decimal) else told
    if not isinstance(amounts, dict) or not all(isinstance(usd, Decimal) and usd >= 0 for usd in amounts.values()):
        raise _unreadable(option, of, f"{text!r} holds what is not an amount of 0 or more")
    return amounts


def _unreadable(option: str, of: str, problem: str) -> UsageError:
    return UsageError(
        f"The option {option} of [{_SECTION}] cannot be read: {problem}. Write US dollars for each {of}, and * for any other: "
        '{"*": 50, "an_id": 200}; or one amount for all.'
    )


def row_cache() -> dict[str, Any]:
    """Return where answers are kept for later tasks and how old they may be, as `BatchConfig` has it; empty where nowhere.

    Raises:
        UsageError: `row_cache_days` is not a number.
    """
    uri: str = conf.get(_SECTION, "row_cache", fallback="")
    days: str = conf.get(_SECTION, "row_cache_days", fallback="") or "30"
    try:
        return {"row_cache": uri, "row_cache_days": float(days)} if uri else {}
    except ValueError:
        raise UsageError(f"[{_SECTION}] row_cache_days is {days!r}. Give a number of days.") from None


def base_url() -> str:
    """Return the address of Airflow's UI as people reach it; "/" where none is configured."""
    configured: str = conf.get("api", "base_url", fallback="")
    return configured or "/"
