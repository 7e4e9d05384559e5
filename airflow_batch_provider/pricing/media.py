"""Where a request body holds something else than text: the shapes of the three providers.

Shapes: the content blocks of anthropic 2.12, the content parts of openai 3.54 (chat completions and responses), the parts
of google-genai 3.4 in both spellings; read 2026-11.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

_Provider = Literal["anthropic", "openai", "gemini"]
_Kind = Literal["image", "audio", "video", "document", "other"]


@dataclass(frozen=True)
class Media:
    """One image, sound or file of a request.

    Attributes:
        provider: whose shape, and so whose rule.
        data: base64; None where the file is only referred to.
        detail: what the request says about the resolution, in the provider's word.
        model: the model that the body names; empty where it names none.
    """

    provider: _Provider
    kind: _Kind
    data: str | None = None
    detail: str = ""
    model: str = ""

    def asked_by(self, model: str, resolution: str) -> Media:
        """Return the same as part of a request to this model, with this resolution where it has none of its own."""
        return replace(self, model=model, detail=self.detail or _resolution(resolution))


def media_of(node: dict[str, Any]) -> Media | None:
    """Return the media that this part of a body is, None when it is something else."""
    word = node.get("type")
    if not isinstance(word, str):
        return _gemini(node)
    if word in ("image", "document"):
        return _anthropic(node, "image" if word == "image" else "document")
    read = _OPENAI.get(word)
    return read(node) if read else None


def _anthropic(node: dict[str, Any], kind: _Kind) -> Media | None:
    source = node.get("source")
    if not isinstance(source, dict):
        return None
    if source.get("type") == "base64":
        return Media("anthropic", kind, _text(source.get("data")))
    return Media("anthropic", kind) if source.get("type") in ("url", "file") else None


def _chat_image(node: dict[str, Any]) -> Media:
    image = node.get("image_url")
    image = image if isinstance(image, dict) else {"url": image}
    return Media("openai", "image", _of_url(image.get("url")), str(image.get("detail") or ""))


def _response_image(node: dict[str, Any]) -> Media:
    return Media("openai", "image", _of_url(node.get("image_url")), str(node.get("detail") or ""))


def _sound(node: dict[str, Any]) -> Media:
    sound = node.get("input_audio")
    return Media("openai", "audio", _text(sound.get("data")) if isinstance(sound, dict) else None)


def _file(node: dict[str, Any]) -> Media:
    told = node["file"] if isinstance(node.get("file"), dict) else node
    given = told.get("file_data")
    data = _of_url(given) or _text(given)
    image = isinstance(given, str) and given.startswith("data:image/")
    return Media("openai", "image" if image else "document", data)


_OPENAI = {
    "image_url": _chat_image,
    "input_image": _response_image,
    "input_audio": _sound,
    "file": _file,
    "input_file": _file,
}


def _gemini(node: dict[str, Any]) -> Media | None:
    inline = node.get("inlineData") or node.get("inline_data")
    linked = node.get("fileData") or node.get("file_data")
    told = inline or linked
    if not isinstance(told, dict):
        return None
    mime = str(told.get("mimeType") or told.get("mime_type") or "")
    level = node.get("mediaResolution") or node.get("media_resolution")
    detail = _resolution(str(level.get("level") if isinstance(level, dict) else level or ""))
    data = _text(told.get("data")) if inline else None
    return Media("gemini", _kind(mime), data, detail)


def _kind(mime: str) -> _Kind:
    if mime == "application/pdf":
        return "document"
    match mime.partition("/")[0]:
        case "image":
            return "image"
        case "audio":
            return "audio"
        case "video":
            return "video"
    return "other"


def _resolution(word: str) -> str:
    """Return the short word of `MEDIA_RESOLUTION_HIGH`; empty for one that says nothing."""
    short = word.lower().removeprefix("media_resolution_")
    return "" if short in ("unspecified", "none") else short


def _of_url(url: object) -> str | None:
    """Return the base64 of a data URL, None for one that points elsewhere."""
    if not isinstance(url, str) or not url.startswith("data:"):
        return None
    head, _, data = url.partition(",")
    return data if head.endswith(";base64") else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
