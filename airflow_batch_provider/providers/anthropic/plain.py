"""The result lines that most are, read at once: a message of nothing but text.

Whatever has another shape, down to the type of one count, is left to `replies`, which reads anything.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Literal

import msgspec

from airflow_batch_provider.models import Reply, Usage
from airflow_batch_provider.providers.answers import choices
from airflow_batch_provider.providers.untrusted import MOST, one_line

_Count = Annotated[int, msgspec.Meta(ge=0, le=MOST)]
_FINISH = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "max_tokens"}


class _Text(msgspec.Struct):
    type: Literal["text"]
    text: str


class _Lives(msgspec.Struct):
    ephemeral_1h_input_tokens: _Count | None = None
    ephemeral_5m_input_tokens: _Count | None = None


class _Details(msgspec.Struct):
    thinking_tokens: _Count | None = None


class _Usage(msgspec.Struct):
    input_tokens: _Count = 0
    output_tokens: _Count = 0
    cache_creation_input_tokens: _Count | None = None
    cache_read_input_tokens: _Count | None = None
    cache_creation: _Lives | None = None
    output_tokens_details: _Details | None = None
    server_tool_use: None = None
    service_tier: Literal["", "batch", "standard"] | None = None
    speed: Literal["", "standard"] | None = None
    inference_geo: Literal["", "global", "not_available"] | None = None

    def told(self) -> Usage:
        """Return the tokens in our words, as `replies.usage` does."""
        lives, details = self.cache_creation or _NO_LIVES, self.output_tokens_details or _NO_DETAILS
        long = lives.ephemeral_1h_input_tokens or 0
        written = self.cache_creation_input_tokens or long + (lives.ephemeral_5m_input_tokens or 0)
        read = self.cache_read_input_tokens or 0
        return Usage(
            input_tokens=self.input_tokens + read + written,
            cached_tokens=read,
            cache_write_tokens=written,
            long_cache_write_tokens=min(long, written),
            output_tokens=self.output_tokens,
            reasoning_tokens=details.thinking_tokens or 0,
        )


_NO_LIVES, _NO_DETAILS = _Lives(), _Details()


class _Message(msgspec.Struct):
    content: list[_Text]
    stop_reason: Literal["end_turn", "stop_sequence", "max_tokens"]
    usage: _Usage
    model: str | None = None


class _Result(msgspec.Struct):
    type: Literal["succeeded"]
    message: _Message


class _Line(msgspec.Struct):
    custom_id: str
    result: _Result


_LINES = msgspec.json.Decoder(_Line)


def plain_reply(line: bytes) -> Reply | None:
    """Return what a line says that is as plain as most are, None where it is not."""
    try:
        read = _LINES.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    message = read.result.message
    parts = [part.text for part in message.content]
    text = "".join(parts)
    if not text or text.isspace():
        return None
    return Reply(
        key=read.custom_id,
        status="succeeded",
        output=text,
        usage=message.usage.told(),
        model=_model(message.model),
        finish_reason=_FINISH[message.stop_reason],
        choices=choices([parts]),
    )


@lru_cache(maxsize=64)
def _model(name: str | None) -> str | None:
    return one_line(name, 200) or None
