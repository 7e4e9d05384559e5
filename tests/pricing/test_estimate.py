"""A request is estimated before it is sent: text by its bytes, media by the providers' documented rules."""

from __future__ import annotations

import base64
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_batch_provider.pricing import estimate
from airflow_batch_provider.pricing.images import Encoded, Size, image_size


def claude(*content, model="claude-haiku-4-5"):
    """The line of one row at Anthropic."""
    body = {"model": model, "max_tokens": 10, "messages": [{"role": "user", "content": list(content)}]}
    return json.dumps({"custom_id": "a", "params": body}).encode()


def gpt(*content, model="gpt-4o"):
    """The line of one row at OpenAI, chat completions."""
    body = {"model": model, "messages": [{"role": "user", "content": list(content)}]}
    return json.dumps({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}).encode()


def gemini(*parts, **config):
    """The line of one row at Gemini."""
    body = {"contents": [{"role": "user", "parts": list(parts)}], "generationConfig": config}
    return json.dumps({"key": "a", "request": body}).encode()


def source(data, media="image/png"):
    return {"type": "base64", "media_type": media, "data": data}


def input_tokens(line, model=""):
    """Tokens of a line, media among them."""
    return estimate(line, model).usage.input_tokens


def image(line, model=""):
    """Tokens of the images of a line."""
    return estimate(line, model).usage.input_image_tokens


def test_text_is_four_bytes_a_token():
    """The whole line, envelope included."""
    line = claude({"type": "text", "text": "x" * 4000})

    assert input_tokens(line) == len(line) // 4
    assert input_tokens(b"{}") == 1


def test_ten_photos_of_a_megabyte_are_16_thousand_tokens(photo):
    """By their bytes they would be 3.3 million."""
    photos = [
        {"type": "image", "source": source(photo("jpeg", 4000, 3000, 1_000_000), "image/jpeg")} for _ in range(10)
    ]

    assert 15_000 < input_tokens(claude(*photos)) < 17_000


@pytest.mark.parametrize("kind", ["png", "gif", "jpeg", "webp", "lossy", "lossless"])
def test_the_size_of_an_image_is_read_from_its_head(photo, kind):
    """Also behind 40 kB of a camera's notes, in text broken into lines, and in the alphabet for URLs."""
    data = photo(kind, 640, 480, 1000)

    for text in (data, "\n".join(data[i : i + 76] for i in range(0, len(data), 76)), data.replace("+", "-")):
        assert image_size(Encoded(text)) == Size(640, 480)


@given(
    st.binary(max_size=60),
    st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF0000WEBPVP8 "]),
)
def test_a_broken_image_has_no_size_or_a_plausible_one(rest, head):
    """Never an exception."""
    found = image_size(Encoded(base64.b64encode(head + rest).decode()))

    assert found is None or min(found.width, found.height) >= 1


@given(st.text(max_size=50))
def test_text_that_is_not_base64_has_no_size(text):
    """Also letters of other scripts."""
    assert image_size(Encoded(text)) is None


def test_endless_segments_of_a_jpeg_are_not_looked_through():
    """Two bytes each, for ever."""
    data = b"\xff\xd8" + b"\xff\xe0\x00\x02" * 100_000

    assert image_size(Encoded(base64.b64encode(data).decode())) is None


@pytest.mark.parametrize(
    ("model", "sides", "tokens"),
    [
        # Examples of the vision guide: 200 x 200 is 54 tokens, 1000 x 1000 is 1334, 1092 x 1092 is 1590.
        ("claude-haiku-4-5", (200, 200), 54),
        ("claude-sonnet-4-20250514", (1000, 1000), 1334),
        ("claude-3-5-sonnet-20241022", (1092, 1092), 1590),
        ("claude-opus-4-6", (8000, 8000), 1600),
        ("claude-opus-4-7", (2000, 1500), 4000),
        ("claude-opus-5-5", (8000, 8000), 4784),
        ("claude-haiku-5-5-20261001", (8000, 200), 220),
    ],
)
def test_claude_counts_an_image_by_its_area(photo, model, sides, tokens):
    """Width x height / 750 of what is left after scaling down, at most what the model sees."""
    assert image(claude({"type": "image", "source": source(photo("png", *sides))}, model=model)) == tokens


