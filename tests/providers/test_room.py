"""How many tokens an answer may have: by the model's documentation, or not known."""

from __future__ import annotations

import pytest

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.models import Account, BatchRequest, Spec
from airflow_batch_provider.providers import provider_class
from airflow_batch_provider.providers.room import most_output


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        ("claude-opus-4-6", 128_000),
        ("claude-sonnet-4-20250514", 64_000),
        ("claude-opus-4-20250514", 32_000),
        ("claude-haiku-4-5-20251001", 64_000),
        ("claude-3-haiku-20240307", 4_096),
        ("gpt-5-mini", 128_000),
        ("claude-sonnet-5", 128_000),
        ("gpt-5-pro", 272_000),
        ("gpt-4o-2024-05-13", 4_096),
        ("o1-mini", 65_536),
        ("gemini-2.5-flash-image", 32_768),
        ("gpt-5-chat-latest", None),
        ("gpt-5.1-chat-latest", 16_384),
        ("gpt-4.1-nano-2025-04-14", 32_768),
        ("ft:gpt-4o-mini-2024-07-18:me::x", 16_384),
        ("o3", 100_000),
        ("models/gemini-2.5-flash", 65_536),
        ("gemini-2.0-flash-lite", 8_192),
        ("a-model-of-tomorrow", None),
        ("gpt-5.9", None),
        ("gpt-50", None),
        ("gemini-3.9-flash", None),
        ("claude-opus-4-9", None),
        ("gpt-5.5", 128_000),
        ("gemini-3.5-flash", 65_536),
    ],
)
def test_the_maximum_of_a_model_is_that_of_its_documentation(model, tokens):
    """One that is not known limits nothing: a refusal then keeps the text."""
    assert most_output(model) == tokens


@pytest.mark.parametrize("provider", ["anthropic", "openai", "google"])
def test_the_room_of_a_body_is_read_and_changed_where_the_provider_has_it(provider):
    """Each under its own name; a body without a limit has none to change."""
    codec = provider_class(provider)(Account(provider=provider, api_key="k")).codec
    body = codec.encode(BatchRequest(prompt="one", max_tokens=50), Spec(model="m"))

    wider = codec.with_room(body, 80)

    assert (codec.room(body), codec.room(wider), codec.room({})) == (50, 80, None)
    assert codec.with_room(wider, 50) == body


@pytest.mark.parametrize(
    ("provider", "model", "most"),
    [("anthropic", "claude-haiku-4-5", 64_000), ("openai", "o3", 100_000), ("google", "gemini-2.5-flash", 65_536)],
)
def test_a_row_asks_for_no_more_room_than_its_model_has(provider, model, most):
    """A model whose maximum is not known is not judged."""
    codec = provider_class(provider)(Account(provider=provider, api_key="k")).codec

    assert codec.room(codec.encode(BatchRequest(prompt="one", max_tokens=most), Spec(model=model))) == most
    with pytest.raises(UsageError, match=rf"up to {most} for '{model}', and this is {most + 1}\. Lower it"):
        codec.encode(BatchRequest(prompt="one", max_tokens=most + 1), Spec(model=model))
    assert codec.room(codec.encode(BatchRequest(prompt="one", max_tokens=most + 1), Spec(model="m"))) == most + 1


def test_a_row_of_another_model_has_that_models_room():
    """At Anthropic, where a row may name its own."""
    codec = provider_class("anthropic")(Account(provider="anthropic", api_key="k")).codec
    row = BatchRequest(prompt="one", max_tokens=64_000, request_params={"model": "claude-3-haiku-20240307"})

    with pytest.raises(UsageError, match="up to 4096 for 'claude-3-haiku-20240307', and this is 64000"):
        codec.encode(row, Spec(model="claude-haiku-4-5"))
