"""Google's own SDK cannot tell the emulator from the service."""

from __future__ import annotations

import json

import pytest
from google.genai import errors, types


def _jsonl(prompts):
    rows = ({"key": key, "request": {"contents": [{"parts": [{"text": text}]}]}} for key, text in prompts.items())
    return "\n".join(map(json.dumps, rows)).encode()


async def test_a_batch_from_a_file(ask, google):
    """Upload, create, wait, download."""
    file = await ask.google_file(_jsonl({"a": "one", "b": "two [[emulate:error=overloaded]]"}))
    batch = await google.batches.create(model="gemini-2.5-flash", src=file.name, config={"display_name": "tag"})
    assert (batch.state.name, batch.display_name) == ("JOB_STATE_PENDING", "tag")
    ended = await ask.google_end(batch.name)
    assert ended.state.name == "JOB_STATE_SUCCEEDED"
    raw = await google.files.download(file=ended.dest.file_name)
    lines = {line["key"]: line for line in map(json.loads, raw.strip().split(b"\n"))}
    answer = types.GenerateContentResponse.model_validate(lines["a"]["response"])
    assert answer.text == "echo: one"
    assert lines["b"]["error"]["code"] == 14


async def test_a_batch_inline(ask):
    """Inline rows are answered in the order asked, with their metadata."""
    ended = await ask.google_end((await ask.google_batch({"k1": "one", "k2": "two"})).name)
    answers = ended.dest.inlined_responses
    assert [(row.metadata["key"], row.response.text) for row in answers] == [("k1", "echo: one"), ("k2", "echo: two")]


@pytest.mark.filterwarnings("ignore:.*is experimental")
async def test_embeddings(ask, google):
    """Inline and from a file, with the dimensions asked for."""
    rows = types.EmbedContentBatch(contents=["a", "b"], config={"output_dimensionality": 3})
    batch = await google.batches.create_embeddings(
        model="gemini-embedding-001", src=types.EmbeddingsBatchJobSource(inlined_requests=rows)
    )
    answers = (await ask.google_end(batch.name)).dest.inlined_embed_content_responses
    assert [len(row.response.embedding.values) for row in answers] == [3, 3]
    line = {"key": "k", "request": {"content": {"parts": [{"text": "a"}]}, "output_dimensionality": 3}}
    file = await ask.google_file(json.dumps(line).encode())
    batch = await google.batches.create_embeddings(
        model="gemini-embedding-001", src=types.EmbeddingsBatchJobSource(file_name=file.name)
    )
    ended = await ask.google_end(batch.name)
    (line,) = map(json.loads, (await google.files.download(file=ended.dest.file_name)).split(b"\n")[:-1])
    assert line["response"]["embedding"]["values"] == pytest.approx(answers[0].response.embedding.values)
    assert isinstance(line["response"]["tokenCount"], str)


async def test_odd_answers(ask):
    """Refusal, truncation, emptiness, a function call, cached tokens and thoughts beside the candidates."""
    words = ("refusal", "truncated", "empty", "tool_use", "cached=2,reasoning=5")
    batch = await ask.google_batch({word: f"a longer prompt [[emulate:{word}]]" for word in words})
    said = {row.metadata["key"]: row.response for row in (await ask.google_end(batch.name)).dest.inlined_responses}
    assert said["refusal"].prompt_feedback.block_reason.name == "SAFETY"
    assert said["truncated"].candidates[0].finish_reason.name == "MAX_TOKENS"
    assert said["empty"].text is None
    assert said["tool_use"].function_calls[0].args
    usage = said[words[-1]].usage_metadata
    assert (usage.cached_content_token_count, usage.thoughts_token_count) == (2, 5)
    assert usage.total_token_count == usage.prompt_token_count + usage.candidates_token_count + 5


@pytest.mark.parametrize("field", ["response_json_schema", "response_schema"])
async def test_structured_output(ask, google, field):
    """Both schema fields are obeyed, Google's upper-case types too."""
    schema = {
        "type": "OBJECT" if field == "response_schema" else "object",
        "properties": {"x": {"type": "string"}},
        "required": ["x"],
    }
    config = types.GenerateContentConfig(response_mime_type="application/json", **{field: schema})
    rows = [types.InlinedRequest(contents="cat", config=config)]
    batch = await google.batches.create(model="gemini-2.5-flash", src=rows)
    (row,) = (await ask.google_end(batch.name)).dest.inlined_responses
    assert json.loads(row.response.text) == {"x": "cat"}


