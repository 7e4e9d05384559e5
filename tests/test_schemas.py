"""Answers against the schema that was asked for."""

from __future__ import annotations

import pytest

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.misfits import Misfit
from airflow_batch_provider.schemas import AnswerSchema


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ('  ```\n{"a": 1}```  ', {"a": 1}),
        ('\ufeff{"a": 1}', {"a": 1}),
        ('\ufeff```json\n{"a": 1}\n```', {"a": 1}),
        ("nul json", Misfit("the answer is not valid JSON: JSON is malformed: invalid character (byte 4)")),
        ('{"a": NaN}', Misfit("the answer holds NaN, which JSON does not have")),
        ('{"a": [1, -Infinity]}', Misfit("the answer holds -Infinity, which JSON does not have")),
        ('{"a": 1, "b": "\\ud83d"}', Misfit("the answer holds a lone surrogate")),
        ('{"b": "\\ud83d\\ude00"', Misfit("the answer is not valid JSON: Input data was truncated")),
        ('{"a": "x"}', Misfit('at a: the value is not of type "integer"')),
        ("{}", Misfit('at the top: "a" is a required property')),
    ],
)
def test_an_answer_fits_or_says_why_not(text, value):
    """Models wrap JSON in fences; that is not a fault."""
    schema = AnswerSchema({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})

    assert schema.read(text) == value


@pytest.mark.parametrize(
    ("schema", "fact"),
    [
        ({"type": "strin"}, '"strin" is not valid'),
        ({"properties": {"a": {"pattern": "["}}}, '"[" is not a "regex" at properties/a/pattern'),
        ({"$ref": "#/$defs/none"}, "'/$defs/none' does not exist"),
        ({"$ref": "http://127.0.0.1:9/schema.json"}, "http://127.0.0.1:9/schema.json"),
        ({"minimum": "x"}, '"x" is not of type "number" at minimum'),
    ],
)
def test_a_schema_that_cannot_be_compiled_is_refused_in_words(schema, fact):
    """Nothing is fetched from anywhere for it."""
    with pytest.raises(UsageError, match="output_type") as refused:
        AnswerSchema(schema)

    assert fact in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("format_", "good", "bad"),
    [
        ("date", "2026-02-28", "3 March 2024"),
        ("date-time", "2026-02-28T10:00:00Z", "today"),
        ("uri", "https://example.org/a", "N/A"),
        ("email", "a@example.org", "nobody"),
        ("uuid", "7f8a0d5e-5a10-4c7e-9c3e-0a4f8f1b2c3d", "7"),
        ("ipv4", "10.0.0.1", "300.1.1.1"),
    ],
)
def test_an_answer_must_have_the_format_that_its_schema_names(format_, good, bad):
    """`day: date` answered "3 March 2024" is not a usable answer."""
    schema = AnswerSchema({"type": "string", "format": format_})

    assert schema.read(f'"{good}"') == good
    assert isinstance(schema.read(f'"{bad}"'), Misfit)


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (r"^\p{L}+$", "Ünïcode", "12"),
        (r"^[\p{Lu}\d]+$", "Ä1", "ä"),
        (r"^(?=.*\d).+$", "a1", "ab"),
        (r"(?P<a>x)\1", "xx", "x"),
    ],
)
def test_a_pattern_in_the_words_of_unicode_is_checked(pattern, good, bad):
    """With lookaround and references back, whatever the provider makes of them."""
    schema = AnswerSchema({"type": "string", "pattern": pattern})

    assert schema.read(f'"{good}"') == good
    assert isinstance(schema.read(f'"{bad}"'), Misfit)


@pytest.mark.parametrize("pattern", ["^[[:alpha:]]+$", "[^[:^digit:]_]"])
def test_a_class_of_posix_is_refused_by_name(pattern):
    """JSON schema reads it as a class of the letters of its own name, so that every paid answer would be invalid."""
    schema = {"type": "object", "properties": {"pattern": {"anyOf": [{"type": "string", "pattern": pattern}]}}}

    with pytest.raises(UsageError, match=r"does not know '\[:\^?[a-z]+:\]'\. Write a class of Unicode"):
        AnswerSchema(schema)


def test_a_pattern_that_takes_too_long_costs_only_its_row():
    """Backtracking is bounded: (a+)+ on a long text would take longer than the universe."""
    schema = AnswerSchema({"type": "string", "pattern": r"^(?=x*)(a+)+\1$"})

    assert isinstance(schema.read(f'"{"a" * 60}b"'), Misfit)
