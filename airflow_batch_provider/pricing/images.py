"""How many tokens an image is, by each provider's documented rule; a size is read from the head of the file."""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as Base64Error
from dataclasses import dataclass
from math import ceil, floor, sqrt

# A JPEG has a few dozen segments before its frame; one that has more is not looked through.
_MOST_SEGMENTS = 500


class Encoded:
    """The bytes of a base64 text, decoded only where they are read."""

    def __init__(self, text: str) -> None:
        plain = text if text.isascii() and not re.search(r"\s", text[:200]) else "".join(text.split())
        self._text = plain

    def __len__(self) -> int:
        return len(self._text.rstrip("=")) * 3 // 4

    def read(self, start: int, size: int) -> bytes:
        """Return at most so many bytes from there; fewer, or none, where the text ends or is not base64."""
        first = start // 3 * 4
        quads = self._text[first : first + (size // 3 + 2) * 4].replace("-", "+").replace("_", "/").rstrip("=")
        try:
            decoded = b64decode(quads[: len(quads) - (len(quads) % 4 == 1)] + "==")
        except (Base64Error, ValueError):
            return b""
        return decoded[start % 3 : start % 3 + size]


@dataclass(frozen=True)
class Size:
    """Pixels of an image, each side at least 1."""

    width: int
    height: int

    def within(self, longest: float) -> Size:
        """Return the size scaled down so that no side is longer."""
        return self.scaled(min(1.0, longest / max(self.width, self.height)))

    def scaled(self, factor: float) -> Size:
        """Return the size times a factor, at least one pixel."""
        return Size(max(1, int(self.width * factor)), max(1, int(self.height * factor)))

    def squares(self, side: int) -> int:
        """Return how many squares cover the image."""
        return ceil(self.width / side) * ceil(self.height / side)


def image_size(data: Encoded) -> Size | None:
    """Return the size that the head of a PNG, JPEG, GIF or WebP file tells, None when it tells none."""
    head = data.read(0, 32)
    sides: tuple[int, int] | None = None
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        sides = int.from_bytes(head[16:20]), int.from_bytes(head[20:24])
    elif head.startswith((b"GIF87a", b"GIF89a")):
        sides = int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little")
    elif head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        sides = _webp(head)
    elif head.startswith(b"\xff\xd8"):
        sides = _jpeg(data)
    return Size(*sides) if sides and min(sides) > 0 else None


def _webp(head: bytes) -> tuple[int, int] | None:
    if head[12:16] == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if head[12:16] == b"VP8 ":
        return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
    return None


def _jpeg(data: Encoded) -> tuple[int, int] | None:
    """Return width and height of the frame header, which follows segments that say how long they are."""
    at = 2
    for _ in range(_MOST_SEGMENTS):
        segment = data.read(at, 9)
        if len(segment) < 9 or segment[0] != 0xFF:
            return None
        marker = segment[1]
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            return int.from_bytes(segment[7:9]), int.from_bytes(segment[5:7])
        # A marker may be filled up with further 0xFF.
        at += 1 if marker == 0xFF else 2 + max(2, int.from_bytes(segment[2:4]))
    return None


# Claude: width x height / 750, scaled down to 1,568 pixels and about 1,600 tokens, as
# https://platform.claude.com/docs/en/build-with-claude/vision says. For Claude 4.7 and later 2,576 pixels and 4,784 tokens
# are assumed.
_CLAUDE_PIXELS = 750
_CLAUDE = (1568, 1600)
_CLAUDE_SHARP = (2576, 4784)
_CLAUDE_VERSION = re.compile(r"claude-(?:[a-z]+-)?(\d{1,2})(?:[-.](\d{1,2}))?(?![\d])")
_SHARP_SINCE = (4, 7)


def claude_tokens(model: str, size: Size | None) -> int:
    """Return tokens of an image at Anthropic; the most that one costs when its size is not known."""
    longest, most = _CLAUDE_SHARP if _claude_version(model) >= _SHARP_SINCE else _CLAUDE
    if size is None:
        return most
    seen = size.within(longest)
    return min(most, ceil(seen.width * seen.height / _CLAUDE_PIXELS))


def _claude_version(model: str) -> tuple[int, int]:
    found = _CLAUDE_VERSION.search(model)
    return (int(found[1]), int(found[2] or 0)) if found else (0, 0)


@dataclass(frozen=True)
class Tiles:
    """OpenAI's rule for older models: a base, and so many tokens for each tile of 512 pixels."""

    base: int
    tile: int

    def tokens(self, size: Size | None, detail: str) -> int:
        """Return tokens of one image."""
        if detail == "low":
            return self.base
        # Within 2,048 pixels, then the shorter side within 768: no image has more than 2 x 4 tiles.
        seen = (size or Size(2048, 768)).within(2048)
        seen = seen.scaled(min(1.0, 768 / min(seen.width, seen.height)))
        return self.base + self.tile * seen.squares(512)


@dataclass(frozen=True)
class Patches:
    """OpenAI's rule for newer models: patches of 32 pixels, at most `most`, times a factor."""

    most: int
    factor: float

    def tokens(self, size: Size | None, detail: str) -> int:
        """Return tokens of one image."""
        most = _ORIGINAL if detail == "original" else self.most
        if size is None:
            return ceil(most * self.factor)
        patches = size.squares(32)
        return ceil((patches if patches <= most else _shrunk(size, most)) * self.factor)


def _shrunk(size: Size, most: int) -> int:
    """Return the patches of an image that is scaled down until whole patches of its shorter fraction fit."""
    factor = sqrt(most * 32**2 / (size.width * size.height))
    across, down = size.width * factor / 32, size.height * factor / 32
    factor *= min(max(1, floor(across)) / across, max(1, floor(down)) / down)
    return min(most, size.scaled(factor).squares(32))


_ORIGINAL = 10_000

# The first prefix that fits; rules by https://developers.openai.com/api/docs/guides/images-vision. For GPT-5.4 and later, and
# for models that are not listed here, patches with a limit of 2,500 (10,000 in `original` detail) times 1.2 are assumed.
_OPENAI: tuple[tuple[str, Tiles | Patches], ...] = (
    ("gpt-4o-mini", Tiles(2833, 5667)),
    ("gpt-4o", Tiles(85, 170)),
    ("gpt-4.1-mini", Patches(1536, 1.62)),
    ("gpt-4.1-nano", Patches(1536, 2.46)),
    ("gpt-4", Tiles(85, 170)),
    ("computer-use", Tiles(65, 129)),
    ("o4-mini", Patches(1536, 1.72)),
    ("o1", Tiles(75, 150)),
    ("o3", Tiles(75, 150)),
    ("gpt-5-mini", Patches(1536, 1.62)),
    ("gpt-5-nano", Patches(1536, 2.46)),
    ("gpt-5.4-mini", Patches(1536, 1.62)),
    ("gpt-5.4-nano", Patches(1536, 2.46)),
    ("gpt-5.", Patches(2500, 1.2)),
    ("gpt-5", Tiles(70, 140)),
    ("", Patches(2500, 1.2)),
)


def openai_tokens(model: str, size: Size | None, detail: str) -> int:
    """Return tokens of an image at OpenAI; the most that one costs when its size is not known."""
    rule = next(rule for prefix, rule in _OPENAI if model.startswith(prefix))
    return rule.tokens(size, detail)


# Gemini 2: 258 tokens up to 384 pixels, else 258 for each tile of min(sides) / 1.5 pixels, between 256 and 768. Gemini 3 and
# later: by media resolution, high when nothing is said. By https://ai.google.dev/gemini-api/docs/image-understanding and
# …/media-resolution; that a larger image is first scaled down to 3,072 pixels is assumed.
GEMINI_TILE = 258
_GEMINI_RESOLUTION = {"low": 280, "medium": 560, "high": 1120, "ultra_high": 2240}
_GEMINI_VERSION = re.compile(r"gemini-(?:[a-z]+-)*(\d+)")
BY_RESOLUTION_SINCE = 3


def gemini_version(model: str) -> int:
    """Return the first number of a Gemini model's version, 0 when it has none."""
    found = _GEMINI_VERSION.search(model[:100])
    return int(found[1][:4]) if found else 0


def gemini_tokens(model: str, size: Size | None, detail: str) -> int:
    """Return tokens of an image at Gemini; the most that one costs when its size is not known."""
    if gemini_version(model) >= BY_RESOLUTION_SINCE:
        return _GEMINI_RESOLUTION.get(detail, _GEMINI_RESOLUTION["high"])
    seen = (size or Size(3072, 3072)).within(3072)
    if max(seen.width, seen.height) <= 384:
        return GEMINI_TILE
    return GEMINI_TILE * seen.squares(min(768, max(256, int(min(seen.width, seen.height) / 1.5))))
