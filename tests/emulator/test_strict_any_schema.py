"""Whatever schema a person writes: it is refused in words, or sent in a form that the strict emulator takes."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_batch_provider.emulator.strict import anthropic, google, openai
from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.models import BatchRequest, Spec
from airflow_batch_provider.output_types import OutputType
from airflow_batch_provider.providers.anthropic.codec import AnthropicCodec
from airflow_batch_provider.providers.google.codec import GoogleCodec
from airflow_batch_provider.providers.openai.codec import OpenAICodec
from airflow_batch_provider.schemas import AnswerSchema

SENDERS = {
    "anthropic": (AnthropicCodec(), "claude-haiku-4-5", lambda body: anthropic.check(body, (), long_output=False)),
    "anthropic thinks": (
        AnthropicCodec(),
        "claude-opus-5-5",
        lambda body: anthropic.check(body, (), long_output=False),
    ),
    "chat": (OpenAICodec("chat"), "gpt-5-mini", lambda body: openai.check("/v1/chat/completions", body)),
    "responses": (OpenAICodec("responses"), "gpt-5-mini", lambda body: openai.check("/v1/responses", body)),
    "google": (GoogleCodec(), "gemini-2.5-flash", lambda body: google.check_generate(body, "gemini-2.5-flash")),
}

names = st.sampled_from(["a", "b", "$ref", "type", "größe", "", "a b", "properties", "k" * 70])
values = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([1.5, "x", "", [1], {"x": 1}])
types = st.sampled_from(["string", "integer", "number", "boolean", "null", "array", "object"])


def decorated(base, node):
    """With at most two more keywords, which may contradict the others."""
    more = {
        "description": st.just("d"),
        "default": values,
        "format": st.sampled_from(["date", "uri", "int64"]),
        "pattern": st.sampled_from(["^a", "(?=x)", r"(a)\1"]),
        "minLength": st.integers(0, 2),
        "minimum": st.integers(0, 2),
        "nullable": st.booleans(),
        "enum": st.lists(values, min_size=1, max_size=3),
        "const": values,
        "minItems": st.integers(0, 2),
        "minProperties": st.integers(0, 3),
        "not": node,
        "if": node,
        "contains": node,
        "propertyNames": node,
        "dependentRequired": st.just({"a": ["b"]}),
    }
    chosen = st.sets(st.sampled_from(sorted(more)), max_size=2).flatmap(
        lambda keys: st.fixed_dictionaries({key: more[key] for key in sorted(keys)})
    )
    return st.builds(lambda first, second: {**second, **first}, base, chosen)


def schema_of(node):
    """Any schema with these below it."""
    objects = st.builds(
        lambda properties, required, extra, others: {
            "type": "object",
            "properties": properties,
            "required": sorted({*(properties if required else ()), *extra}),
            **({} if others is None else {"additionalProperties": others}),
        },
        st.dictionaries(names, node, max_size=3),
        st.booleans(),
        st.sets(st.sampled_from(["a", "z"]), max_size=1),
        st.none() | st.booleans() | node,
    )
    choices = st.builds(
        lambda word, options, more: {word: options, **more},
        st.sampled_from(["anyOf", "oneOf", "allOf"]),
        st.lists(node, min_size=1, max_size=3),
        st.sampled_from([{}, {"type": "object"}, {"description": "q"}]),
    )
    plain = (types | st.lists(types, min_size=1, max_size=3, unique=True)).map(lambda kind: {"type": kind})
    lists = node.map(lambda items: {"type": "array", "items": items})
    references = st.sampled_from(["#", "#/$defs/A", "#/definitions/A", "#/properties/a"]).map(lambda to: {"$ref": to})
    enums = st.lists(values, min_size=1, max_size=3).map(lambda listed: {"enum": listed})
    return decorated(objects | lists | choices | plain | references | enums, node)


leaves = st.sampled_from([{"type": "string"}, {"type": "integer"}, {}, True, {"$ref": "#/$defs/A"}])
nodes = st.recursive(leaves, schema_of, max_leaves=8)
schemas = st.builds(
    lambda root, here, there: {
        **root,
        **({"$defs": here} if here else {}),
        **({"definitions": there} if there else {}),
    },
    schema_of(nodes),
    st.dictionaries(st.sampled_from(["A", "B"]), nodes, max_size=2),
    st.dictionaries(st.just("A"), nodes, max_size=1),
)


def sent(sender, schema):
    """What the package sends, on the wire; None where it refuses the schema in words."""
    codec, model, _ = SENDERS[sender]
    try:
        spec = Spec(model=model, output_schema=OutputType.of(schema).schema)
        AnswerSchema(spec.output_schema)
        return json.loads(json.dumps(codec.encode(BatchRequest(prompt="?"), spec)))
    except UsageError:
        return None


@pytest.mark.parametrize("sender", SENDERS)
@settings(max_examples=40, suppress_health_check=list(HealthCheck), deadline=None)
@given(schema=schemas)
def test_any_schema_is_refused_in_words_or_sent_as_the_provider_takes_it(sender, schema):
    """Contradictions, references that lead nowhere or round and round, keywords that few know."""
    body = sent(sender, schema)
    if body is not None:
        SENDERS[sender][2](body)


STRING = {"type": "string"}
FOUND = {
    "a choice beside an object at the top": {"type": "object", "properties": {"a": STRING}, "anyOf": [{}]},
    "a value of another type": {"type": "object", "properties": {"a": {"type": "number", "enum": [None]}}},
    "an intersection with anything": {"type": "object", "properties": {"a": {"allOf": [True], "description": "d"}}},
    "a property that is required and not there": {"type": "object", "properties": {"a": STRING}, "required": ["z"]},
    "more properties than there are": {"type": "object", "properties": {"a": STRING}, "minProperties": 2},
    "a reference to anything": {"$ref": "#/$defs/A", "$defs": {"A": True}},
    "a list of lists of itself": {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"$ref": "#"}]}},
}


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize("schema", FOUND.values(), ids=list(FOUND))
def test_what_such_a_schema_was_refused_for_once(sender, schema):
    """Each of these was sent, and every row would have been refused."""
    body = sent(sender, schema)
    if body is not None:
        SENDERS[sender][2](body)


@pytest.mark.parametrize("format_", [["date"], 7, {"x": 1}])
@pytest.mark.parametrize("sender", SENDERS)
def test_what_is_not_a_schema_is_refused_with_its_place(sender, format_):
    """By its own rules, before a provider's are looked at."""
    schema = {"type": "object", "properties": {"day": {"type": "string", "format": format_}}}
    with pytest.raises(UsageError, match=r"not a JSON schema: .* at properties/day/format"):
        AnswerSchema(OutputType.of(schema).schema)
    SENDERS[sender][0].check_spec(Spec(model=SENDERS[sender][1], output_schema=schema))


def test_a_list_that_holds_itself_is_told_and_read_as_it_was_written():
    """It is asked for within an object, and what it says of itself is not that object."""
    given = OutputType.of(FOUND["a list of lists of itself"])

    assert given.schema["properties"]["value"]["items"]["anyOf"][1] == {"$ref": "#/properties/value"}
    assert AnswerSchema(given.schema).read('{"value": [1, [2, [3]]]}') == [1, [2, [3]]]
    assert AnswerSchema(given.schema).read('{"value": [1, {"value": [2]}]}') != [1, {"value": [2]}]
