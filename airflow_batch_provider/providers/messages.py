"""Messages that rows bring themselves: another provider's shape would be refused row by row, hours after the batch was bought."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_batch_provider.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection

# What an assistant's message may hold instead of content, in the chat completions of openai 3.54 (2026-11).
_INSTEAD = frozenset({"tool_calls", "function_call", "refusal", "audio"})


def check_claudes(messages: list[dict[str, Any]]) -> None:
    """Refuse messages that Anthropic does not take: roles and content as `types/message_param.py` of anthropic 2.12 has them.

    The last message may be an empty one of the assistant's, which the model goes on with.

    Raises:
        UsageError: names the message by its place.
    """
    for place, message in enumerate(messages):
        _check_role("Anthropic", place, message, ("user", "assistant", "system"))
        is_last = place == len(messages) - 1 and message["role"] == "assistant"
        if not message.get("content") and not (is_last and message.get("content") == ""):
            raise _without_content("Anthropic", place)


def check_chat(messages: list[dict[str, Any]]) -> None:
    """Refuse messages that chat completions do not take; a server that speaks the same may know further roles.

    Raises:
        UsageError: names the message by its place.
    """
    for place, message in enumerate(messages):
        _check_role("OpenAI", place, message)
        if message.get("content") in (None, []) and not any(message.get(name) for name in _INSTEAD):
            raise _without_content("OpenAI", place)


def _check_role(provider: str, place: int, message: dict[str, Any], known: Collection[str] = ()) -> None:
    role = message.get("role")
    if not isinstance(role, str) or not role or (known and role not in known):
        roles = " or ".join(map(repr, known or ("system", "user", "assistant")))
        raise UsageError(f"{provider} takes no message of the role {role!r}, which message {place} has. Write {roles}.")


def _without_content(provider: str, place: int) -> UsageError:
    return UsageError(
        f"{provider} takes no message without content, as message {place} is. Write it as {{'role': 'user', 'content': …}}."
    )
