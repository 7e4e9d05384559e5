"""Return values of the guide's code, in our shapes: dicts instead of values, camelCase, and milliseconds under its own names."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

# Names of the guide on the left; its numbers are milliseconds.
_STATE = {"batch_id": "batch_id", "submitted_at": "submitted_at", "metadata": "metadata"}
_TIMES = {"poll_interval": "interval", "max_wait_time": "max_wait"}
_SUSPENDED = {
    "state": "state",
    "poll_config": "poll",
    "poll": "poll",
    "custom_metrics": "metrics",
    "metrics": "metrics",
}
_CAPITAL = re.compile(r"(?<=[a-z0-9])([A-Z])")


def snake_keys(given: Any) -> Any:
    """Return a dict with its own keys in snake_case; anything else as it is."""
    if not isinstance(given, dict):
        return given
    return {_CAPITAL.sub(r"_\1", key).lower() if isinstance(key, str) else key: value for key, value in given.items()}


def state_fields(given: Any) -> Any:
    """Return the fields of a `SuspendedState` from the guide's; its times belong to the poll."""
    fields = snake_keys(given)
    if not isinstance(fields, dict):
        return given
    found = {_STATE.get(name, name): value for name, value in fields.items() if name not in _TIMES}
    return {name: value for name, value in found.items() if name != "metadata" or value is not None}


def poll_fields(given: Any) -> Any:
    """Return the fields of a `PollConfig` from the guide's `{pollInterval, maxWaitTime}`."""
    fields = snake_keys(given)
    if not isinstance(fields, dict):
        return given
    return {_TIMES.get(name, name): milliseconds(value) if name in _TIMES else value for name, value in fields.items()}


def suspended_fields(given: Any) -> Any:
    """Return the fields of a `Suspended` from the guide's `{suspended: true, state, pollConfig, customMetrics}`."""
    fields = snake_keys(given)
    if not isinstance(fields, dict):
        return given
    fields = {_SUSPENDED.get(name, name): value for name, value in fields.items() if name != "suspended"}
    fields = {name: value for name, value in fields.items() if value is not None or name not in {"metrics", "poll"}}
    state, poll = snake_keys(fields.get("state")), poll_fields(fields.get("poll"))
    if isinstance(poll, dict) and "next_poll_at" in poll:
        poll["first_poll"] = _between(poll.pop("next_poll_at"), state)
    if poll is None and isinstance(state, dict) and _TIMES.keys() <= state.keys():
        poll = poll_fields({name: state[name] for name in _TIMES})
    return fields | ({} if poll is None else {"poll": poll})


def milliseconds(value: Any) -> Any:
    """Return a number of milliseconds as a time; anything else as it is, for whoever checks it."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    try:
        return timedelta(milliseconds=value)
    except (ValueError, OverflowError):
        return value


def _between(moment: Any, state: Any) -> timedelta | None:
    """Return the time from the submission to the first poll; None where one of them cannot be read."""
    begin = state.get("submitted_at") if isinstance(state, dict) else getattr(state, "submitted_at", None)
    try:
        first, last = (datetime.fromisoformat(str(value)) for value in (begin, moment))
        return max(last - first, timedelta(0))
    except (TypeError, ValueError):
        return None
