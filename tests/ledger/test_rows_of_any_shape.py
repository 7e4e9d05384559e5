"""Whatever one result line holds, the good rows beside it land, are read from either format, and are bought once."""

from __future__ import annotations

import json
import tempfile

import pytest
from fakes import FakeClock, FakeHub, FakeProvider, Job
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from upath import UPath

from airflow_batch_provider.client import BatchClient
from airflow_batch_provider.hooks import BatchHook
from airflow_batch_provider.models import ConnectionRef
from airflow_batch_provider.providers.openai.codec import OpenAICodec
from airflow_batch_provider.results import BatchResults
from airflow_batch_provider.stages.embed import EmbedStage
from airflow_batch_provider.storage import Directory, StageStorage


class Tree(BaseModel):
    n: int | float | str | None = None
    next: list[Tree] | Tree | None = None


NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
GOOD = {"generate": '{"n": 1}', "embed": [0.5, 0.25]}
CODEC = OpenAICodec("chat")

texts = st.text() | st.sampled_from(["\x00", "\ud800", "\u2028", "[" * 1100, '{"n":' * 300, "```json\n1\n```"])
leaves = st.none() | st.booleans() | st.integers() | st.floats() | texts | st.sampled_from([10**30, -(10**400), 1e300])
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)
answers = st.one_of(
    values,
    values.map(json.dumps),
    st.integers(1, 400).map(lambda depth: '{"next":' * depth + "{}" + "}" * depth),
    st.builds(lambda text, cut: text[:cut], values.map(json.dumps), st.integers(0, 40)),
)


def line_of(kind, answer):
    """A line of OpenAI's with this answer, whatever it is."""
    usage = {"prompt_tokens": 1, "completion_tokens": 1}
    choices = {"choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": answer}}]}
    body = {"usage": usage, **({"data": [{"embedding": answer}]} if kind == "embed" else choices)}
    return json.dumps({"custom_id": "k", "response": {"status_code": 200, "body": body}}).encode()


def provider_that_answers(kind, answer):
    """The row `bad` gets the answer, the others a good one, each as the line that OpenAI would send."""
    provider = FakeProvider(FakeClock())
    good = CODEC.decode(line_of(kind, GOOD[kind]), kind)
    odd = CODEC.decode(line_of(kind, answer), kind)
    provider.answer = lambda body, _n: odd if body["prompt"] == "bad" else good
    return provider


@pytest.mark.parametrize("format_", ["jsonl", pytest.param("parquet", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("kind", "given_type"),
    [("generate", None), ("generate", NUMBER), ("generate", Tree), ("generate", dict[str, int]), ("embed", None)],
    ids=["text", "schema", "model", "type", "vectors"],
)
@settings(max_examples=25, suppress_health_check=list(HealthCheck), deadline=None)
@given(answer=answers)
async def test_one_odd_answer_among_good_ones(kind, given_type, format_, answer):
    """By the built-in stages."""
    provider = provider_that_answers(kind, answer)
    settings_ = {"output_type": given_type} if given_type is not None else {}
    stage = {"stage": EmbedStage(), "kind": "embed"} if kind == "embed" else {}
    with tempfile.TemporaryDirectory() as root:
        task = Job(root, provider, provider.clock, ["a", "bad", "b"], result_format=format_, **stage, **settings_)
        manifest = await task.run()
        rows = list(BatchResults(manifest, given_type if not isinstance(given_type, dict) else None))
        again = await task.retry()

    assert [row.custom_id for row in rows] == ["request-0", "request-1", "request-2"]
    assert [rows[place].status for place in (0, 2)] == ["succeeded"] * 2
    assert manifest.counts["succeeded"] == sum(row.status == "succeeded" for row in rows)
    assert again.counts == manifest.counts
    assert provider.bought == {"a": 1, "bad": 1, "b": 1} or rows[1].error.retryable
    assert provider.bought["a"] == provider.bought["b"] == 1


@settings(max_examples=25, suppress_health_check=list(HealthCheck), deadline=None)
@given(answer=answers, schema=st.sampled_from([None, NUMBER, Tree]))
async def test_one_odd_answer_among_good_ones_of_a_client(answer, schema):
    """By `ctx.batch`: the same rows as often as they are asked for."""
    provider = provider_that_answers("generate", answer)
    with tempfile.TemporaryDirectory() as root:
        storage = StageStorage(Directory(UPath(root)))
        client = BatchClient(
            FakeHub(provider, provider.clock),
            ConnectionRef(conn_id="c"),
            "openai:m",
            storage=storage,
            clock=provider.clock,
        )
        handle = await client.submit(["a", "bad", "b"], output_type=schema)
        for batch in provider.batches.values():
            batch.status = "completed"
        rows = await client.get_results(handle.id, output_type=schema)
        again = await client.get_results(handle.id, output_type=schema)

    assert [rows[place].status for place in (0, 2)] == ["succeeded"] * 2
    assert json.dumps(again[1].output) == json.dumps(rows[1].output)
    assert provider.bought == {"a": 1, "bad": 1, "b": 1}


@pytest.mark.parametrize("format_", ["jsonl", "parquet"])
@pytest.mark.parametrize("retried", [False, True])
@pytest.mark.parametrize(
    ("output_type", "expected"),
    [(None, 'Sure: {"n": 1}'), (NUMBER, {"n": 1})],
    ids=["text", "schema"],
)
async def test_results_hold_a_text_in_pieces_whole_or_as_what_its_schema_chose(
    tmp_path, format_, retried, output_type, expected
):
    """And nothing of the pieces that it was chosen from, whether every row was asked once or not."""
    provider = provider_that_answers("generate", None)
    parts = [{"type": "text", "text": text} for text in ("Sure: ", '{"n": 1}')]
    odd, empty = (CODEC.decode(line_of("generate", content), "generate") for content in (parts, ""))
    provider.answer = lambda body, n: empty if retried and body["prompt"] == "b" and n == 1 else odd
    settings_ = {} if output_type is None else {"output_type": output_type}
    task = Job(tmp_path, provider, provider.clock, ["a", "b"], result_format=format_, retry_rows=1, **settings_)

    manifest = await task.run()

    assert [row.output for row in BatchResults(manifest)] == [expected] * 2
    if format_ == "jsonl":
        lines = [json.loads(line) for line in UPath(manifest.results).read_text().splitlines()]
        assert not any("choices" in line for line in lines)


@settings(max_examples=25, suppress_health_check=list(HealthCheck), deadline=None)
@given(answer=answers, schema=st.sampled_from([None, NUMBER, Tree]))
async def test_one_odd_answer_among_good_ones_of_a_hook(answer, schema):
    """Which keeps nothing: all rows come, read as the type says."""
    provider = provider_that_answers("generate", answer)
    hook = BatchHook("c")
    hook._hub = FakeHub(provider, provider.clock)
    client = hook.batch("openai:m")

    handle = await client.submit(["a", "bad", "b"], output_type=schema)
    while not (await client.get_status(handle.id)).ended:
        pass
    rows = await client.get_results(handle.id, output_type=schema)

    assert [row.custom_id for row in rows] == ["request-0", "request-1", "request-2"]
    assert [rows[place].status for place in (0, 2)] == ["succeeded"] * 2
    assert provider.bought == {"a": 1, "bad": 1, "b": 1}
