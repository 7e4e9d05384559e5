"""Gemini's batch results, in our words; pure.

Shapes: https://ai.google.dev/api/generate-content, https://ai.google.dev/api/batch-api and google-genai 3.4, read 2026-11.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow_batch_provider.exceptions import Rejected
from airflow_batch_provider.models import Reply, RowError, Usage
from airflow_batch_provider.providers.answers import EMPTY, Answered, call, unreadable
from airflow_batch_provider.providers.untrusted import as_count, as_error, as_object, as_objects, as_text, one_line

if TYPE_CHECKING:
    from airflow_batch_provider.models import Kind, RowStatus

_INT64 = re.compile(r"[0-9]{1,18}")

FINISH = {
    "STOP": "stop",
    "MAX_TOKENS": "max_tokens",
    **dict.fromkeys(
        (
            "SAFETY",
            "RECITATION",
            "LANGUAGE",
            "BLOCKLIST",
            "PROHIBITED_CONTENT",
            "SPII",
            "IMAGE_SAFETY",
            "IMAGE_PROHIBITED_CONTENT",
            "IMAGE_RECITATION",
            "MODEL_ARMOR",
            "ESCALATION",
        ),
        "refusal",
    ),
}
"""`finishReason` → our finish reason."""

BROKEN = frozenset(
    {
        "FINISH_REASON_UNSPECIFIED",
        "OTHER",
        "MALFORMED_FUNCTION_CALL",
        "MALFORMED_RESPONSE",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
        "MISSING_THOUGHT_SIGNATURE",
        "PUP_LIMITED_DISABLED",
        "CONTINUATION",
        "IMAGE_OTHER",
        "NO_IMAGE",
    }
)
"""`finishReason`s of answers that did not come about; asking again may help. One in neither table says nothing bad."""

CODES = {
    1: "CANCELLED",
    2: "UNKNOWN",
    3: "INVALID_ARGUMENT",
    4: "DEADLINE_EXCEEDED",
    5: "NOT_FOUND",
    6: "ALREADY_EXISTS",
    7: "PERMISSION_DENIED",
    8: "RESOURCE_EXHAUSTED",
    9: "FAILED_PRECONDITION",
    10: "ABORTED",
    11: "OUT_OF_RANGE",
    12: "UNIMPLEMENTED",
    13: "INTERNAL",
    14: "UNAVAILABLE",
    15: "DATA_LOSS",
    16: "UNAUTHENTICATED",
}
"""google.rpc.Code, https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto (2026-11)."""

_NUMBERS = {word: number for number, word in CODES.items()}

PERMANENT = frozenset({3, 5, 6, 7, 9, 11, 12, 16})
"""Codes of rows that asking again does not cure; one that is in no table may, for failed rows cost nothing."""

_UNRUN: dict[int, RowStatus] = {1: "cancelled", 4: "expired"}


def inlined(record: dict[str, Any], kind: Kind) -> Reply:
    """Return what one result says that a batch holds itself.

    Raises:
        Rejected: it has no key, so nobody can tell which row it answers.
    """
    key = as_object(record.get("metadata")).get("key")
    if not isinstance(key, str):
        raise Rejected("A result has no key.", code="unreadable_line")
    return reply(key, record, kind)


def reply(key: str, record: dict[str, Any], kind: Kind) -> Reply:
    """Return what one result says about the row of this key."""
    response = record.get("response")
    error = as_error(record.get("error")) or as_error(record.get("status"))
    if response is None or (error and not as_object(response)):
        return _unanswered(key, error)
    if not isinstance(response, dict):
        return unreadable(key)
    answered = Answered(key, usage(response), _field(response, "modelVersion"))
    if kind == "embed":
        return answered.vector(as_object(response.get("embedding")).get("values"))
    return _answer(answered, response)


def _unanswered(key: str, error: dict[str, Any]) -> Reply:
    code = int64(error.get("code")) or _NUMBERS.get(as_text(error.get("status")), 0)
    code = code if code < 1000 else 0
    message = one_line(error.get("message")) or "The request was not executed."
    told = RowError(code=CODES.get(code, f"code_{code}"), message=message, retryable=not _permanent(code))
    return Reply(key=key, status=_UNRUN.get(code, "failed"), error=told)


def _permanent(code: int) -> bool:
    """Return True for a refusal for good; a code above those of google.rpc is one of HTTP."""
    return code in PERMANENT or (400 <= code < 500 and code not in {408, 409, 429, 499})


def _answer(answered: Answered, response: dict[str, Any]) -> Reply:
    candidate = next(iter(as_objects(response.get("candidates"))), {})
    blocked = as_text(_field(as_object(_field(response, "promptFeedback")), "blockReason"))
    word = one_line(_field(candidate, "finishReason"), 80)
    finish = FINISH.get(word, word or None)
    if finish == "refusal" or (blocked and not candidate):
        return answered.refused(f"{blocked or word} {as_text(_field(candidate, 'finishMessage'))}")
    if word in BROKEN:
        return answered.failed(RowError(code=word, message=EMPTY.message, retryable=True), finish)
    # Without the model's thoughts.
    parts = [
        part for part in as_objects(as_object(candidate.get("content")).get("parts")) if part.get("thought") is not True
    ]
    called = [as_object(_field(part, "functionCall")) for part in parts]
    calls = [call(one.get("id"), one.get("name"), one.get("args") or {}) for one in called if one]
    other = {one_line(name, 40) for part in parts for name in part} - _PARTS
    return answered.said([[as_text(part.get("text")) for part in parts]], calls, finish, other)


_PARTS = {"text", "thought", "thoughtSignature", "thought_signature", "functionCall", "function_call"}


def usage(response: dict[str, Any]) -> Usage:
    """Return the tokens of one response; Gemini counts thoughts beside the answer and tool results beside the prompt."""
    told = as_object(_field(response, "usageMetadata"))
    thoughts = _tokens(told, "thoughtsTokenCount")
    tier = as_text(_field(told, "serviceTier")).lower().removeprefix("service_tier_")
    asked = _tokens(told, "promptTokenCount") + _tokens(told, "toolUsePromptTokenCount")
    return Usage(
        input_tokens=asked or _tokens(response, "tokenCount"),
        cached_tokens=_tokens(told, "cachedContentTokenCount"),
        input_audio_tokens=_of_kind(told, "AUDIO", "promptTokensDetails", "toolUsePromptTokensDetails"),
        input_image_tokens=_of_kind(told, "IMAGE", "promptTokensDetails", "toolUsePromptTokensDetails"),
        input_video_tokens=_of_kind(told, "VIDEO", "promptTokensDetails", "toolUsePromptTokensDetails"),
        cached_audio_tokens=_of_kind(told, "AUDIO", "cacheTokensDetails"),
        output_tokens=_tokens(told, "candidatesTokenCount") + thoughts,
        reasoning_tokens=thoughts,
        output_audio_tokens=_of_kind(told, "AUDIO", "candidatesTokensDetails"),
        output_image_tokens=_of_kind(told, "IMAGE", "candidatesTokensDetails"),
        web_searches=_searches(response),
        other_tool_calls=_map_prompts(response),
        other_tier_requests=int(tier not in _USUAL_TIERS),
    )


_USUAL_TIERS = frozenset({"", "unspecified", "standard", "batch"})
# Gemini 3 and later charge each search query, earlier ones a grounded prompt however many it takes; prompts grounded with
# maps have a price of their own. https://ai.google.dev/gemini-api/docs/google-search, read 2026-11.
_BY_PROMPT = re.compile(r"gemini-[12]\b")


def _of_kind(told: dict[str, Any], modality: str, *names: str) -> int:
    """Return the tokens of one modality, summed over these lists."""
    entries = [entry for name in names for entry in as_objects(_field(told, name))]
    return sum(_tokens(entry, "tokenCount") for entry in entries if as_text(entry.get("modality")).upper() == modality)


def _groundings(response: dict[str, Any]) -> list[dict[str, Any]]:
    candidates = as_objects(response.get("candidates"))
    return [as_object(_field(candidate, "groundingMetadata")) for candidate in candidates]


def _searches(response: dict[str, Any]) -> int:
    asked = [_field(grounding, "webSearchQueries") for grounding in _groundings(response)]
    queries = sum(len(words) for words in asked if isinstance(words, list))
    by_prompt = _BY_PROMPT.match(as_text(_field(response, "modelVersion")))
    return min(queries, 1) if by_prompt else queries


def _map_prompts(response: dict[str, Any]) -> int:
    chunks = [chunk for found in _groundings(response) for chunk in as_objects(_field(found, "groundingChunks"))]
    return int(any("maps" in chunk for chunk in chunks))


def _tokens(fields: dict[str, Any], name: str) -> int:
    return int64(_field(fields, name))


def int64(value: object) -> int:
    """Return a count, which JSON of protocol buffers writes as a text; 0 if it is not one."""
    return as_count(int(value) if isinstance(value, str) and _INT64.fullmatch(value) else value)


def _field(fields: dict[str, Any], name: str) -> Any:
    """Return the field by its camelCase name, or by the snake_case one that some results carry."""
    if name in fields:
        return fields[name]
    return fields.get(re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", name))
