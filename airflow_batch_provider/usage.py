"""What the answers used: tokens and tools, counted alike for all providers."""

from __future__ import annotations

from typing import Annotated

import msgspec

from airflow_batch_provider.frozen import FrozenStruct

Count = Annotated[int, msgspec.Meta(ge=0)]


class Usage(FrozenStruct, frozen=True, kw_only=True, omit_defaults=True):
    """Usage of a row, counted alike for all providers; unit: tokens, or uses of a tool.

    A count that is a part of another one is counted in both. In JSON the five counts that everybody knows are always there,
    because msgspec leaves a default out and not what a factory made; the others only where there is any.

    Attributes:
        input_tokens: all input, cached reads and cache writes included.
        cached_tokens: the part of the input that was read from a cache.
        cache_write_tokens: the part of the input that was written to a cache.
        long_cache_write_tokens: the part of the cache writes that lives longer than usual: one hour at Anthropic,
            twelve at OpenAI.
        input_audio_tokens: the part of the input that was audio.
        input_image_tokens: the part of the input that was images, as far as the provider tells.
        input_video_tokens: the part of the input that was video.
        cached_audio_tokens: the part of the audio that was read from a cache.
        output_tokens: all output, reasoning included.
        reasoning_tokens: the part of the output that was reasoning.
        output_audio_tokens: the part of the output that was audio.
        output_image_tokens: the part of the output that was images.
        web_searches: web searches that are charged: calls at Anthropic and OpenAI, queries of Gemini 3 and later,
            grounded prompts of earlier Gemini.
        file_searches: calls of OpenAI's file search.
        other_tool_calls: uses of the provider's tools that are charged by something that no reply tells, such as the
            hours of a code container.
        other_tier_requests: requests that were answered under a tier, a speed or in a region with prices of its own.
    """

    input_tokens: Count = msgspec.field(default_factory=int)
    cached_tokens: Count = msgspec.field(default_factory=int)
    cache_write_tokens: Count = msgspec.field(default_factory=int)
    long_cache_write_tokens: Count = 0
    input_audio_tokens: Count = 0
    input_image_tokens: Count = 0
    input_video_tokens: Count = 0
    cached_audio_tokens: Count = 0
    output_tokens: Count = msgspec.field(default_factory=int)
    reasoning_tokens: Count = msgspec.field(default_factory=int)
    output_audio_tokens: Count = 0
    output_image_tokens: Count = 0
    web_searches: Count = 0
    file_searches: Count = 0
    other_tool_calls: Count = 0
    other_tier_requests: Count = 0

    def __add__(self, other: Usage) -> Usage:
        """Return the sum, field by field."""
        return Usage(**{name: getattr(self, name) + getattr(other, name) for name in Usage.__struct_fields__})

    def __mul__(self, rows: int) -> Usage:
        """Return the sum of so many rows with this usage."""
        return Usage(**{name: getattr(self, name) * rows for name in Usage.__struct_fields__})

    def told(self) -> dict[str, int]:
        """Return every field that is not 0, by its name."""
        return {name: count for name in Usage.__struct_fields__ if (count := getattr(self, name))}
