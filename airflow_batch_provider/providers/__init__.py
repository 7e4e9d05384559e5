"""The providers by name; each is imported, with its SDK, when it is first used."""

from __future__ import annotations

from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.models import ConnectionRef

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from airflow_batch_provider.models import Account
    from airflow_batch_provider.providers.base import BatchProvider
    from airflow_batch_provider.providers.codec import Codec

PROVIDERS = {
    "anthropic": "airflow_batch_provider.providers.anthropic.provider:AnthropicProvider",
    "openai": "airflow_batch_provider.providers.openai.provider:OpenAIProvider",
    "google": "airflow_batch_provider.providers.google.provider:GoogleProvider",
}

# What providers write and read, without their SDKs.
CODECS = {
    "anthropic": "airflow_batch_provider.providers.anthropic.codec:AnthropicCodec",
    "openai": "airflow_batch_provider.providers.openai.codec:OpenAICodec",
    "google": "airflow_batch_provider.providers.google.codec:GoogleCodec",
}

# Beginnings of model names by which a provider is known when nothing else names it.
MODEL_PREFIXES = {
    "claude-": "anthropic",
    "gpt-": "openai",
    "chatgpt-": "openai",
    "o1": "openai",
    "o3": "openai",
    "o4": "openai",
    "text-embedding-3": "openai",
    "text-embedding-ada": "openai",
    "gemini-": "google",
    "gemma-": "google",
    "text-embedding-00": "google",
}


def provider_class(name: str) -> type[BatchProvider]:
    """Return the class that talks to this provider.

    Raises:
        UsageError: no provider of this name.
    """
    return _imported(name, PROVIDERS)  # type: ignore[no-any-return]


def codec_class(name: str) -> type[Codec]:
    """Return the class that writes this provider's requests; its SDK is not imported, so a DAG may be checked with it.

    Raises:
        UsageError: no provider of this name.
    """
    return _imported(name, CODECS)  # type: ignore[no-any-return]


def _imported(name: str, paths: dict[str, str]) -> Any:
    if name not in paths:
        raise UsageError(f"There is no batch provider {name!r}. Choose one of: {', '.join(paths)}.")
    module, _, attribute = paths[name].partition(":")
    return getattr(import_module(module), attribute)


def connect(account: Account) -> BatchProvider:
    """Return an open client of the account's provider; build it in the event loop that uses it, and close it."""
    return provider_class(account.provider)(account)


@asynccontextmanager
async def connected(accounts: Iterable[Account]) -> AsyncIterator[list[BatchProvider]]:
    """Open clients of these accounts, and close them after the block."""
    opened: list[BatchProvider] = []
    try:
        for account in accounts:
            opened.append(connect(account))  # noqa: PERF401 — those before one that cannot be opened are closed too
        yield opened
    finally:
        for provider in opened:
            await provider.aclose()


def split_model(model: str) -> tuple[str | None, str]:
    """Split `openai:gpt-5` into ("openai", "gpt-5"); without a known prefix the provider is guessed by the name, or None.

    Gemini's own list writes `models/gemini-…`, prices and limits know the model without it.
    """
    prefix, colon, rest = model.partition(":")
    if colon and prefix in PROVIDERS:
        return prefix, rest.removeprefix("models/") if prefix == "google" else rest
    bare = model.removeprefix("models/")
    guess = next((provider for start, provider in MODEL_PREFIXES.items() if bare.startswith(start)), None)
    return guess, bare if guess == "google" else model


def connection_ref(conn_id: str, model: str) -> ConnectionRef:
    """Return the connection that a model is asked over, with the provider that the model's name points to."""
    return ConnectionRef(conn_id=conn_id, provider=split_model(model)[0])
