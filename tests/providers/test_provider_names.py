"""Models and providers by their names."""

from __future__ import annotations

import pytest

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.providers import provider_class, split_model


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("claude-sonnet-4-5", ("anthropic", "claude-sonnet-4-5")),
        ("openai:my-own", ("openai", "my-own")),
        ("gemini-2.5-flash", ("google", "gemini-2.5-flash")),
        ("models/gemini-2.5-flash", ("google", "gemini-2.5-flash")),
        ("google:models/gemini-2.5-flash", ("google", "gemini-2.5-flash")),
        ("openai:models/mine", ("openai", "models/mine")),
        ("models/mystery", (None, "models/mystery")),
        ("gpt-5", ("openai", "gpt-5")),
        ("ft:gpt-4o:org", (None, "ft:gpt-4o:org")),
        ("mystery", (None, "mystery")),
    ],
)
def test_a_model_tells_its_provider(model, expected):
    """By prefix, or by the beginning of its name."""
    assert split_model(model) == expected


def test_an_unknown_provider_names_the_known_ones():
    """The remedy is in the message."""
    with pytest.raises(UsageError, match="Choose one of: anthropic, openai, google"):
        provider_class("mistral")
