"""The kinds of things that one row is charged for, counted so that nothing is counted twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_batch_provider.models import Usage

KINDS: dict[str, tuple[str, ...]] = {
    "input_tokens": ("input_mtok",),
    "input_audio_tokens": ("input_audio_mtok", "input_mtok"),
    "input_image_tokens": ("input_image_mtok", "input_mtok"),
    "input_video_tokens": ("input_video_mtok", "input_mtok"),
    "cached_tokens": ("cache_read_mtok", "input_mtok"),
    "cached_audio_tokens": ("cache_audio_read_mtok", "cache_read_mtok", "input_mtok"),
    "cache_write_tokens": ("cache_write_5m_mtok", "cache_write_mtok", "input_mtok"),
    "long_cache_write_tokens": ("cache_write_1h_mtok", "cache_write_mtok", "input_mtok"),
    "output_tokens": ("output_mtok",),
    "reasoning_tokens": ("output_reasoning_mtok", "output_mtok"),
    "output_audio_tokens": ("output_audio_mtok", "output_mtok"),
    "output_image_tokens": ("output_image_mtok", "output_mtok"),
    "web_searches": ("web_searches_kcount",),
    "file_searches": ("storage_searches_kcount",),
    "other_tool_calls": (),
    "other_tier_requests": (),
}
"""Field of `Usage` → the price keys of genai-prices that it is charged by, the nearest first; none has a price."""

CACHED = frozenset({"cached_tokens", "cached_audio_tokens"})
TOOLS = frozenset({"web_searches", "file_searches"})


def counted(usage: Usage) -> tuple[int, ...]:
    """Return how many units of each of `KINDS` a row used, in their order.

    The whole (all input, all output) is split into its parts. A part that is told larger than its whole, which no
    provider documents, counts as the whole.
    """
    whole = usage.input_tokens
    cached = min(usage.cached_tokens, whole)
    whole -= cached
    written = min(usage.cache_write_tokens, whole)
    whole -= written
    long_written = min(usage.long_cache_write_tokens, written)
    cached_audio = min(usage.cached_audio_tokens, cached)
    audio = min(max(0, usage.input_audio_tokens - cached_audio), whole)
    whole -= audio
    image = min(usage.input_image_tokens, whole)
    whole -= image
    video = min(usage.input_video_tokens, whole)
    made = usage.output_tokens
    spoken = min(usage.output_audio_tokens, made)
    made -= spoken
    drawn = min(usage.output_image_tokens, made)
    made -= drawn
    thought = min(usage.reasoning_tokens, made)
    return (
        whole - video,
        audio,
        image,
        video,
        cached - cached_audio,
        cached_audio,
        written - long_written,
        long_written,
        made - thought,
        thought,
        spoken,
        drawn,
        usage.web_searches,
        usage.file_searches,
        usage.other_tool_calls,
        usage.other_tier_requests,
    )
