"""The connection forms, written once: declared for Airflow 3.2 and later, and as form widgets for 3.1."""

from __future__ import annotations

from typing import Any, TypedDict


class Field(TypedDict):
    """One field of `extra`: its label, and the JSON schema that the form checks it by."""

    label: str
    description: str
    schema: dict[str, Any]


_TIMEOUT: Field = {
    "label": "Timeout (seconds)",
    "description": "Seconds without a byte after which a call is given up; 120 by default.",
    "schema": {"type": ["number", "null"], "exclusiveMinimum": 0},
}
_PRICES: Field = {
    "label": "Prices",
    "description": (
        "Custom prices by model, US dollars per million tokens in a batch: "
        '{"my-model": {"input": 0.25, "output": 1.5}}.'
    ),
    "schema": {"type": ["object", "null"]},
}
_CONSOLE: Field = {
    "label": "Console",
    "description": (
        "Where base URL is your own server: the page on which people see a batch; {batch_id} stands for its id. "
        "The provider's console by default."
    ),
    "schema": {"type": ["string", "null"], "pattern": "^https?://"},
}
_PLACES: Field = {
    "label": "Batches in flight",
    "description": "Most batches of all tasks at the provider at once, for each model; the others wait in the order of asking.",
    "schema": {"type": ["number", "null"], "minimum": 1},
}
_TOKENS: Field = {
    "label": "Enqueued tokens",
    "description": (
        "Most estimated input tokens of those batches: a number, or one by model as an object in the extra, "
        '{"my-model": 5000000}.'
    ),
    "schema": {"type": ["number", "object", "null"], "minimum": 1},
}
_LIMITS = {"max_in_flight": _PLACES, "max_enqueued_tokens": _TOKENS}
_OPENAI: dict[str, Field] = {
    "api": {
        "label": "API for text",
        "description": "The endpoint that text requests are sent to in batches.",
        "schema": {"type": ["string", "null"], "enum": ["chat", "responses"]},
    },
    "organization": {
        "label": "Organization",
        "description": "Sent as OpenAI-Organization.",
        "schema": {"type": ["string", "null"]},
    },
    "project": {
        "label": "Project",
        "description": "Sent as OpenAI-Project.",
        "schema": {"type": ["string", "null"]},
    },
}

FIELDS: dict[str, dict[str, Field]] = {
    "anthropic_batch": {"console": _CONSOLE, **_LIMITS, "prices": _PRICES, "timeout": _TIMEOUT},
    "openai_batch": {**_OPENAI, "console": _CONSOLE, **_LIMITS, "prices": _PRICES, "timeout": _TIMEOUT},
    "gemini_batch": {"console": _CONSOLE, **_LIMITS, "prices": _PRICES, "timeout": _TIMEOUT},
}

_ADDRESSES = {
    "anthropic_batch": "https://api.anthropic.com",
    "openai_batch": "https://api.openai.com/v1",
    "gemini_batch": "https://generativelanguage.googleapis.com",
}


def field_behaviour(conn_type: str) -> dict[str, Any]:
    """Which of Airflow's own fields the form shows, in the spelling of provider info.

    The port is shown although a base URL may hold one: without a stored port, the *Test* button of Airflow 3.3.2 is refused.
    """
    return {
        "hidden-fields": ["schema", "login"],
        "relabeling": {"password": "API key", "host": "Base URL"},
        "placeholders": {"host": _ADDRESSES[conn_type], "password": "", "port": "443"},
    }


def legacy_behaviour(conn_type: str) -> dict[str, Any]:
    """The same in the spelling that hooks use."""
    return {key.replace("-", "_"): value for key, value in field_behaviour(conn_type).items()}


def widgets(conn_type: str) -> dict[str, Any]:
    """The fields of `extra` as WTForms fields; WTForms is only there where a form is shown."""
    from wtforms import FloatField, StringField  # type: ignore[import-untyped]  # noqa: PLC0415
    from wtforms.validators import Optional  # type: ignore[import-untyped]  # noqa: PLC0415

    kinds = {"number": FloatField, "string": StringField, "object": StringField}
    return {
        name: kinds[field["schema"]["type"][0]](
            label=field["label"], description=field["description"], validators=[Optional()]
        )
        for name, field in FIELDS[conn_type].items()
    }
