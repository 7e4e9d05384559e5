"""Rows 44 to 55: the client that a stage submits with, and what it says about results and cost."""

from __future__ import annotations

import json

import pytest
from driving import MODELS, PATHS
from pydantic import BaseModel

from airflow_batch_provider.exceptions import Unavailable, UsageError
from airflow_batch_provider.misfits import Misfit
from airflow_batch_provider.models import Account, BatchRequest, BatchRow, Spec, Usage
from airflow_batch_provider.pricing import cost
from airflow_batch_provider.providers import connection_ref, provider_class, split_model
from airflow_batch_provider.schemas import AnswerSchema


class Judgement(BaseModel):
    label: str
    score: int


class Colour(BaseModel):
    red: int


def row(tokens: int) -> BatchRow:
    return BatchRow(custom_id="a", index=0, status="succeeded", usage=Usage(input_tokens=tokens))


def bodies(driver) -> list[dict]:
    """The request bodies that were sent, as the ledger keeps them."""
    files = sorted(driver.root.rglob("*.requests.jsonl"))
    return [json.loads(line)["body"] for file in files for line in file.read_bytes().splitlines()]


async def test_row_44_a_batch_carries_the_topic_of_its_task(driver):
    """`createAIHelper(topic, logger)`: the topic is the task itself."""
    ctx = driver.context(type("Stage", (), {"id": "s"}))
    client = ctx.batch("openai:gpt-4o")
    await client.submit(["one"])
    assert client.topic == driver.jobs[0]["metadata"]["label"] == "dag/run/task"


async def test_row_44_a_child_of_a_client_has_a_topic_below_its_own(driver):
    """`createChild(name)`: its batches say so at the provider and in their records; the sums are of the whole task."""
    client = driver.context(type("Stage", (), {"id": "s"})).batch("openai:gpt-4o")
    child = client.child("judge").child("again")

    handle = await child.submit(["one"])
    record = await child.record_results(handle.id, [row(1)])
    await client.record_results("batch_of_the_parent", [row(1)])

    assert driver.jobs[0]["metadata"]["label"] == record.topic == "dag/run/task/judge/again"
    assert client.topic == "dag/run/task"
    assert (await client.get_stats()).total_calls == (await child.get_stats()).total_calls == 2


async def test_row_44_what_a_child_asks_is_not_bought_again_by_its_parent(driver):
    """They share the stage's storage."""
    client = driver.client("openai:gpt-4o")
    handles = [await client.child("judge").submit(["one"]), await client.submit(["one"])]
    assert handles[0] == handles[1]
    assert len(driver.jobs) == 1


@pytest.mark.parametrize("name", ["", "a/b"])
def test_row_44_a_topic_cannot_be_mistaken_for_another(driver, name):
    """A slash parts the levels."""
    with pytest.raises(UsageError, match="names no child of"):
        driver.client("openai:gpt-4o").child(name)


def test_row_45_the_provider_is_known_by_the_model():
    """`ai.batch<T>(model, provider?)`: the provider is detected when it is not named."""
    assert split_model("claude-sonnet-4-20250514") == ("anthropic", "claude-sonnet-4-20250514")
    assert split_model("gemini-2.5-flash")[0] == "google"
    assert split_model("gpt-4o")[0] == "openai"
    assert split_model("text-embedding-004")[0] == "google"
    assert split_model("openai:my-own") == ("openai", "my-own")
    assert connection_ref("any", "my-own").provider is None


async def test_row_45_a_model_on_the_wrong_connection_is_refused_before_it_is_paid(driver):
    """Two providers at odds are an error of the DAG."""
    with pytest.raises(UsageError, match="belongs to anthropic"):
        await driver.client("claude-sonnet-4-20250514", provider="openai").submit(["one"])
    assert driver.jobs == []


async def test_row_46_submit_returns_a_handle(driver, provider_name):
    """`batch.submit(requests)` takes `{id, prompt, schema?}` rows and gives `{id, status, provider}`."""
    handle = await driver.client(MODELS[provider_name]).submit([{"custom_id": "a", "prompt": "one"}, "two"])
    assert handle.id == driver.jobs[0]["id"]
    assert (handle.status, handle.provider, handle.batch_ids) == ("pending", provider_name, (handle.id,))


