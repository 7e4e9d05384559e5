"""The result lines that most are, read at once: a chat completion of one text, or a vector of numbers.

Whatever has another shape, down to the type of one count, is left to `replies`, which reads anything.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from airflow_batch_provider.models import Reply, Usage
from airflow_batch_provider.providers.untrusted import LARGEST_SINGLE, MOST, one_line

if TYPE_CHECKING:
    from airflow_batch_provider.models import Kind

_Count = Annotated[int, msgspec.Meta(ge=0, le=MOST)]
_Nothing = tuple[()] | None
_FINISH = {"stop": "stop", "length": "max_tokens"}


class _Read(msgspec.Struct):
    cached_tokens: _Count | None = None
    cache_write_tokens: _Count | None = None
    audio_tokens: _Count | None = None
    image_tokens: _Count | None = None
    cache_write_tokens_details: None = None
    cached_tokens_details: None = None


class _Written(msgspec.Struct):
    reasoning_tokens: _Count | None = None
    audio_tokens: _Count | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: _Count = 0
    completion_tokens: _Count = 0
    prompt_tokens_details: _Read | None = None
    completion_tokens_details: _Written | None = None
    input_tokens: None = None
    output_tokens: None = None
    input_tokens_details: None = None
    output_tokens_details: None = None

    def told(self) -> Usage:
        """Return the tokens in our words."""
        read, written = self.prompt_tokens_details, self.completion_tokens_details
        if read is None and written is None:
            return Usage(input_tokens=self.prompt_tokens, output_tokens=self.completion_tokens)
        read, written = read or _NO_READ, written or _NO_WRITTEN
        return Usage(
            input_tokens=self.prompt_tokens,
            cached_tokens=read.cached_tokens or 0,
            cache_write_tokens=read.cache_write_tokens or 0,
            input_audio_tokens=read.audio_tokens or 0,
            input_image_tokens=read.image_tokens or 0,
            output_tokens=self.completion_tokens,
            reasoning_tokens=written.reasoning_tokens or 0,
            output_audio_tokens=written.audio_tokens or 0,
        )


_NO_READ, _NO_WRITTEN = _Read(), _Written()


class _Message(msgspec.Struct):
    content: str
    tool_calls: _Nothing = None
    annotations: _Nothing = None
    refusal: None = None
    audio: None = None
    function_call: None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: Literal["stop", "length"]


class _Body(msgspec.Struct):
    usage: _Usage
    model: str | None = None
    service_tier: Literal["", "auto", "default", "batch"] | None = None
    output: None = None


class _Completion(_Body, kw_only=True):
    choices: Annotated[list[_Choice], msgspec.Meta(min_length=1)]


_Number = Annotated[float, msgspec.Meta(ge=-LARGEST_SINGLE, le=LARGEST_SINGLE)]


class _Item(msgspec.Struct):
    embedding: Annotated[list[_Number], msgspec.Meta(min_length=1)]


class _Embeddings(_Body, kw_only=True):
    data: Annotated[list[_Item], msgspec.Meta(min_length=1)]
    choices: None = None


class _Answered(msgspec.Struct):
    status_code: Annotated[int, msgspec.Meta(ge=200, le=299)]
    body: Any


class _CompletionResponse(_Answered):
    body: _Completion


class _EmbeddingResponse(_Answered):
    body: _Embeddings


class _CompletionLine(msgspec.Struct):
    custom_id: str
    response: _CompletionResponse


class _EmbeddingLine(msgspec.Struct):
    custom_id: str
    response: _EmbeddingResponse


_COMPLETIONS = msgspec.json.Decoder(_CompletionLine)
_EMBEDDINGS = msgspec.json.Decoder(_EmbeddingLine)


def plain_reply(line: bytes, kind: Kind) -> Reply | None:
    """Return what a line says that is as plain as most are, None where it is not."""
    try:
        return _vector(_EMBEDDINGS.decode(line)) if kind == "embed" else _text(_COMPLETIONS.decode(line))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _text(line: _CompletionLine) -> Reply | None:
    body = line.response.body
    choice = body.choices[0]
    text = choice.message.content
    if not text or text.isspace():
        return None
    finish = _FINISH[choice.finish_reason]
    return Reply(
        key=line.custom_id,
        status="succeeded",
        output=text,
        usage=body.usage.told(),
        model=_model(body.model),
        finish_reason=finish,
    )


def _vector(line: _EmbeddingLine) -> Reply:
    body = line.response.body
    return Reply(
        key=line.custom_id,
        status="succeeded",
        output=body.data[0].embedding,
        usage=body.usage.told(),
        model=_model(body.model),
        finish_reason="stop",
    )


@lru_cache(maxsize=64)
def _model(name: str | None) -> str | None:
    return one_line(name, 200) or None
