"""Images in miniature, as requests carry them."""

from __future__ import annotations

import base64
import struct

import pytest


def png(width, height, size=0):
    return b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + struct.pack(">II", width, height) + b"\x08\x02" + bytes(size)


def gif(width, height, size=0):
    return b"GIF89a" + struct.pack("<HH", width, height) + bytes(size)


def jpeg(width, height, size=0):
    exif = b"\xff\xe1" + struct.pack(">H", 40_002) + bytes(40_000)
    frame = b"\xff\xff\xc2" + struct.pack(">HBHHB", 17, 8, height, width, 3)
    return b"\xff\xd8" + exif + frame + bytes(size)


def webp(width, height, size=0):
    sides = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    return b"RIFF\0\0\0\0WEBPVP8X\n\0\0\0\0\0\0\0" + sides + bytes(size)


def lossy(width, height, size=0):
    return b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a" + struct.pack("<HH", width, height) + bytes(size)


def lossless(width, height, size=0):
    bits = struct.pack("<I", (width - 1) | (height - 1) << 14)
    return b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f" + bits + bytes(size + 8)


KINDS = {made.__name__: made for made in (png, gif, jpeg, webp, lossy, lossless)}


@pytest.fixture
def photo():
    """Makes the base64 of an image of these sides, `size` bytes heavier than its head."""

    def make(kind, width, height, size=0):
        return base64.b64encode(KINDS[kind](width, height, size)).decode()

    return make
