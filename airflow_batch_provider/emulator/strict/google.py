"""What Gemini refuses in a request.

Field names: REST reference of generateContent, EmbedContentRequest and Schema (https://ai.google.dev/api, 2026-11), and
google-genai 3.4.0, batches.py (2026-11). A name may be spelt in snake_case too.
"""

from __future__ import annotations

import functools
import json
import re
from typing import TYPE_CHECKING, Any

from airflow_batch_provider.emulator.answers import Unacceptable
from airflow_batch_provider.emulator.google.problems import pick
from airflow_batch_provider.emulator.strict.tables import words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow_batch_provider.emulator.jsonl import Json

_GENERATE = words("""
    cachedContent contents generationConfig labels model safetySettings serviceTier store systemInstruction toolConfig tools
""")
_EMBED = words("""
    audioTrackExtraction autoTruncate content documentOcr embedContentConfig model outputDimensionality taskType title
""")
_CONFIG = words("""
    audioTimestamp audioTranscriptionConfig candidateCount enableAffectiveDialog enableEnhancedCivicAnswers frequencyPenalty
    imageConfig logprobs maxOutputTokens mediaResolution presencePenalty responseFormat responseJsonSchema responseLogprobs
    responseMimeType responseModalities responseSchema seed speechConfig stopSequences temperature thinkingConfig topK topP
    translationConfig
""")
# zed-industries/zed#44875 (2025-12), openswarm-ai/openswarm#24 (2026-05): const, $schema, additionalProperties, propertyNames, …
_SCHEMA = words("""
    anyOf default description enum example format items maxItems maxLength maxProperties maximum minItems minLength
    minProperties minimum nullable pattern properties propertyOrdering required title type
""")
_TYPES = words("STRING NUMBER INTEGER BOOLEAN ARRAY OBJECT NULL TYPE_UNSPECIFIED")
# google-gemini/gemini-cli#3178 (2025-07).
_FORMATS = ("enum", "date-time")
# https://ai.google.dev/gemini-api/docs/embeddings (2026-11).
_MOST_DIMENSIONS = {"gemini-embedding-001": 3_072, "gemini-embedding-2": 3_072, "text-embedding-004": 768}


# anomalyco/models.dev (`limit.output`, 2026-07); avante-corp/avante.nvim#1767 (2025-03) quotes the documentation for 2.0.
_MOST_TOKENS = (
    (re.compile(r"gemini-2\.0-flash"), 8_192),
    (re.compile(r"gemini-2\.5-(pro|flash|flash-lite)$"), 65_536),
)


def check_generate(request: Json, model: str) -> None:
    """Raise `Unacceptable` in Gemini's words for what is wrong with a request for content."""
    _check_names(request, _GENERATE, "")
    config = pick(request, "generationConfig") or {}
    _check_names(config, _CONFIG, "generation_config")
    _check_tokens(model, pick(config, "maxOutputTokens"))
    _check_schema(pick(config, "responseSchema"), "generation_config.response_schema")
    for at, tool in enumerate(pick(request, "tools") or []):
        for nth, function in enumerate(pick(tool, "functionDeclarations") or []):
            _check_schema(pick(function, "parameters"), f"tools[{at}].function_declarations[{nth}].parameters")


def _check_tokens(model: str, asked: Any) -> None:
    most = next((most for pattern, most in _MOST_TOKENS if pattern.match(model)), None)
    if most is not None and isinstance(asked, int) and asked > most:
        # stackblitz-labs/bolt.diy#955 (2024-12).
        raise Unacceptable(
            f"Unable to submit request because it has a maxOutputTokens value of {asked} but the supported range is from 1 "
            f"(inclusive) to {most + 1} (exclusive). Update the value and try again."
        )


