"""The most tokens that one answer of a model may have, as its provider documents it."""

from __future__ import annotations

import re

# The first pattern that matches the beginning of a name counts; a model that none matches has a maximum that is not known.
# https://platform.claude.com/docs/en/about-claude/models/overview (2026-11; that 4.6 to 4.8 write 128,000 and 4.5 half as
# many is also what effect#7129 measured), https://developers.openai.com/api/docs/models and
# https://ai.google.dev/gemini-api/docs/models (2026-11).
_MOST = (
    (r"claude-(opus-4-[678]|sonnet-4-6)", 128_000),
    (r"claude-(opus-4-5|sonnet-4-[05]|sonnet-4-2025|haiku-4-5|3-7-sonnet)", 64_000),
    (r"claude-opus-4-[012]", 32_000),
    (r"claude-3-5-(sonnet|haiku)", 8_192),
    (r"claude-3-(opus|sonnet|haiku)", 4_096),
    (r"gpt-5(?!-chat|\.\d-chat)", 128_000),
    (r"gpt-5", 16_384),
    (r"gpt-4\.1", 32_768),
    (r"(chat)?gpt-4o", 16_384),
    (r"gpt-4-turbo|gpt-3\.5-turbo", 4_096),
    (r"o1-mini", 65_536),
    (r"o1-preview", 32_768),
    (r"o[134]\b", 100_000),
    (r"gemini-(2\.5|3)", 65_536),
    (r"gemini-(1\.5|2\.0)", 8_192),
)
_PATTERNS = tuple((re.compile(pattern), tokens) for pattern, tokens in _MOST)


def most_output(model: str) -> int | None:
    """Return how many tokens an answer of this model may have, None where that is not known."""
    name = model.removeprefix("models/")
    if name.startswith("ft:"):  # of a fine-tuned model: those of the one it was made from
        name = name.removeprefix("ft:")
    return next((tokens for pattern, tokens in _PATTERNS if pattern.match(name)), None)
