"""What Anthropic refuses in the params of a message; all of it shows when the row runs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow_batch_provider.emulator.answers import Unacceptable
from airflow_batch_provider.emulator.strict.anthropic_schemas import check_schemas
from airflow_batch_provider.emulator.strict.models import is_known
from airflow_batch_provider.emulator.strict.tables import words

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_batch_provider.emulator.jsonl import Json

# anthropic 2.12.0: types/message_create_params.py and, with a beta, types/beta/message_create_params.py (2026-11).
# The sampling parameters are taken, although the SDK has no types for them any more (measured, 2026-11).
_PARAMETERS = words("""
    cache_control container diagnostics inference_geo max_tokens messages metadata model output_config service_tier speed
    stop_sequences stream system thinking tool_choice tools user_profile_id workspace_id
    billing_policy compaction context_management fallback_credit_token fallbacks mcp_servers output_format thread
    temperature top_k top_p
""")

# These always think, and take no forced tool: can1357/oh-my-pi#12939 (2026-09), pydantic/pydantic-ai#8640 (2026-09).
_UNFORCED = re.compile(r"claude-(opus-5-5|(fable|mythos)-5-[12]|mythos-preview)")

# https://platform.claude.com/docs/en/models (2026-11); Effect-TS/effect#7129 (2026) for 4.6 to 4.8; first match counts.
_MOST_TOKENS = (
    (re.compile(r"claude-(opus|sonnet|haiku)-4-5"), 64_000),
    (re.compile(r"claude-opus-4-([01]|20)"), 32_000),
    (re.compile(r"claude-sonnet-4-(0|20)"), 64_000),
    (re.compile(r"claude-3-5-"), 8_192),
    (re.compile(r"claude-3-(opus|sonnet|haiku)"), 4_096),
    (re.compile(r"claude-(opus|sonnet)-4-[678]"), 128_000),
    (re.compile(r"claude-(fable|mythos|opus|sonnet)-5"), 128_000),
)
# The beta output-300k-2026-03-24 raises them, in batches only: documentation of message batches (2026-09).
LONG_OUTPUT = "output-300k"
_LONG = 300_000
_ROLES = ("user", "assistant", "system")
# https://platform.claude.com/docs/en/build-with-claude/extended-thinking (2026-11).
_LEAST_BUDGET = 1_024


def check(params: Json, further: Iterable[str], *, long_output: bool) -> None:
    """Raise `Unacceptable` in Anthropic's words for the first thing that is wrong; `further` are more names of models."""
    for name in params:
        if name not in _PARAMETERS:
            raise Unacceptable(f"{name}: Extra inputs are not permitted", name)
    model = params.get("model")
    if isinstance(model, str) and not is_known("anthropic", "text", model, further):
        raise Unacceptable(f"model: {model}", "model", word="not_found")
    _check_messages(params.get("messages") or [])
    _check_tokens(str(model), params.get("max_tokens"), _LONG if long_output else 0)
    _check_thinking(params)
    _check_choice(str(model), params)
    check_schemas(params)


def _check_messages(messages: list[Json]) -> None:
    """Refuse what https://platform.claude.com/docs/en/api/messages says of roles and content (2026-11)."""
    for place, message in enumerate(messages):
        if message.get("role") not in _ROLES:
            raise Unacceptable(f"messages.{place}.role: Input should be 'user' or 'assistant'", "messages")
        if message.get("content") is None:
            raise Unacceptable(f"messages.{place}.content: Field required", "messages")
        if not message["content"] and (place < len(messages) - 1 or message["role"] != "assistant"):
            text = "all messages must have non-empty content except for the optional final assistant message"
            raise Unacceptable(f"messages.{place}: {text}", "messages")


def _check_tokens(model: str, asked: Any, raised: int) -> None:
    most = next((most for pattern, most in _MOST_TOKENS if pattern.match(model)), None)
    if most is not None and isinstance(asked, int) and asked > (most := max(most, raised)):
        # labring/fastgpt-plugin#242 and many more quote it (2026).
        text = f"max_tokens: {asked} > {most}, which is the maximum allowed number of output tokens for {model}"
        raise Unacceptable(text, "max_tokens")


def _check_thinking(params: Json) -> None:
    thinking = params.get("thinking") or {}
    if thinking.get("type") != "enabled":
        return
    budget = thinking.get("budget_tokens")
    if not isinstance(budget, int):
        raise Unacceptable("thinking.enabled.budget_tokens: Field required", "thinking")
    if budget < _LEAST_BUDGET:
        text = f"thinking.enabled.budget_tokens: Input should be greater than or equal to {_LEAST_BUDGET}"
        raise Unacceptable(text, "thinking")
    if budget >= params.get("max_tokens", budget + 1):
        # agent-afk#951, llm.js#30 (2026).
        raise Unacceptable("`max_tokens` must be greater than `thinking.budget_tokens`.", "max_tokens")


def _check_choice(model: str, params: Json) -> None:
    if (params.get("tool_choice") or {}).get("type") not in ("tool", "any"):
        return
    if _UNFORCED.match(model):
        raise Unacceptable('tool_choice: type "tool" and "any" are not supported for this model.', "tool_choice")
    if (params.get("thinking") or {}).get("type") == "enabled":
        # https://platform.claude.com/docs/en/build-with-claude/thinking#thinking-with-tool-use (2026-08); pydantic-ai#7195.
        raise Unacceptable("Thinking may not be enabled when tool_choice forces tool use.", "tool_choice")
    if not params.get("tools"):
        raise Unacceptable("tool_choice: may only be specified while providing tools", "tool_choice")