async def test_cancel_and_its_two_endings(batch_emulator, ask, google):
    """A cancelled job has no output, unless the settings say that it keeps what was done."""
    batch_emulator.emulator.change({"progress": {"running": 2, "settle": 0}})
    for ending, kept in (("none", None), ("partial", 4)):
        batch_emulator.emulator.change({"google_cancel_output": ending})
        batch = await ask.google_batch({f"r{n}": f"{n}{ending}" for n in range(4)})
        for _ in range(3):
            await google.batches.get(name=batch.name)
        await google.batches.cancel(name=batch.name)
        ended = await ask.google_end(batch.name)
        assert ended.state.name == "JOB_STATE_CANCELLED"
        assert (len(ended.dest.inlined_responses) if ended.dest else None) == kept
    with pytest.raises(errors.ClientError, match="FAILED_PRECONDITION"):
        await google.batches.cancel(name=(await ask.google_end((await ask.google_batch({"a": "b"})).name)).name)


async def test_two_days_are_the_limit(batch_emulator, ask, http):
    """An expired job has no results; stats and error are on the wire although the SDK drops them."""
    batch_emulator.faults.add("google.create", "stuck")
    batch = await ask.google_batch({"a": "x"})
    batch_emulator.clock.advance(2 * 86_400)
    ended = await ask.google_end(batch.name)
    assert (ended.state.name, ended.dest) == ("JOB_STATE_EXPIRED", None)
    raw = (await http.get(f"/v1beta/{batch.name}", headers={"x-goog-api-key": "k"})).json()
    assert raw["done"]
    assert raw["error"]["code"] == 4
    assert raw["metadata"]["batchStats"]["requestCount"] == "1"


async def test_a_bad_line_fails_the_job(ask, google):
    """A file that is not JSON lines of requests makes the job fail later."""
    file = await ask.google_file(b"nonsense\n")
    batch = await google.batches.create(model="gemini-2.5-flash", src=file.name)
    assert (await ask.google_end(batch.name)).state.name == "JOB_STATE_FAILED"


async def test_jobs_in_flight_are_limited(batch_emulator, ask):
    """One job too many is 429 RESOURCE_EXHAUSTED."""
    batch_emulator.emulator.change({"limits": {"google_jobs": 1}})
    await ask.google_batch({"a": "x"})
    with pytest.raises(errors.ClientError) as caught:
        await ask.google_batch({"a": "y"})
    assert (caught.value.code, caught.value.status) == (429, "RESOURCE_EXHAUSTED")


async def test_large_bodies(batch_emulator, ask, google):
    """Inline bodies have their limit, files go up in chunks."""
    batch_emulator.emulator.change({"limits": {"google_inline_bytes": 100}})
    with pytest.raises(errors.ClientError, match="payload size"):
        await ask.google_batch({"a": "x" * 200})
    raw = _jsonl({"a": "x" * (9 << 20)})
    file = await ask.google_file(raw)
    assert file.size_bytes == len(raw)
    assert batch_emulator.books()["calls"]["google.upload.chunk"] == 2
    batch = await google.batches.create(model="gemini-2.5-flash", src=file.name)
    assert (await ask.google_end(batch.name)).state.name == "JOB_STATE_SUCCEEDED"


async def test_a_chosen_file_name_is_taken_once(batch_emulator, google, tmp_path):
    """Uploading under a name again is 409, so an upload can be repeated safely; files expire after 48 hours."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"{}\n")
    config = {"name": "rows-1", "mime_type": "application/jsonl"}
    await google.files.upload(file=path, config=config)
    with pytest.raises(errors.ClientError) as caught:
        await google.files.upload(file=path, config=config)
    assert caught.value.status == "ALREADY_EXISTS"
    assert [file.name async for file in await google.files.list()] == ["files/rows-1"]
    batch_emulator.clock.advance(2 * 86_400)
    with pytest.raises(errors.ClientError, match="404"):
        await google.files.get(name="files/rows-1")


async def test_lists_and_deletes(ask, google):
    """Newest first, page by page; a deleted job is gone."""
    made = [(await ask.google_batch({"a": f"{n}"})).name for n in range(3)]
    assert [batch.name async for batch in await google.batches.list(config={"page_size": 2})] == made[::-1]
    await google.batches.delete(name=made[0])
    with pytest.raises(errors.ClientError, match="404"):
        await google.batches.get(name=made[0])


async def test_keys_are_checked(batch_emulator, http):
    """The key `invalid` is 401, in Google's own words."""
    answer = await http.get("/v1beta/models", headers={"x-goog-api-key": "invalid"})
    assert (answer.status_code, answer.json()["error"]["status"]) == (401, "UNAUTHENTICATED")