@pytest.mark.parametrize(
    ("model", "detail", "sides", "tokens"),
    [
        # Examples of OpenAI's guide: 1024 x 1024 in high detail is 765 tokens, 2048 x 4096 is 1105, any in low is 85.
        ("gpt-4o", "high", (1024, 1024), 765),
        ("gpt-4o", "auto", (2048, 4096), 1105),
        ("gpt-4.1", "low", (4096, 8192), 85),
        ("gpt-4o-mini", "low", (100, 100), 2833),
        ("gpt-5", "high", (1024, 1024), 630),
        ("o3-2025-04-16", "high", (1024, 1024), 675),
        # 1024 x 1024 is 1,024 patches; 1800 x 2400 is scaled down to 1,452.
        ("gpt-4.1-mini", "high", (1024, 1024), 1659),
        ("o4-mini", "high", (1800, 2400), 2498),
        ("gpt-5.4", "high", (1024, 1024), 1229),
        ("gpt-5.4", "original", (3200, 3200), 12_000),
        ("gpt-6-astra", "", (6000, 4000), 2880),
    ],
)
def test_openai_counts_tiles_or_patches(photo, model, detail, sides, tokens):
    """By model and detail, in both shapes of a body."""
    url = "data:image/png;base64," + photo("png", *sides)
    said = {"detail": detail} if detail else {}

    counted = image(gpt({"type": "image_url", "image_url": {"url": url, **said}}, model=model))

    assert counted == pytest.approx(tokens, rel=0.02)
    assert image(gpt({"type": "input_image", "image_url": url, **said}, model=model)) == counted


@pytest.mark.parametrize(
    ("model", "sides", "tokens"),
    [
        ("gemini-2.5-flash", (384, 384), 258),
        ("gemini-2.5-flash", (960, 540), 258 * 6),
        ("gemini-2.5-pro", (768, 768), 258 * 4),
        ("gemini-2.5-flash", (4000, 3000), 258 * 12),
        ("gemini-3-flash-preview", (4000, 3000), 1120),
        ("gemini-nano-banana-2.1", (384, 384), 258),
        ("", (384, 384), 258),
    ],
)
def test_gemini_counts_tiles_and_since_3_the_resolution(photo, model, sides, tokens):
    """In both spellings."""
    data = photo("png", *sides)

    assert image(gemini({"inlineData": {"mimeType": "image/png", "data": data}}), model) == tokens
    assert image(gemini({"inline_data": {"mime_type": "image/png", "data": data}}), model) == tokens


def test_gemini_takes_the_resolution_that_is_asked(photo):
    """Of the request, or of the part, which wins."""
    part = {"inlineData": {"mimeType": "image/png", "data": photo("png", 4000, 3000)}}
    own = {**part, "mediaResolution": {"level": "MEDIA_RESOLUTION_ULTRA_HIGH"}}

    line = gemini(part, own, mediaResolution="MEDIA_RESOLUTION_LOW")

    assert image(line, "gemini-3-pro-preview") == 280 + 2240


def test_an_image_that_is_only_referred_to_counts_as_a_large_one():
    """Nobody opens it while planning."""
    assert image(claude({"type": "image", "source": {"type": "url", "url": "https://x/y.png"}})) == 1600
    assert image(gpt({"type": "image_url", "image_url": {"url": "https://x/y.png"}})) == 85 + 8 * 170
    assert image(gpt({"type": "input_image", "file_id": "file-1"}, model="gpt-5.4")) == 3000


def test_an_image_in_a_tools_result_is_found(photo):
    """Wherever it stands."""
    block = {"type": "image", "source": source(photo("png", 200, 200))}

    assert image(claude({"type": "tool_result", "tool_use_id": "t", "content": [block]})) == 54


def wav(seconds, rate=32_000):
    head = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0" + struct.pack("<II", rate // 2, rate) + bytes(12)
    return base64.b64encode(head + bytes(seconds * rate - len(head))).decode()


