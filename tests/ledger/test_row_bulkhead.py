"""Nothing that one answer holds ends the landing, finishing or reading of the others."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, model_validator

from airflow_batch_provider.misfits import Misfit
from airflow_batch_provider.models import Reply
from airflow_batch_provider.results import BatchResults
from airflow_batch_provider.schemas import MOST_LEVELS, AnswerSchema, is_deep

TREE = {
    "$defs": {"node": {"type": "object", "properties": {"n": {}, "next": {"$ref": "#/$defs/node"}}}},
    "$ref": "#/$defs/node",
}
NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
MONSTERS = {
    "an opening bracket, 1100 times": "[" * 1100,
    "a tree of 200 levels": '{"next":' * 200 + "{}" + "}" * 200,
    "a tree of 100,000 levels": '{"next":' * 100_000 + "{}" + "}" * 100_000,
    "an integer beyond 64 bits": '{"n": 123456789012345678901234567890}',
    "an integer of 400 digits": '{"n": ' + "9" * 400 + "}",
    "a huge float": '{"n": 1e300}',
    "a float beyond all": '{"n": 1e999}',
    "NaN": '{"n": NaN}',
    "half a pair": '{"n": 1, "x": "\\ud800"}',
    "a NUL": '{"n": 1, "x": "\\u0000"}',
    "nothing": "",
}


def answering(provider, monster):
    """The row `bad` gets the monster, the others a good answer."""
    provider.answer = lambda body, _n: Reply(
        key="", status="succeeded", output=monster if body["prompt"] == "bad" else '{"n": 1}'
    )


@pytest.mark.parametrize("format_", ["jsonl", "parquet"])
@pytest.mark.parametrize("schema", [TREE, NUMBER, None], ids=["tree", "number", "text"])
@pytest.mark.parametrize("monster", MONSTERS.values(), ids=list(MONSTERS))
async def test_section_1_an_answer_of_any_shape_ends_nothing_of_the_others(job, provider, monster, schema, format_):
    """Its row is told, the others are there, and a second attempt asks for nothing."""
    answering(provider, monster)
    task = job(["a", "bad", "b"], output_type=schema, result_format=format_)

    manifest = await task.run()
    rows = list(BatchResults(manifest))
    await task.retry()

    assert [row.custom_id for row in rows] == ["request-0", "request-1", "request-2"]
    assert [rows[place].status for place in (0, 2)] == ["succeeded"] * 2
    assert rows[1].status in ("succeeded", "invalid")
    assert provider.bought["a"] == provider.bought["b"] == 1


class Picky(BaseModel):
    n: int

    @model_validator(mode="after")
    def _is_small(self):
        if self.n > 1:
            raise ValueError("too large for me")
        return self


@pytest.mark.parametrize("format_", ["jsonl", "parquet"])
async def test_section_5_reading_never_ends_at_a_row_that_the_model_refuses(job, provider, format_):
    """It is told at that row, with its answer, and without the answer in the message."""
    answering(provider, '{"n": 1234567}')
    manifest = await job(["a", "bad", "b"], output_type=NUMBER, result_format=format_).run()

    first, bad, last = BatchResults(manifest, Picky)

    assert first.output == last.output == Picky(n=1)
    assert (bad.status, bad.output["n"]) == ("invalid", 1234567)
    assert "value_error" in bad.error.message
    assert "1234567" not in bad.error.message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@settings(max_examples=200, suppress_health_check=list(HealthCheck), deadline=None)
@given(value=json_values, cut=st.integers(0, 40), schema=st.sampled_from([TREE, NUMBER]))
def test_reading_an_answer_gives_a_value_or_a_reason(value, cut, schema):
    """Whole or cut, with numbers that JSON does not have."""
    text = json.dumps(value)
    found = AnswerSchema(schema).read(text[: len(text) - cut] if cut else text)
    assert isinstance(found, Misfit) or not is_deep(found)


def test_an_answer_may_nest_as_deep_as_it_is_told():
    """And not one level deeper."""
    inner = 1
    for _ in range(MOST_LEVELS):
        inner = [inner]
    assert not is_deep(inner)
    assert is_deep([[inner]])