async def test_row_47_each_request_has_its_own_schema_and_its_answer_is_checked(driver, provider_name):
    """`schema` per request gives structured output: sent natively, and read back without being named again."""
    client = driver.client(MODELS[provider_name])
    requests = [
        {"custom_id": "judge", "prompt": "one", "output_type": Judgement},
        {"custom_id": "paint", "prompt": "two", "output_type": Colour},
        {"custom_id": "wrong", "prompt": "three [[emulate:bad_schema]]", "output_type": Colour},
        {"custom_id": "plain", "prompt": "four"},
    ]
    handle = await client.submit(requests)
    await driver.ended(client, handle.id)
    rows = {row.custom_id: row for row in await client.get_results(handle.id)}
    assert Judgement.model_validate(rows["judge"].output)
    assert Colour.model_validate(rows["paint"].output)
    assert rows["plain"].output == "echo: four"
    assert (rows["wrong"].status, rows["wrong"].error.code) == ("invalid", "invalid_output")


async def test_row_47_one_schema_for_all_requests_is_remembered_too(driver):
    """What `submit` was told need not be told again in another process."""
    handle = await driver.client("gpt-4o").submit(["one"], output_type=Judgement)
    later = driver.client("gpt-4o")
    await driver.ended(later, handle.id)
    (row,) = await later.get_results(handle.id)
    assert Judgement.model_validate(row.output)


async def test_row_48_a_status_is_one_of_our_words(driver, provider_name):
    """`batch.getStatus(id)`: pending, processing, completed, failed."""
    client = driver.client(MODELS[provider_name])
    handle = await client.submit(["one"])
    words = [(await client.get_status(handle.id)).status for _ in range(3)]
    assert words[-1] == "completed"
    assert set(words[:2]) <= {"pending", "processing"}


async def test_row_49_custom_ids_of_the_metadata_name_order_and_missing_rows(driver, provider_name):
    """`batch.getResults(id, metadata)`: the ids, in the order asked, name the rows of a batch that is not known here."""
    other = driver.client(MODELS[provider_name], stored=False)
    handle = await other.submit([{"custom_id": key, "prompt": key} for key in ("a", "b", "c")])
    await driver.ended(other, handle.id)
    later = driver.client(MODELS[provider_name], stored=False)
    rows = await later.get_results(handle.id, {"custom_ids": ["a", "b", "c", "lost"]})
    assert [(row.custom_id, row.index, row.output or row.status) for row in rows] == [
        ("a", 0, "echo: a"),
        ("b", 1, "echo: b"),
        ("c", 2, "echo: c"),
        ("lost", 3, "missing"),
    ]
    unnamed = await later.get_results(handle.id)
    assert {row.custom_id: row.output for row in unnamed} == {
        f"request-{n}": f"echo: {key}" for n, key in enumerate("abc")
    }


async def test_row_49_every_request_of_the_stage_has_its_row_in_the_order_asked(driver, provider_name):
    """The storage knows what was asked: nothing is missing without a row, and strangers are ignored."""
    client = driver.client(MODELS[provider_name])
    prompts = {
        "a": "one",
        "b": "two [[emulate:missing]]",
        "c": "three [[emulate:stranger]]",
        "d": "4 [[emulate:duplicate]]",
    }
    handle = await client.submit([{"custom_id": key, "prompt": prompt} for key, prompt in prompts.items()])
    await driver.ended(client, handle.id)
    rows = await client.get_results(handle.id)
    assert [(row.custom_id, row.index) for row in rows] == [("a", 0), ("b", 1), ("c", 2), ("d", 3)]
    assert [row.status for row in rows] == ["succeeded", "missing", "succeeded", "succeeded"]


async def test_row_49_rows_without_an_answer_are_bought_again_alone(driver, provider_name):
    """Four attempts landed the same batch again: here the same requests buy what has no good answer."""
    client = driver.client(MODELS[provider_name])
    requests = ["one", "two [[emulate:missing]]"]
    handle = await client.submit(requests)
    await driver.ended(client, handle.id)
    with pytest.raises(Unavailable):  # the batch counts two answers: the other one may be late
        await client.get_results(handle.id)
    driver.server.clock.advance(601)
    assert [row.status for row in await client.get_results(handle.id)] == ["succeeded", "missing"]
    again = await driver.client(MODELS[provider_name], attempt=2).submit(requests)
    assert again.id != handle.id
    assert bodies(driver)[2:] == [body for body in bodies(driver)[:2] if "two" in json.dumps(body)]


