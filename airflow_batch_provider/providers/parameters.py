"""Misspelt parameters: a provider refuses them in each row, hours after the batch was bought.

A name that nobody knows here may be new, or another server's own, and is sent; one that is nearly a known one is not.
"""

from __future__ import annotations

from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING

from airflow_batch_provider.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# The fields of the request bodies in anthropic 2.12 and openai 3.54 (2026-11; a test compares them), and older names that
# their services still know.
ANTHROPIC = _words("""
    cache_control container context_management diagnostics inference_geo max_tokens mcp_servers messages metadata model
    output_config output_format service_tier speed stop_sequences stream system temperature thinking tool_choice tools
    top_k top_p user_profile_id workspace_id
""")
# Of chat completions, responses and embeddings; the last line is of servers that speak the same: vLLM and llama.cpp.
OPENAI = _words("""
    audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens messages metadata
    modalities model moderation n parallel_tool_calls prediction presence_penalty prompt_cache_key prompt_cache_options
    prompt_cache_retention reasoning_effort response_format safety_identifier seed service_tier stop store stream
    stream_options temperature tool_choice tools top_logprobs top_p user verbosity web_search_options
    access_programs background background_options context_management conversation image include input instructions
    max_output_tokens max_tool_calls previous_response_id prompt reasoning text truncation
    dimensions encoding_format
    top_k min_p repetition_penalty stop_token_ids
""")
# Of 1; `top_k` and `top_p` are 0.8 alike, `temprature` and `temperature` 0.95.
_ALIKE = 0.85


def refuse_misspelt(names: Iterable[str], known: frozenset[str]) -> None:
    """Refuse a parameter whose name is nearly a known one.

    Raises:
        UsageError: with the name that was meant.
    """
    for name in names:
        if name not in known and (meant := _meant(name, known)):
            raise UsageError(f"request_params has {name!r}, which no model knows. Did you mean {meant!r}?")


@lru_cache(maxsize=256)
def _meant(name: str, known: frozenset[str]) -> str | None:
    return next(iter(get_close_matches(name.lower(), known, n=1, cutoff=_ALIKE)), None)
