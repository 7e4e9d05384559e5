"""Misspelt parameters: a provider refuses them in each row, hours after the batch was bought.

A name that nobody knows here may be new, or another server's own, and is sent; one that is nearly a known one is not.
"""

from __future__ import annotations

from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from airflow_batch_provider.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


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
# Of contents and embeddings of google-genai 3.4 and the API's reference, flat or in `generationConfig` (2026-11).
GOOGLE_CONFIG = _words("""
    audioTimestamp audioTranscriptionConfig candidateCount enableAffectiveDialog enableEnhancedCivicAnswers frequencyPenalty
    imageConfig logprobs maxOutputTokens mediaResolution modelSelectionConfig presencePenalty responseFormat
    responseJsonSchema responseLogprobs responseMimeType responseModalities responseSchema routingConfig seed speechConfig
    stopSequences temperature thinkingConfig topK topP translationConfig
""")
GOOGLE = GOOGLE_CONFIG | _words("""
    cachedContent generationConfig labels safetySettings serviceTier store toolConfig tools
    audioTrackExtraction autoTruncate documentOcr embedContentConfig mimeType outputDimensionality taskType title
""")

# The fields of those parameters that are objects, by their path, from the same sources; a test compares them.
WITHIN = {
    "thinking": _words("budget_tokens display type"),
    "output_config": _words("effort format"),
    "cache_control": _words("ttl type"),
    "reasoning": _words("context effort generate_summary mode summary"),
    "text": _words("format verbosity"),
    "text.format": _words("description name schema strict type"),
    "response_format": _words("json_schema type"),
    "response_format.json_schema": _words("description name schema strict"),
    "stream_options": _words("include_obfuscation include_usage"),
    "web_search_options": _words("search_context_size user_location"),
}
_THINKING = _words("includeThoughts thinkingBudget thinkingLevel")
_IMAGE = _words("""
    aspectRatio imageOutputOptions imageSize outputCompressionQuality outputMimeType personGeneration prominentPeople
""")
GOOGLE_WITHIN = {
    "generationConfig": GOOGLE_CONFIG,
    "thinkingConfig": _THINKING,
    "generationConfig.thinkingConfig": _THINKING,
    "imageConfig": _IMAGE,
    "generationConfig.imageConfig": _IMAGE,
    "toolConfig": _words("functionCallingConfig includeServerSideToolInvocations retrievalConfig"),
    "toolConfig.functionCallingConfig": _words("allowedFunctionNames mode streamFunctionCallArguments"),
}

# Of 1; `top_k` and `top_p` are 0.8 alike, `temprature` and `temperature` 0.95.
_ALIKE = 0.85


def camel(name: str) -> str:
    """Return a name as Gemini's reference spells it; its services take `snake_case` as well."""
    head, *rest = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in rest)


def refuse_misspelt(
    params: Mapping[str, Any],
    known: frozenset[str],
    within: Mapping[str, frozenset[str]] = WITHIN,
    *,
    spelt: Callable[[str], str] = str,
    path: tuple[str, ...] = (),
) -> None:
    """Refuse a parameter whose name, or that of a field in it, is nearly a known one.

    Args:
        within: the known fields of objects, by their path.
        spelt: turns a name into the spelling of the known ones.
        path: where these parameters stand.

    Raises:
        UsageError: with the path, and the name that was meant.
    """
    for name, value in params.items():
        place = (*path, spelt(name))
        if place[-1] not in known and (meant := _meant(place[-1], known)):
            shown = ".".join((*path, name))
            raise UsageError(f"request_params has {shown!r}, which no model knows. Did you mean {meant!r}?")
        if isinstance(value, dict) and (fields := within.get(".".join(place))):
            refuse_misspelt(value, fields, within, spelt=spelt, path=place)


@lru_cache(maxsize=256)
def _meant(name: str, known: frozenset[str]) -> str | None:
    by_letters = {one.lower(): one for one in known}
    return next((by_letters[one] for one in get_close_matches(name.lower(), by_letters, n=1, cutoff=_ALIKE)), None)
