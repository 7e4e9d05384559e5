"""Schemas, prices, presets and the other small values."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import BaseModel, ValidationError

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.models import BatchRequest, Usage
from airflow_batch_provider.pricing import cost
from airflow_batch_provider.providers import provider_class, split_model
from airflow_batch_provider.schemas import AnswerSchema, Misfit
from airflow_batch_provider.stages import PollConfig


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ('  ```\n{"a": 1}```  ', {"a": 1}),
        ("nul json", Misfit("the answer is not valid JSON: JSON is malformed: invalid character (byte 4)")),
        ('{"a": "x"}', Misfit('at a: "x" is not of type "integer"')),
        ("{}", Misfit('at the top: "a" is a required property')),
    ],
)
def test_an_answer_fits_or_says_why_not(text, value):
    """Models wrap JSON in fences; that is no fault."""
    schema = AnswerSchema({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})

    assert schema.read(text) == value


def test_a_pydantic_model_becomes_its_schema():
    """So that a request is data only."""

    class Answer(BaseModel):
        n: int

    assert BatchRequest(prompt="x", output_type=Answer).output_type == Answer.model_json_schema()


@pytest.mark.parametrize(
    ("provider", "model", "estimated"),
    [
        ("anthropic", "claude-sonnet-4-5", False),
        ("openai", "gpt-5-mini", False),
        ("openai", "text-embedding-3-small", True),
    ],
)
def test_a_batch_costs_half(provider, model, estimated):
    """By the published batch price, or by half the usual one, marked as an estimate."""
    price = cost(provider, model, Usage(input_tokens=1_000_000))

    assert price.usd == pytest.approx(price.saved_usd)
    assert price.usd > 0
    assert price.estimated is estimated


def test_a_model_without_a_price_costs_nobody_knows():
    """None is not zero."""
    assert cost("openai", "never-heard-of", Usage(input_tokens=1)).usd is None


def test_usage_adds_field_by_field():
    """Sums of tokens."""
    assert Usage(input_tokens=1, cached_tokens=2) + Usage(input_tokens=3) == Usage(input_tokens=4, cached_tokens=2)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("claude-sonnet-4-5", ("anthropic", "claude-sonnet-4-5")),
        ("openai:my-own", ("openai", "my-own")),
        ("gemini-2.5-flash", ("google", "gemini-2.5-flash")),
        ("gpt-5", ("openai", "gpt-5")),
        ("ft:gpt-4o:org", (None, "ft:gpt-4o:org")),
        ("mystery", (None, "mystery")),
    ],
)
def test_a_model_tells_its_provider(model, expected):
    """By prefix, or by the beginning of its name."""
    assert split_model(model) == expected


def test_an_unknown_provider_names_the_known_ones():
    """The remedy is in the message."""
    with pytest.raises(UsageError, match="Choose one of: anthropic, openai, google"):
        provider_class("mistral")


@pytest.mark.parametrize(
    "wrong",
    [
        {"interval": timedelta(0), "max_wait": timedelta(hours=1)},
        {"interval": timedelta(minutes=1), "max_wait": timedelta(0)},
        {"interval": timedelta(hours=2), "max_wait": timedelta(hours=1)},
        {"interval": timedelta(minutes=1), "max_wait": timedelta(days=15)},
    ],
)
def test_a_poll_out_of_range_is_refused(wrong):
    """Polling never, or for ever, helps nobody."""
    with pytest.raises(ValidationError):
        PollConfig(**wrong)


def test_an_unknown_preset_names_the_known_ones():
    """`quick`, `medium`, `long`."""
    with pytest.raises(UsageError, match="quick, medium, long"):
        PollConfig.of("slow")


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
    """Field reports, section 5: `day: date` answered "3 March 2024" is no usable answer."""
    schema = AnswerSchema({"type": "string", "format": format_})

    assert schema.read(f'"{good}"') == good
    assert isinstance(schema.read(f'"{bad}"'), Misfit)


def test_a_pattern_that_takes_too_long_costs_only_its_row():
    """Backtracking is bounded: (a+)+ on a long text would take longer than the universe."""
    schema = AnswerSchema({"type": "string", "pattern": r"^(?=x*)(a+)+\1$"})

    assert isinstance(schema.read(f'"{"a" * 60}b"'), Misfit)
