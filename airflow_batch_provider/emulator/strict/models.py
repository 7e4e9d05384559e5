"""Names of models that the services know.

A name is here when a service has served it, retired ones too: what must not pass is a name that is misspelt.
"""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

Purpose = Literal["text", "embedding"]

# anthropic 2.12.0: types/model.py and DEPRECATED_MODELS of resources/messages/messages.py (2026-11).
_CLAUDE = """
    claude-fable-5 claude-fable-5-1 claude-fable-5-2 claude-mythos-preview claude-mythos-5 claude-mythos-5-1 claude-mythos-5-2
    claude-opus-5-5 claude-opus-5 claude-opus-4-8 claude-opus-4-7 claude-opus-4-6 claude-opus-4-5 claude-opus-4-5-20251101
    claude-opus-4-1 claude-opus-4-1-20250805 claude-opus-4-0 claude-opus-4-20250514
    claude-sonnet-5-5 claude-sonnet-5 claude-sonnet-4-6 claude-sonnet-4-5 claude-sonnet-4-5-20250929
    claude-sonnet-4-0 claude-sonnet-4-20250514 claude-haiku-5-5 claude-haiku-4-5 claude-haiku-4-5-20251001
    claude-3-7-sonnet-latest claude-3-7-sonnet-20250219 claude-3-5-sonnet-latest claude-3-5-sonnet-20241022
    claude-3-5-sonnet-20240620 claude-3-5-haiku-latest claude-3-5-haiku-20241022 claude-3-opus-latest claude-3-opus-20240229
    claude-3-sonnet-20240229 claude-3-haiku-20240307
"""
# openai 3.54.0: types/shared/chat_model.py and all_models.py (2026-11); a snapshot adds its date to the name.
_GPT = """
    gpt-6-astra gpt-6.2-astra gpt-6.1-sol gpt-6.2-sol gpt-6.1-terra gpt-6-sol gpt-6-luna gpt-5.6-sol gpt-5.6-terra gpt-5.6-luna
    gpt-5.5 gpt-5.5-pro gpt-5.4 gpt-5.4-mini gpt-5.4-nano gpt-5.4-pro gpt-5.3-codex gpt-5.3-chat-latest gpt-5.2 gpt-5.2-pro
    gpt-5.2-codex gpt-5.2-chat-latest gpt-5.1 gpt-5.1-codex gpt-5.1-codex-max gpt-5.1-codex-mini gpt-5.1-chat-latest gpt-5
    gpt-5-mini gpt-5-nano gpt-5-pro gpt-5-codex gpt-5-chat-latest gpt-4.5-preview gpt-4.1 gpt-4.1-mini gpt-4.1-nano o4-mini
    o4-mini-deep-research o3 o3-mini o3-pro o3-deep-research o1 o1-mini o1-preview o1-pro gpt-4o gpt-4o-mini chatgpt-4o-latest
    gpt-4o-audio-preview gpt-4o-mini-audio-preview gpt-4o-search-preview gpt-4o-mini-search-preview gpt-audio gpt-audio-mini
    codex-mini-latest gpt-4-turbo gpt-4-turbo-preview gpt-4-0125-preview gpt-4-1106-preview gpt-4-vision-preview gpt-4 gpt-4-0314
    gpt-4-0613 gpt-4-32k gpt-4-32k-0314 gpt-4-32k-0613 gpt-3.5-turbo gpt-3.5-turbo-16k gpt-3.5-turbo-0301 gpt-3.5-turbo-0613
    gpt-3.5-turbo-1106 gpt-3.5-turbo-0125 gpt-3.5-turbo-16k-0613
"""
# genai-prices 0.2.3 and https://ai.google.dev/gemini-api/docs/models (2026-11); versions add a number or a month.
_GEMINI = """
    gemini-4-argon gemini-3.8-flash gemini-3.7-flash gemini-3.6-flash gemini-3.5-flash gemini-3.5-flash-lite gemini-3.1-pro
    gemini-3.1-flash-lite gemini-3.1-flash-lite-image gemini-3.1-flash-image gemini-3-pro gemini-3-pro-image gemini-3-flash
    gemini-2.5-pro gemini-2.5-flash gemini-2.5-flash-lite gemini-2.5-flash-image gemini-2.0-flash gemini-2.0-flash-lite
    gemini-1.5-pro gemini-1.5-flash gemini-1.5-flash-8b gemini-pro gemini-flash gemini-flash-lite gemma-3-27b-it gemma-4-31b-it
    gemma-4-26b-a4b-it
"""

_DATED = r"(-\d{4}-\d{2}-\d{2})?"
_VERSION = r"(-\d{3}|-exp|-latest|-preview(-\d{2}-\d{2,4})?)?"


def _pattern(names: str, suffix: str = "", more: str = "") -> re.Pattern[str]:
    return re.compile(f"({'|'.join(map(re.escape, names.split()))}){suffix}{f'|{more}' if more else ''}")


# Each service also knows the model that its emulated list of models names.
_KNOWN: dict[tuple[str, Purpose], re.Pattern[str]] = {
    ("anthropic", "text"): _pattern(_CLAUDE + "claude-emulated-1"),
    # Fine-tuned models: https://platform.openai.com/docs/guides/batch (2026-08).
    ("openai", "text"): _pattern(_GPT + "gpt-emulated-1", _DATED, r"ft:(gpt-|o\d)[^:]*:.+"),
    ("openai", "embedding"): _pattern("text-embedding-3-small text-embedding-3-large text-embedding-ada-002"),
    ("google", "text"): _pattern(_GEMINI + "gemini-emulated-1", _VERSION),
    ("google", "embedding"): _pattern(
        "gemini-embedding-001 gemini-embedding-2 gemini-embedding-2-preview gemini-embedding-exp-03-07 text-embedding-004 embedding-001"
    ),
}


def is_known(provider: str, purpose: Purpose, model: str, further: Iterable[str]) -> bool:
    """Return whether the service has such a model, or one of the patterns in `further` stands for it."""
    known = _KNOWN[provider, purpose].fullmatch(model) is not None
    return known or any(fnmatch.fnmatchcase(model, pattern) for pattern in further)
