"""Answers against the schema that was asked for."""

from __future__ import annotations

import pytest

from airflow_batch_provider.schemas import AnswerSchema, Misfit


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ('  ```\n{"a": 1}```  ', {"a": 1}),
        ("nul json", Misfit("the answer is not valid JSON: JSON is malformed: invalid character (byte 4)")),
        ('{"a": "x"}', Misfit("at a: 'x' is not of type 'integer'")),
        ("{}", Misfit("at the top: 'a' is a required property")),
    ],
)
def test_an_answer_fits_or_says_why_not(text, value):
    """Models wrap JSON in fences; that is no fault."""
    schema = AnswerSchema({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})

    assert schema.read(text) == value