async def test_row_50_a_result_row_has_answer_tokens_status_and_error(driver, provider_name):
    """`id, result, inputTokens, outputTokens, status, error`."""
    client = driver.client(MODELS[provider_name])
    handle = await client.submit(["one", "two [[emulate:error=invalid_request]]"])
    await driver.ended(client, handle.id)
    good, bad = await client.get_results(handle.id)
    assert (good.custom_id, good.output, good.status, good.error) == ("request-0", "echo: one", "succeeded", None)
    assert good.usage.input_tokens > 0
    assert good.usage.output_tokens > 0
    assert (bad.custom_id, bad.output, bad.status) == ("request-1", None, "failed")
    assert bad.error.message


async def test_row_51_the_cost_of_a_batch_is_recorded_once(driver):
    """`isRecorded / recordResults`: idempotent, with model, tokens and discounted cost, also in a later process."""
    client = driver.client("openai:gpt-4o")
    rows = [BatchRow(custom_id=key, index=0, status="succeeded", usage=Usage(input_tokens=1000)) for key in "ab"]
    assert not await client.is_recorded("batch_1")
    record = await client.record_results("batch_1", rows)
    assert (record.batch_id, record.model, record.calls, record.usage.input_tokens) == ("batch_1", "gpt-4o", 2, 2000)
    assert record.cost == cost("openai", "gpt-4o", Usage(input_tokens=2000))
    later = driver.client("openai:gpt-4o")
    assert await later.is_recorded("batch_1")
    assert await later.record_results("batch_1", rows[:1]) == record
    assert (await later.get_stats()).total_calls == 2


async def test_row_51_every_call_of_a_batch_has_a_record_of_its_own(driver, provider_name):
    """With topic, model, tokens and discounted cost, `{batchId, requestId}` and what became of it."""
    client = driver.client(MODELS[provider_name])
    handle = await client.submit(
        ["one", "two [[emulate:refusal]]", {"custom_id": "mine", "prompt": "three words more"}]
    )
    await driver.ended(client, handle.id)
    rows = await client.get_results(handle.id)

    record = await client.record_results(handle.id, rows)

    assert [call.custom_id for call in record.per_call] == ["request-0", "request-1", "mine"]
    assert [(call.status, call.usage) for call in record.per_call] == [(row.status, row.usage) for row in rows]
    assert all(call.model for call in record.per_call)
    assert sum(call.usd for call in record.per_call) == pytest.approx(record.cost.usd)
    later = driver.client(MODELS[provider_name])
    assert await later.record_results(handle.id, rows[:1]) == record


async def test_row_51_a_call_without_a_price_says_so(driver):
    """It costs nobody knows what; one whose answer came from a model that has a price has a cost."""
    rows = [row(1000), row(1000).model_copy(update={"model": "gpt-4o"})]
    record = await driver.client("openai:mystery").record_results("batch_1", rows)
    assert [call.usd for call in record.per_call] == [None, 0.00125]


async def test_row_51_a_record_is_the_sum_of_its_rows(driver):
    """Two rows below the tier of GPT-5.4 at 272,000 tokens are not one above it, nor is one of another model."""
    rows = [BatchRow(custom_id=key, index=0, status="succeeded", usage=Usage(input_tokens=200_000)) for key in "ab"]
    other = rows[0].model_copy(update={"model": "gpt-5-nano-2025-08-07"})

    record = await driver.client("openai:gpt-5.4").record_results("batch_1", [*rows, other])

    assert record.cost.usd == 0.5 + 0.005


async def test_row_52_stats_sum_over_the_recorded_batches(driver):
    """`getStats()`: calls, tokens, cost, and the same per model."""
    usage = Usage(input_tokens=1_000_000, output_tokens=10)
    row = BatchRow(custom_id="a", index=0, status="succeeded", usage=usage)
    await driver.client("openai:gpt-4o").record_results("batch_1", [row])
    await driver.client("openai:gpt-4o-mini").record_results("../batch_2", [row, row])
    stats = await driver.client("openai:gpt-4o").get_stats()
    assert (stats.total_calls, stats.usage.input_tokens) == (3, 3_000_000)
    assert {name: part.total_calls for name, part in stats.per_model.items()} == {"gpt-4o": 1, "gpt-4o-mini": 2}
    assert stats.total_cost == pytest.approx(sum(part.total_cost for part in stats.per_model.values()))
    assert stats.total_cost > 0


