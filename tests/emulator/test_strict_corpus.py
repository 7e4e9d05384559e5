"""The package's own requests for ordinary models pass the strict emulator, whose rules it does not know."""

from __future__ import annotations

import json

import pytest
from ordinary_models import MODELS

from airflow_batch_provider.models import BatchRequest, Spec
from airflow_batch_provider.providers.anthropic.codec import AnthropicCodec
from airflow_batch_provider.providers.google.codec import GoogleCodec
from airflow_batch_provider.providers.openai.codec import OpenAICodec


def bodies(codec, model):
    """What the package sends for each model of the corpus, as the wire has it."""
    specs = [Spec(model=model, output_schema=row.model_json_schema()) for row in MODELS.values()]
    encoded = [codec.encode(BatchRequest(prompt=f"{number}"), spec) for number, spec in enumerate(specs)]
    return {f"r{number}": json.loads(json.dumps(body)) for number, body in enumerate(encoded)}


@pytest.mark.parametrize("model", ["claude-haiku-4-5", "claude-opus-5-5"])
async def test_anthropic_answers_every_row(ask, anthropic, model):
    """With models that take a forced tool, and with those that refuse it."""
    requests = [{"custom_id": key, "params": body} for key, body in bodies(AnthropicCodec(), model).items()]
    results = await ask.anthropic_results((await anthropic.messages.batches.create(requests=requests)).id)
    assert {key: row.error.error.message for key, row in results.items() if row.type == "errored"} == {}
    assert len(results) == len(MODELS)


@pytest.mark.parametrize(("api", "url"), [("chat", "/v1/chat/completions"), ("responses", "/v1/responses")])
async def test_openai_answers_every_row(ask, api, url):
    """Of both endpoints."""
    ended = await ask.openai_end((await ask.openai_batch(bodies(OpenAICodec(api), "gpt-5-mini"), url)).id)
    assert await ask.openai_lines(ended.error_file_id) == {}
    assert ended.request_counts.completed == len(MODELS)


async def test_gemini_answers_every_row(ask, google):
    """From a file, as the package asks."""
    rows = [{"key": key, "request": body} for key, body in bodies(GoogleCodec(), "gemini-2.5-flash").items()]
    file = await ask.google_file("\n".join(map(json.dumps, rows)).encode())
    batch = await google.batches.create(model="gemini-2.5-flash", src=file.name)
    raw = await google.files.download(file=(await ask.google_end(batch.name)).dest.file_name)
    lines = [json.loads(line) for line in raw.strip().split(b"\n")]
    assert [line for line in lines if "error" in line] == []
    assert len(lines) == len(MODELS)


@pytest.mark.parametrize("name", ["http url", "decimal", "dict", "mixed literal", "any", "default", "thirty optional"])
async def test_a_schema_as_pydantic_writes_it_is_refused(ask, name):
    """So the rows above are answered because they were rewritten."""
    schema = MODELS[name].model_json_schema()
    held = {"name": "s", "schema": schema, "strict": True}
    assert await ask.openai_error({"response_format": {"type": "json_schema", "json_schema": held}})
    assert await ask.anthropic_error(output_config={"format": {"type": "json_schema", "schema": schema}})