@pytest.mark.parametrize("inline", [True, False])
async def test_rows_that_fail_get_lost_doubled_or_strange(ask, google, inline):
    """Each in its own line; the job succeeds all the same."""
    words = ("error=rate_limit", "error=nonsense", "expired", "cancelled", "missing", "duplicate", "stranger")
    prompts = {word: f"x [[emulate:{word}]]" for word in words}
    if inline:
        ended = await ask.google_end((await ask.google_batch(prompts)).name)
        rows = [(row.metadata["key"], row.error and row.error.code) for row in ended.dest.inlined_responses]
    else:
        file = await ask.google_file(_jsonl(prompts))
        ended = await ask.google_end((await google.batches.create(model="gemini-2.5-flash", src=file.name)).name)
        raw = await google.files.download(file=ended.dest.file_name)
        rows = [(line["key"], line.get("error", {}).get("code")) for line in map(json.loads, raw.strip().split(b"\n"))]
    assert rows == [
        ("error=rate_limit", 8), ("error=nonsense", 3), ("expired", 4), ("cancelled", 1),
        ("duplicate", None), ("duplicate", None), ("stranger", None), ("stranger-6", None),
    ]  # fmt: skip


async def test_a_forced_function_is_called(ask, google):
    """Mode ANY demands a call, and its parameters are obeyed."""
    label = {
        "name": "label",
        "parameters": {"type": "OBJECT", "properties": {"x": {"type": "STRING"}}, "required": ["x"]},
    }
    config = types.GenerateContentConfig(
        tools=[types.Tool(function_declarations=[label])],
        tool_config={"function_calling_config": {"mode": "ANY", "allowed_function_names": ["label"]}},
    )
    batch = await google.batches.create(
        model="gemini-2.5-flash", src=[types.InlinedRequest(contents="cat", config=config)]
    )
    (row,) = (await ask.google_end(batch.name)).dest.inlined_responses
    assert (row.response.function_calls[0].name, row.response.function_calls[0].args) == ("label", {"x": "cat"})


async def test_the_queue_of_tokens_is_limited(batch_emulator, ask):
    """Beyond the enqueued tokens a create is 429; once the others have ended it is taken."""
    batch_emulator.emulator.change({"limits": {"google_enqueued_tokens": 10}})
    first = await ask.google_batch({"a": "x" * 32})
    with pytest.raises(errors.ClientError, match="enqueued tokens"):
        await ask.google_batch({"b": "y" * 32})
    await ask.google_end(first.name)
    assert await ask.google_batch({"b": "y" * 32})


async def test_a_chunk_may_be_sent_again(http):
    """A chunk whose reply was lost is repeated from its offset; a gap, a wrong size and a stranger's URL are refused."""
    headers = {"x-goog-api-key": "k", "x-goog-upload-command": "start", "x-goog-upload-header-content-length": "4"}
    begun = await http.post("/upload/v1beta/files", json={"file": {"display_name": "d"}}, headers=headers)
    url = begun.headers["x-goog-upload-url"]

    async def send(data, offset, command="upload"):
        return await http.post(
            url, content=data, headers={"x-goog-upload-command": command, "x-goog-upload-offset": str(offset)}
        )

    assert (await send(b"ab", 0)).headers["x-goog-upload-status"] == "active"
    assert (await send(b"ab", 0)).headers["x-goog-upload-status"] == "active"
    assert (await send(b"", 0, "query")).headers["x-goog-upload-size-received"] == "2"
    assert (await send(b"x", 3)).status_code == 400
    assert (await send(b"c", 2, "upload, finalize")).status_code == 400
    done = await send(b"cd", 2, "upload, finalize")
    assert (done.headers["x-goog-upload-status"], done.json()["file"]["sizeBytes"]) == ("final", "4")
    assert (await send(b"", 0)).status_code == 404
    assert (
        await http.post("/upload/v1/files", json={"file": {"name": "files/BAD"}}, headers=headers)
    ).status_code == 400


async def test_a_single_call_is_answered_at_once(google, batch_emulator):
    """Outside any batch: no list shows it, the books do."""
    answer = await google.models.generate_content(model="gemini-2.5-flash", contents="one")

    assert answer.text == "echo: one"
    assert [job async for job in await google.batches.list()] == []
    (job,) = batch_emulator.books()["jobs"]
    assert (job["single"], job["model"], job["billed"]) == (True, "models/gemini-2.5-flash", 1)


@pytest.mark.parametrize(
    ("order", "status"), [("error=overloaded", 503), ("error=quota", 429), ("missing", 504), ("error=nonsense", 400)]
)
async def test_an_order_for_a_row_holds_for_a_single_call(google, order, status):
    """It fails as the whole call does then."""
    with pytest.raises(errors.APIError) as error:
        await google.models.generate_content(model="gemini-2.5-flash", contents=f"x [[emulate:{order}]]")
    assert error.value.code == status