def test_row_53_the_models_of_the_guide_are_priced_at_half():
    """`claude-sonnet-4-20250514`, `gemini-2.5-flash`, `gpt-4o`: 50 %; one without a published price says so."""
    tokens = Usage(input_tokens=1_000_000, output_tokens=1_000_000)
    for model in ("claude-sonnet-4-20250514", "gemini-2.5-flash", "gpt-4o"):
        price = cost(split_model(model)[0], model, tokens)
        assert price.usd == pytest.approx(price.saved_usd)
    assert cost("openai", "gpt-4o", tokens).usd == pytest.approx(6.25)
    assert cost("google", "text-embedding-004", tokens).usd is None


async def test_row_54_requests_without_id_are_numbered_and_answers_have_1024_tokens(driver, provider_name):
    """Defaults: max_tokens 1024, custom_id `request-{i}`."""
    client = driver.client(MODELS[provider_name])
    handle = await client.submit(["one", "two"])
    await driver.ended(client, handle.id)
    assert [row.custom_id for row in await client.get_results(handle.id)] == ["request-0", "request-1"]
    assert Spec(model="m").max_tokens == 1024
    assert all("1024" in json.dumps(body) for body in bodies(driver))


async def test_row_54_an_empty_batch_is_refused(driver, provider_name):
    """Empty batch: `Cannot submit empty batch`."""
    with pytest.raises(UsageError, match="Cannot submit empty batch"):
        await driver.client(MODELS[provider_name]).submit([])
    assert driver.jobs == []


def test_row_54_keys_come_from_connections(monkeypatch):
    """The guide's environment variables are Airflow connections: a key in the environment is never taken by accident."""
    from airflow.sdk import Connection

    from airflow_batch_provider.airflow.connections import account

    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-of-the-environment")
    with pytest.raises(UsageError, match="no API key"):
        account(Connection(conn_id="c", conn_type="anthropic_batch"))
    found = account(Connection(conn_id="c", conn_type="anthropic_batch", password="sk-of-the-connection"))
    assert found.api_key.get_secret_value() == "sk-of-the-connection"
    assert "sk-of" not in repr(found)


POLL = {"type": "OBJECT", "properties": {"at": {"type": "STRING"}}}
TOOLS = {
    "anthropic": {
        "tools": [{"name": "look", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "tool", "name": "look"},
    },
    "openai": {
        "tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
    },
    "google": {
        "tools": [{"functionDeclarations": [{"name": "look", "parameters": POLL}]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
    },
}


async def test_row_55_tools_and_tool_choice_pass_through_per_request(driver, provider_name):
    """Low level: tools + toolChoice of one request reach the provider as given, and a call comes back as output."""
    client = driver.client(MODELS[provider_name])
    request = {"prompt": "one [[emulate:tool_use]]", "request_params": TOOLS[provider_name]}
    handle = await client.submit([request, "two"])
    with_tools, without = bodies(driver)
    assert {name: with_tools[name] for name in TOOLS[provider_name]} == TOOLS[provider_name]
    assert not set(TOOLS[provider_name]) & set(without)
    await driver.ended(client, handle.id)
    called, plain = await client.get_results(handle.id)
    assert called.output["tool_calls"][0]["name"] == "look"
    assert plain.output == "echo: two"


def test_row_55_json_in_a_fence_is_read():
    """Low level: fenced-JSON stripping."""
    schema = AnswerSchema(Colour.model_json_schema())
    for text in ('{"red": 1}', '```json\n{"red": 1}\n```', '  ```\n{"red": 1}\n```  \n'):
        assert schema.read(text) == {"red": 1}
    assert isinstance(schema.read('Here it is: {"red": 1}'), Misfit)
    assert isinstance(schema.read('```json\n{"red": "much"}\n```'), Misfit)


@pytest.mark.parametrize("provider", list(PATHS))
def test_row_55_a_requests_own_parameters_win(provider):
    """Parameters of one request replace those of all."""
    adapter = provider_class(provider)(Account(provider=provider, api_key="k"))
    spec = Spec(model="gemini-m", request_params={"temperature": 0, "top_p": 0.5})
    body = adapter.codec.encode(BatchRequest(prompt="one", request_params={"temperature": 1}), spec)
    settings = body.get("generationConfig", body)
    assert (settings["temperature"], settings.get("top_p", settings.get("topP"))) == (1, 0.5)
