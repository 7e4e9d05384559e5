"""Request bodies as JSON: what is the same in all of them is made once."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_batch_provider.models import BatchRequest, PlainRequest
from airflow_batch_provider.pricing import may_hold_media

if TYPE_CHECKING:
    from airflow_batch_provider.models import Spec
    from airflow_batch_provider.providers.codec import Codec

# Stands for the prompt in the body that all plain requests share; nobody writes this, and a body that holds it more than
# once is not taken for a pattern.
_PROMPT = "\ue000 the prompt \ue001"


class Bodies:
    """Makes the bodies of one spec. A request of nothing but a prompt costs the encoding of that prompt.

    Raises:
        UsageError: the provider does not take such a spec.
    """

    def __init__(self, codec: Codec, spec: Spec) -> None:
        self._codec = codec
        self._spec = spec
        self._encoder = msgspec.json.Encoder(enc_hook=_as_json)
        self._around = self._shared()

    def _shared(self) -> tuple[bytes, bytes] | None:
        """Return what stands before and after the prompt of a plain request, None where that cannot be told.

        Nor are bodies alike that all hold an image: each is then estimated by itself.
        """
        body = self._codec.encode(BatchRequest(prompt=_PROMPT), self._spec)
        try:
            head, *tail = self._json(body).split(self._encoder.encode(_PROMPT))
        except (TypeError, ValueError, OverflowError, RecursionError):
            return None  # each row then says that it cannot be sent, and why
        return (head, tail[0]) if len(tail) == 1 and not may_hold_media(head + tail[0]) else None

    def are_alike(self, request: BatchRequest | PlainRequest) -> bool:
        """Tell whether the body of this request differs from that of any other such request in its prompt only."""
        return self._around is not None and _is_plain(request)

    def plain(self, prompts: list[str]) -> list[msgspec.Raw] | None:
        """Return the bodies of requests of nothing but a prompt; None where bodies differ, or a prompt cannot be sent."""
        if self._around is None or any(map(str.isspace, prompts)):
            return None
        head, tail = self._around
        try:
            # A line feed in a prompt is encoded as two letters, so that only those between prompts are left.
            encoded = self._encoder.encode_lines(prompts).split(b"\n")
        except UnicodeEncodeError:
            return None
        return [msgspec.Raw(head + prompt + tail) for prompt in encoded[:-1]]

    def encode(self, request: BatchRequest | PlainRequest) -> msgspec.Raw:
        """Return the body of one request.

        Raises:
            UsageError: the provider does not take it.
            TypeError, ValueError, OverflowError, RecursionError: it has no JSON form.
        """
        if self._around is not None and _is_plain(request):
            head, tail = self._around
            return msgspec.Raw(b"%b%b%b" % (head, self._encoder.encode(request.prompt), tail))
        if isinstance(request, PlainRequest):
            request = BatchRequest.model_construct(prompt=request.prompt, custom_id=request.custom_id)
        return msgspec.Raw(self._json(self._codec.encode(request, self._spec)))

    def _json(self, body: Any) -> bytes:
        """Return a body as JSON, which has no word for NaN and infinity: msgspec writes them as null."""
        encoded = self._encoder.encode(body)
        if b"null" in encoded:
            _refuse_odd_numbers(body, "")
        return encoded


def are_texts(values: list[str]) -> bool:
    """Tell whether all of these strings can be written."""
    return all(map(str.isascii, values)) or all(map(is_text, values))


def is_text(value: str) -> bool:
    """Tell whether a string can be written: a lone surrogate cannot."""
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


# Fields that differ from row to row without changing anything but the prompt in the body.
_PLAIN = frozenset({"prompt", "custom_id"})


def _is_plain(request: BatchRequest | PlainRequest) -> bool:
    if isinstance(request, PlainRequest):
        return True
    return request.model_fields_set <= _PLAIN and request.prompt is not None


def _refuse_odd_numbers(value: Any, path: str) -> None:
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, float) and not isfinite(value):
        raise ValueError(f"{path.removeprefix('.')} is {value}, which JSON does not have")
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for name, one in inner:
        _refuse_odd_numbers(one, f"{path}.{name}")


def _as_json(value: Any) -> Any:
    """Return a number or an array of numpy as JSON has it."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no JSON form")