def check_embed(request: Json, model: str) -> None:
    """Raise `Unacceptable` in Gemini's words for what is wrong with a request for a vector."""
    _check_names(request, _EMBED, "")
    asked = (
        pick(request, "outputDimensionality") or pick(pick(request, "embedContentConfig"), "outputDimensionality") or 0
    )
    if asked > (most := _MOST_DIMENSIONS.get(model, asked)):
        raise Unacceptable(f"* EmbedContentRequest.output_dimensionality: must be at most {most}, got {asked}")


def _check_names(given: Json, known: Iterable[str], place: str) -> None:
    if wrong := [_unknown(name, place) for name in given if _camel(name) not in known]:
        raise Unacceptable("\n".join(wrong))


def _unknown(name: str, place: str) -> str:
    """Return Google's words for a field that a message does not have: musistudio/claude-code-router#187 (2025-07)."""
    at = f" at '{place}'" if place else ""
    return f'Invalid JSON payload received. Unknown name "{name}"{at}: Cannot find field.'


def _camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda match: match.group(1).upper(), name)


def _check_schema(schema: Any, place: str) -> None:
    if schema is None:
        return
    if problems := _unread(json.dumps(schema), place) or _unfit(json.dumps(schema), place):
        raise Unacceptable("\n".join(problems))


@functools.lru_cache(maxsize=256)
def _unread(encoded: str, place: str) -> tuple[str, ...]:
    """Return what is not a Schema, as the parser of the request finds it."""
    found: list[str] = []
    for at, _, node in _nodes(json.loads(encoded), place, place):
        found += [_unknown(name, at) for name in node if _camel(name) not in _SCHEMA]
        kind = node.get("type")
        if isinstance(kind, list):
            found.append(
                f"Invalid value at '{at}.type' (type.googleapis.com/google.ai.generativelanguage.v1beta.Type): not one value"
            )
        elif kind is not None and str(kind).upper() not in _TYPES:
            # simonw/llm-gemini#49 (2025).
            text = f"Invalid value at '{at}.type' (type.googleapis.com/google.ai.generativelanguage.v1beta.Type), \"{kind}\""
            found.append(text)
    return tuple(found)


@functools.lru_cache(maxsize=256)
def _unfit(encoded: str, place: str) -> tuple[str, ...]:
    """Return what a Schema says that the service does not take."""
    found = [
        f"* GenerateContentRequest.{at}{problem}"
        for _, at, node in _nodes(json.loads(encoded), place, place)
        for problem in _problems(node)
    ]
    return tuple(found)


def _problems(node: Json) -> Iterator[str]:
    """Yield what is wrong with one node; the words are quoted in many reports (python-genai, litellm, gemini-cli; 2025)."""
    kind, properties = str(node.get("type", "")).upper(), pick(node, "properties") or {}
    if kind == "OBJECT" and not properties:
        yield ".properties: should be non-empty for OBJECT type"
    if kind == "ARRAY" and "items" not in node:
        yield ".items: missing field."
    if "enum" in node and kind != "STRING":
        yield ".enum: only allowed for STRING type"
    if kind == "STRING" and "format" in node and node["format"] not in _FORMATS:
        yield ".format: only 'enum' and 'date-time' are supported for STRING type"
    for at, name in enumerate(node.get("required") or ()):
        if name not in properties:
            yield f".required[{at}]: property is not defined"


def _nodes(schema: Any, parsed: str, named: str) -> Iterator[tuple[str, str, Json]]:
    """Yield every node with its place as the parser counts (`properties[0].value`) and as the service names it."""
    waiting = [(parsed, named, schema)]
    while waiting:
        parsed, named, node = waiting.pop()
        if not isinstance(node, dict):
            continue
        yield parsed, named, node
        below = enumerate((node.get("properties") or {}).items())
        waiting += [
            (f"{parsed}.properties[{at}].value", f"{named}.properties[{name}]", child) for at, (name, child) in below
        ]
        waiting.append((f"{parsed}.items", f"{named}.items", node.get("items")))
        choices = enumerate(pick(node, "anyOf") or ())
        waiting += [(f"{parsed}.any_of[{at}]", f"{named}.any_of[{at}]", child) for at, child in choices]
