"""How many tokens a request will be, before it is sent: text by its bytes, media by the providers' documented rules.

Text is four bytes a token. Images, sound and documents are never counted by the bytes of their base64.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_batch_provider.models import Usage
from airflow_batch_provider.pricing.images import (
    BY_RESOLUTION_SINCE,
    GEMINI_TILE,
    Encoded,
    claude_tokens,
    gemini_tokens,
    gemini_version,
    image_size,
    openai_tokens,
)
from airflow_batch_provider.pricing.media import Media, media_of

if TYPE_CHECKING:
    from collections.abc import Iterator

# English text has about four bytes per token with the tokenizers of all three providers; an estimate, never a bill.
BYTES_PER_TOKEN = 4


# Text of a page, 1,500 to 3,000 tokens (https://platform.claude.com/docs/en/build-with-claude/pdf-support, read 2026-11),
# next to the page as an image. Gemini charges a page as one image of medium resolution.
_PAGE_TEXT = 3000
_GEMINI_PAGE = 560
_PAGE = re.compile(rb"/Type\s*/Page(?![a-zA-Z])")
_PAGE_COUNT = re.compile(rb"/Count\s+(\d{1,5})(?!\d)")
# Where a PDF keeps its pages compressed, 50 kB a page are assumed.
_PAGE_BYTES = 50_000

# Tokens of a second of sound: https://ai.google.dev/gemini-api/docs/audio; https://developers.openai.com/api/docs/guides/
# realtime-costs (one for 100 ms). Read 2026-11.
_SECOND = {"gemini": 32, "openai": 10}
# Sound that is not WAV: 64 kbit/s are assumed.
_SOUND_BYTES = 8000
_WAV_HEAD = 44


@dataclass(frozen=True)
class Estimate:
    """The expected usage of one request.

    Attributes:
        usage: input only.
        unknown: fields of `Usage` that hold more than is told here, because a file is only referred to, or has a kind
            for which no rule is known.
    """

    usage: Usage = field(default_factory=Usage)
    unknown: frozenset[str] = frozenset()


def text_tokens(size: int) -> int:
    """Return the input tokens of so many bytes of text, at least 1."""
    return size // BYTES_PER_TOKEN or 1


def may_hold_media(body: bytes) -> bool:
    """Tell whether a body has any of the words under which media stand; one without them is not parsed."""
    # What two of the words begin with is looked for first: four passes over most bodies are quicker than six.
    return (
        (b'"i' in body and (b'"image' in body or b'"input_' in body))
        or b'"document"' in body
        or b'"file' in body
        or (b"nline" in body and (b"nlineData" in body or b"nline_data" in body))
    )


def estimate(body: bytes, model: str = "") -> Estimate:
    """Return what a request will use as input, by modality."""
    size = len(body)
    found = list(_media(body)) if may_hold_media(body) else []
    counts = {"input_image_tokens": 0, "input_audio_tokens": 0, "document": 0}
    unknown = set()
    for media in found:
        size -= len(media.data or "")
        match media.kind:
            case "image":
                counts["input_image_tokens"] += _image(media, media.model or model)
            case "audio" if media.data:
                counts["input_audio_tokens"] += _sound(media)
            case "document" if media.data:
                counts["document"] += _document(media, media.model or model)
            case "audio" | "video":
                unknown.add(f"input_{media.kind}_tokens")
            case _:
                unknown.add("input_tokens")
    total = text_tokens(size) + sum(counts.values())
    del counts["document"]
    return Estimate(Usage(input_tokens=total, **counts), frozenset(unknown))


def _media(body: bytes) -> Iterator[Media]:
    """Yield what is not text, wherever it stands; a body that cannot be parsed is text."""
    try:
        waiting: list[Any] = [msgspec.json.decode(body)]
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return
    model, resolution = _request(waiting[0])
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
        elif isinstance(node, dict):
            media = media_of(node)
            if media:
                yield media.asked_by(model, resolution)
            else:
                waiting += [value for value in node.values() if isinstance(value, dict | list)]


def _request(line: Any) -> tuple[str, str]:
    """Return the model and the media resolution that a request names, which may stand in the envelope of a batch."""
    told = line if isinstance(line, dict) else {}
    request = next((told[word] for word in ("params", "body", "request") if isinstance(told.get(word), dict)), told)
    config = request.get("generationConfig")
    resolution = config.get("mediaResolution") if isinstance(config, dict) else None
    model = request.get("model")
    return model if isinstance(model, str) else "", resolution if isinstance(resolution, str) else ""


def _image(media: Media, model: str) -> int:
    size = image_size(Encoded(media.data)) if media.data else None
    if media.provider == "anthropic":
        return claude_tokens(model, size)
    if media.provider == "gemini":
        return gemini_tokens(model, size, media.detail)
    return openai_tokens(model, size, media.detail)


def _sound(media: Media) -> int:
    data = Encoded(media.data or "")
    head = data.read(0, _WAV_HEAD)
    told = int.from_bytes(head[28:32], "little") if head.startswith(b"RIFF") and head[8:12] == b"WAVE" else 0
    return -(-len(data) // (told or _SOUND_BYTES)) * _SECOND[media.provider]


def _document(media: Media, model: str) -> int:
    """Return the tokens of a PDF's pages, each as text and as an image."""
    data = Encoded(media.data or "")
    pages = _pages(data.read(0, len(data)))
    if media.provider == "gemini":
        return pages * (_GEMINI_PAGE if gemini_version(model) >= BY_RESOLUTION_SINCE else GEMINI_TILE)
    page = claude_tokens(model, None) if media.provider == "anthropic" else openai_tokens(model, None, media.detail)
    return pages * (_PAGE_TEXT + page)


def _pages(pdf: bytes) -> int:
    counted = max([len(_PAGE.findall(pdf)), *(int(count) for count in _PAGE_COUNT.findall(pdf))])
    # `/Count` also counts outlines, and no page is smaller than a hundred bytes.
    return max(1, min(counted, len(pdf) // 100)) if counted else -(-len(pdf) // _PAGE_BYTES)
