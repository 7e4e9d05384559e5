"""What OpenAI refuses in the body of a line; all of it shows when the row runs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow_batch_provider.emulator.answers import Unacceptable
from airflow_batch_provider.emulator.strict.openai_schemas import check_format, check_tools
from airflow_batch_provider.emulator.strict.tables import words

if TYPE_CHECKING:
    from airflow_batch_provider.emulator.jsonl import Json
    from airflow_batch_provider.emulator.strict.models import Purpose

# openai 3.54.0: types/chat/completion_create_params.py, types/responses/response_create_params.py and
# types/embedding_create_params.py (2026-11).
_CHAT = words("""
    audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens messages metadata
    modalities model moderation n parallel_tool_calls prediction presence_penalty prompt_cache_key prompt_cache_options
    prompt_cache_retention reasoning_effort response_format safety_identifier seed service_tier stop store stream
    stream_options temperature tool_choice tools top_logprobs top_p user verbosity web_search_options
""")
_RESPONSES = words("""
    access_programs background background_options context_management conversation image include input instructions
    max_output_tokens max_tool_calls metadata model moderation parallel_tool_calls previous_response_id prompt
    prompt_cache_key prompt_cache_options prompt_cache_retention reasoning safety_identifier service_tier store stream
    stream_options temperature text tool_choice tools top_logprobs top_p truncation user
""")
_EMBEDDINGS = words("dimensions encoding_format input model user")
_PARAMETERS = {"/v1/chat/completions": _CHAT, "/v1/responses": _RESPONSES, "/v1/embeddings": _EMBEDDINGS}

# The endpoints a model serves: https://platform.openai.com/docs/models (2026-08).
PURPOSES: dict[str, Purpose] = {
    "/v1/chat/completions": "text", "/v1/responses": "text", "/v1/embeddings": "embedding",
}  # fmt: skip

# https://platform.openai.com/docs/models (2026-08), "max output tokens"; first match counts.
_MOST_TOKENS = (
    (re.compile(r"gpt-4o|chatgpt-4o"), 16_384),
    (re.compile(r"gpt-4\.1"), 32_768),
    (re.compile(r"o1-(mini|preview)"), None),
    (re.compile(r"o1|o3|o4"), 100_000),
    (re.compile(r"gpt-5-chat|gpt-5\.\d-chat"), 16_384),
    (re.compile(r"gpt-5(\.\d)?(-mini|-nano)?(-\d{4}|$)"), 128_000),
)
# Models that think count their thoughts too, and want the new name: openai/openai-python#1931 and others (2025).
_THINKING = re.compile(r"o1|o3|o4|gpt-[56](?!.*chat)")

_ROLES = ("system", "assistant", "user", "function", "tool", "developer")
# What a message of the assistant may hold instead of content.
_INSTEAD = {"tool_calls", "function_call", "refusal", "audio"}
# https://platform.openai.com/docs/guides/embeddings (2026-08).
_MOST_DIMENSIONS = {"text-embedding-3-small": 1_536, "text-embedding-3-large": 3_072}
_FIXED_DIMENSIONS = "text-embedding-ada-002"


def check(url: str, body: Json) -> None:
    """Raise `Unacceptable` in OpenAI's words for the first thing that is wrong."""
    known = _PARAMETERS.get(url)
    if known is None:
        return
    for name in body:
        if name not in known:
            raise _unknown(url, name)
    model = str(body.get("model"))
    if url == "/v1/embeddings":
        _check_dimensions(model, body.get("dimensions"))
        return
    if url == "/v1/chat/completions":
        _check_messages(body.get("messages") or [])
    _check_tokens(model, body)
    check_format(url, body)
    check_tools(url, body.get("tools") or [])


def _check_messages(messages: list[Json]) -> None:
    """Refuse what https://platform.openai.com/docs/api-reference/chat/create says of roles and content (2026-11)."""
    for place, message in enumerate(messages):
        role, where = message.get("role"), f"messages[{place}]"
        if role not in _ROLES:
            text = f"Invalid value: {role!r}. Supported values are: {', '.join(map(repr, _ROLES))}."
            raise Unacceptable(text, f"{where}.role", "invalid_value")
        if message.get("content") is None and not message.keys() & _INSTEAD:
            text = f"Missing required parameter: '{where}.content'."
            raise Unacceptable(text, f"{where}.content", "missing_required_parameter")


def _unknown(url: str, name: str) -> Unacceptable:
    """Return the words of the endpoint: langchain-ai/deepagentsjs#550 (2026) for responses, brainlid/langchain#54 for chat."""
    if url == "/v1/responses":
        return Unacceptable(f"Unknown parameter: '{name}'.", name, "unknown_parameter")
    return Unacceptable(f"Unrecognized request argument supplied: {name}")


def _check_tokens(model: str, body: Json) -> None:
    if "max_tokens" in body and _THINKING.match(model):
        text = (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        )
        raise Unacceptable(text, "max_tokens", "unsupported_parameter")
    most = next((most for pattern, most in _MOST_TOKENS if pattern.match(model)), None)
    for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
        asked = body.get(name)
        if most is not None and isinstance(asked, int) and asked > most:
            text = f"{name} is too large: {asked}. This model supports at most {most} completion tokens, whereas you provided {asked}."
            raise Unacceptable(text, name, "invalid_value")


def _check_dimensions(model: str, asked: Any) -> None:
    if asked is None:
        return
    if model == _FIXED_DIMENSIONS:
        raise Unacceptable("This model does not support specifying dimensions.", "dimensions")
    if asked > (most := _MOST_DIMENSIONS.get(model, asked)):
        text = f"Invalid value for 'dimensions' = {asked}. Must be less than or equal to {most}."
        raise Unacceptable(text, "dimensions")
