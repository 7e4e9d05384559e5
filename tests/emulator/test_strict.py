"""The emulator refuses what the real services refuse, where they find it; `lenient` switches it off."""

from __future__ import annotations

import pytest
from google.genai import errors, types
from strict_schemas import chat_format


async def test_a_misspelt_model_fails_where_each_service_finds_it(ask):
    """Anthropic in the row, OpenAI while it validates the file, Gemini at once."""
    error = await ask.anthropic_error(model="claude-hiaku-4-5")
    assert (error.type, error.message) == ("not_found_error", "model: claude-hiaku-4-5")
    failed = await ask.openai_end((await ask.openai_batch({"a": {"model": "gpt-4.1-mni", **ask.chat("x")}})).id)
    assert (failed.status, failed.errors.data[0].code) == ("failed", "model_not_found")
    with pytest.raises(errors.ClientError, match="models/gemini-2\\.5-flsh is not found for API version") as caught:
        await ask.google.batches.create(model="gemini-2.5-flsh", src=[types.InlinedRequest(contents="x")])
    assert caught.value.code == 404


async def test_a_model_serves_its_own_endpoints(ask):
    """An embedding model answers no chat."""
    body = {"model": "text-embedding-3-small", **ask.chat("x")}
    failed = await ask.openai_end((await ask.openai_batch({"a": body})).id)
    assert failed.errors.data[0].code == "model_not_found"
    with pytest.raises(errors.ClientError, match="not supported for batchGenerateContent"):
        await ask.google.batches.create(model="gemini-embedding-001", src=[types.InlinedRequest(contents="x")])


async def test_further_models_can_be_named(batch_emulator, ask):
    """As patterns in the settings; without them everything else still counts."""
    batch_emulator.emulator.change({"models": ["claude-next-*"]})
    assert await ask.anthropic_error(model="claude-next-1") is None
    assert (await ask.anthropic_error(model="claude-last-1")).type == "not_found_error"


async def test_a_refused_row_leaves_the_others_alone_and_costs_nothing(batch_emulator, ask):
    """One bad row is one error."""
    bodies = {"bad": ask.chat("x", top_k=1), "good": ask.chat("y")}
    ended = await ask.openai_end((await ask.openai_batch(bodies)).id)
    assert (ended.request_counts.completed, ended.request_counts.failed) == (1, 1)
    assert batch_emulator.books()["rows_bought"] == 1


async def test_lenient_settings_take_everything(batch_emulator, ask):
    """Models, parameters and schemas."""
    batch_emulator.emulator.change({"lenient": True})
    schema = {"type": "object", "properties": {"a": {"type": "string", "format": "uri"}}}
    assert await ask.openai_error({"model": "gpt-x", "top_k": 3, **chat_format(schema)}) is None
    config = {"format": {"type": "json_schema", "schema": schema}}
    assert await ask.anthropic_error(model="x", top_j=3, output_config=config) is None
    batch = await ask.google.batches.create(model="x", src=[types.InlinedRequest(contents="x")])
    assert (await ask.google_end(batch.name)).state.name == "JOB_STATE_SUCCEEDED"


@pytest.mark.parametrize("field", ["tools", "thinking", "output_config", "tool_choice"])
async def test_a_parameter_of_the_wrong_shape_fails_its_row(ask, field):
    """It is not the emulator that fails."""
    assert (await ask.anthropic_error(**{field: "nonsense"})).type == "invalid_request_error"
    assert "cannot be read" in (await ask.openai_error({"response_format": "json", "tools": 3}))["message"]