def test_sound_is_counted_by_the_second():
    """32 tokens at Gemini, 10 at OpenAI; sound other than WAV counts as 64 kbit/s."""
    heard = estimate(gemini({"inlineData": {"mimeType": "audio/wav", "data": wav(30)}})).usage
    asked = estimate(gpt({"type": "input_audio", "input_audio": {"data": wav(30), "format": "wav"}})).usage
    mp3 = base64.b64encode(b"ID3" + bytes(79_997)).decode()

    assert (heard.input_audio_tokens, asked.input_audio_tokens) == (30 * 32, 30 * 10)
    assert heard.input_tokens < 30 * 32 + 100
    assert estimate(gemini({"inlineData": {"mimeType": "audio/mp3", "data": mp3}})).usage.input_audio_tokens == 320


PDF = b"%PDF-1.7\n" + b"<< /Type /Pages /Count 3 >>\n" + b"<< /Type /Page /Parent 1 0 R /Contents 5 0 R >>\n" * 3
PDF += bytes(300_000)


def test_a_pdf_is_counted_by_its_pages():
    """At Anthropic and OpenAI text and an image each, at Gemini an image."""
    data = base64.b64encode(PDF).decode()
    document = {"type": "document", "source": source(data, "application/pdf")}
    file = {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{data}", "filename": "a.pdf"}}
    inline = {"inlineData": {"mimeType": "application/pdf", "data": data}}

    assert input_tokens(claude(document)) == pytest.approx(3 * (3000 + 1600), abs=60)
    assert input_tokens(gpt(file, model="gpt-5.4")) == pytest.approx(3 * (3000 + 3000), abs=60)
    assert input_tokens(gemini(inline), "gemini-2.5-flash") == pytest.approx(3 * 258, abs=60)
    assert input_tokens(gemini(inline), "gemini-3-flash-preview") == pytest.approx(3 * 560, abs=60)


def test_pages_that_are_packed_away_are_guessed_by_size():
    """50 kB each; a text document is text."""
    packed = base64.b64encode(b"%PDF-1.7\n" + bytes(199_991)).decode()
    text = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x" * 4000}}

    inline = {"inlineData": {"mimeType": "application/pdf", "data": packed}}

    assert input_tokens(gemini(inline), "gemini-2.5-flash") == pytest.approx(4 * 258, abs=60)
    assert input_tokens(claude(text)) == pytest.approx(1000, abs=60)


@pytest.mark.parametrize(
    ("line", "unknown"),
    [
        (gemini({"inlineData": {"mimeType": "video/mp4", "data": "AAAA"}}), "input_video_tokens"),
        (gemini({"fileData": {"mimeType": "audio/mp3", "fileUri": "files/x"}}), "input_audio_tokens"),
        (gemini({"fileData": {"mimeType": "application/pdf", "fileUri": "files/x"}}), "input_tokens"),
        (claude({"type": "document", "source": {"type": "file", "file_id": "f"}}), "input_tokens"),
        (gpt({"type": "input_file", "file_id": "f"}), "input_tokens"),
    ],
)
def test_what_cannot_be_estimated_is_named(line, unknown):
    """Video, and files that are only referred to."""
    assert estimate(line).unknown == {unknown}


ODD = st.recursive(
    st.none() | st.integers() | st.text(max_size=20) | st.sampled_from(["image", "base64", "audio/wav", "data:image/png;base64,"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["type", "source", "data", "image_url", "input_audio", "file", "file_data", "inlineData", "fileData", "mimeType",
             "generationConfig", "mediaResolution", "model", "params", "body"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(ODD)
def test_any_body_has_an_estimate(body):
    """A wrong body is refused by the provider, not by the estimate."""
    for shape in (body, {"type": "image", "source": body}, {"type": "image_url", "image_url": body}, {"inlineData": body},
                  {"type": "input_audio", "input_audio": body}, {"type": "file", "file": body}):  # fmt: skip
        assert input_tokens(json.dumps({"params": {"messages": [shape]}}).encode()) >= 1


def test_a_body_that_nests_beyond_reason_is_text():
    """No recursion ends planning."""
    body = b'{"params":' + b'[{"image":' * 50_000 + b"1" + b"}]" * 50_000 + b"}"

    assert input_tokens(body) == len(body) // 4
