"""The most tokens that one answer of a model may have, as its provider documents it."""

from __future__ import annotations

import re

from airflow_batch_provider.exceptions import UsageError

# The first pattern that matches the beginning of a name counts; a model that none matches has a maximum that is not known,
# and so has a later version of a known one, which may write more.
# Read off the model files of https://github.com/anomalyco/models.dev (`limit.output`, 2026-07-02), which agree with
# https://ai.google.dev/gemini-api/docs/models/gemini-2.0-flash (2026-11) where that page could be read. Sonnet 4.6 stands
# there with 64,000; https://github.com/Effect-TS/effect/pull/7129 tells that the API takes 128,000.
# gpt-5-chat-latest stands there with 128,000 and its successors with 16,384, so that it is not judged.
_MOST = (
    (r"claude-(opus-4-[678]|sonnet-4-6|sonnet-5|fable-5)", 128_000),
    (r"claude-(opus-4-5|sonnet-4-[05]|sonnet-4-2025|haiku-4-5|3-7-sonnet)", 64_000),
    (r"claude-opus-4-[012]", 32_000),
    (r"claude-3-5-(sonnet|haiku)", 8_192),
    (r"claude-3-(opus|sonnet|haiku)", 4_096),
    (r"gpt-5-pro", 272_000),
    (r"gpt-5\.3-codex-spark", 32_000),
    (r"gpt-5\.[1-3]-chat", 16_384),
    (r"gpt-5(\.[1-5])?(?![\d.]|-chat)", 128_000),
    (r"gpt-4\.1", 32_768),
    (r"gpt-4o-2024-05-13", 4_096),
    (r"(chat)?gpt-4o", 16_384),
    (r"gpt-4-turbo|gpt-3\.5-turbo", 4_096),
    (r"gpt-4(-0613)?$", 8_192),
    (r"o1-mini", 65_536),
    (r"o1-preview", 32_768),
    (r"o[134]\b", 100_000),
    (r"gemini-2\.5-(flash|pro)-preview-tts", 16_384),
    (r"gemini-2\.5-flash-image", 32_768),
    (r"gemini-(2\.5|3(\.[15])?|flash-latest|flash-lite-latest)(?![\d.])", 65_536),
    (r"gemini-2\.0", 8_192),
    (r"gemma-4", 32_768),
)
_PATTERNS = tuple((re.compile(pattern), tokens) for pattern, tokens in _MOST)


def most_output(model: str) -> int | None:
    """Return how many tokens an answer of this model may have, None where that is not known."""
    name = model.removeprefix("models/")
    if name.startswith("ft:"):  # of a fine-tuned model: those of the one it was made from
        name = name.removeprefix("ft:")
    return next((tokens for pattern, tokens in _PATTERNS if pattern.match(name)), None)


def refuse_too_much(provider: str, model: str, tokens: int | None) -> None:
    """Refuse more tokens than an answer of the model may have: each row would be refused, hours after it was bought.

    Args:
        provider: who refuses it, as its name is written.
        tokens: that the body asks for; None when it sets no limit.

    Raises:
        UsageError: with both numbers.
    """
    most = most_output(model)
    if most is not None and tokens is not None and tokens > most:
        raise UsageError(f"{provider} takes max_tokens up to {most} for {model!r}, and this is {tokens}. Lower it.")
