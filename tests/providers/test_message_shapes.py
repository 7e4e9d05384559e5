"""Messages that rows bring: another provider's shape is refused before it is bought, by the package and by the emulator."""

from __future__ import annotations

import pytest

from airflow_batch_provider.emulator.answers import Unacceptable
from airflow_batch_provider.emulator.strict import anthropic as strict_anthropic
from airflow_batch_provider.emulator.strict import openai as strict_openai
from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.models import BatchRequest, Spec
from airflow_batch_provider.providers.anthropic.codec import AnthropicCodec
from airflow_batch_provider.providers.openai.codec import OpenAICodec

ASKED = {"role": "user", "content": "?"}
PART = {"type": "text", "text": "?"}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def encoded(name, messages):
    """Encodes the body, and has the emulator check it."""
    codec, model = (AnthropicCodec(), "claude-haiku-4-5") if name == "anthropic" else (OpenAICodec("chat"), "gpt-4o")
    return codec.encode(BatchRequest(messages=messages), Spec(model=model))


def checked_by_the_emulator(name, messages):
    if name == "anthropic":
        strict_anthropic.check({"model": "claude-haiku-4-5", "messages": messages}, (), long_output=False)
    else:
        strict_openai.check("/v1/chat/completions", {"model": "gpt-4o", "messages": messages})


TAKEN = {
    "anthropic": [
        [ASKED],
        [{"role": "user", "content": [PART]}],
        [{"role": "system", "content": "s"}, ASKED],
        [ASKED, {"role": "assistant", "content": "{"}],
        [ASKED, {"role": "assistant", "content": ""}],
    ],
    "chat": [
        [ASKED],
        [{"role": "user", "content": [PART]}],
        [{"role": "developer", "content": "s"}, ASKED],
        [
            ASKED,
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "content": "1", "tool_call_id": "c"},
        ],
        [{"role": "user", "content": ""}],
    ],
}
REFUSED = {
    "anthropic": [
        [ASKED, {"role": "user", "parts": [{"text": "?"}]}],
        [ASKED, {"role": "model", "content": "?"}],
        [ASKED, {"role": "tool", "content": "1"}],
        [ASKED, {"content": "?"}],
        [ASKED, {"role": "user", "content": ""}],
        [ASKED, {"role": "user", "content": []}],
        [ASKED, {"role": "assistant"}],
        [ASKED, {"role": "assistant", "content": None, "tool_calls": [CALL]}],
    ],
    "chat": [
        [ASKED, {"role": "user", "parts": [{"text": "?"}]}],
        [ASKED, {"content": "?"}],
        [ASKED, {"role": None, "content": "?"}],
        [ASKED, {"role": "user", "content": None}],
        [ASKED, {"role": "user"}],
    ],
}


@pytest.mark.parametrize(("name", "messages"), [(name, one) for name, all_ in TAKEN.items() for one in all_])
def test_what_the_provider_takes_is_sent_as_it_is(name, messages):
    """The emulator takes it too."""
    assert encoded(name, messages)["messages"] == messages
    checked_by_the_emulator(name, messages)


@pytest.mark.parametrize(("name", "messages"), [(name, one) for name, all_ in REFUSED.items() for one in all_])
def test_what_the_provider_would_refuse_is_refused_by_its_place(name, messages):
    """Each row would fail, hours after its batch was bought; the emulator refuses it as well."""
    with pytest.raises(UsageError, match=r"message 1 (has|is)\. Write "):
        encoded(name, messages)
    with pytest.raises(Unacceptable, match=r"messages|Invalid value"):
        checked_by_the_emulator(name, messages)


def test_a_server_that_speaks_the_same_may_know_another_role():
    """It is sent; OpenAI itself refuses it in its words."""
    messages = [{"role": "critic", "content": "?"}]
    assert encoded("chat", messages)["messages"] == messages
    with pytest.raises(Unacceptable, match="Invalid value: 'critic'"):
        checked_by_the_emulator("chat", messages)
