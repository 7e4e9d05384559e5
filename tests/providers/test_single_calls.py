"""One request by a call of its own: its answer is what a batch would have said, and so is what is wrong with it."""

from __future__ import annotations

import httpx2
import msgspec
import pytest
from msgspec.structs import replace
from provider_backends import BACKENDS, KEY
from pydantic import BaseModel

from airflow_batch_provider.exceptions import Denied, NotFound, Paused, Unavailable
from airflow_batch_provider.models import BatchRequest, Spec, Usage
from airflow_batch_provider.providers import provider_class

ROUTES = {
    "anthropic": "anthropic.message",
    "openai-chat": "openai.chat",
    "openai-responses": "openai.responses",
    "google": "google.generate",
}


class Judgement(BaseModel):
    label: str
    score: int = 0


@pytest.fixture
def route(backend):
    return next(ROUTES[name] for name, one in BACKENDS.items() if one is backend)


async def asked(bench, prompt, spec=None, **fields):
    spec = spec or bench.spec()
    body = bench.provider.codec.encode(BatchRequest(prompt=prompt, **fields), spec)
    return await bench.provider.ask("key-7", msgspec.json.encode(body), spec)


@pytest.mark.parametrize(
    "prompt",
    [
        "Name a sea.",
        "separators, and thought [[emulate:separators]] [[emulate:reasoning=5]] [[emulate:cached=2]]",
        "x [[emulate:refusal]]",
        "x [[emulate:truncated]]",
        "x [[emulate:empty]]",
    ],
)
async def test_the_answer_is_what_a_batch_would_have_said(bench, prompt):
    """Text, status, tokens, model and how it ended."""
    alone = await asked(bench, prompt)
    in_batch = (await bench.ask(prompt))["0"]

    assert alone.key == "key-7"
    assert replace(alone, key="") == replace(in_batch, key="")


async def test_a_call_of_a_tool_is_what_a_batch_would_have_said(bench):
    """But for its id."""
    prompt = "x [[emulate:tool_use]]"

    alone, in_batch = await asked(bench, prompt), (await bench.ask(prompt))["0"]

    for reply in (alone, in_batch):
        reply.output["tool_calls"][0].pop("id", None)
    assert replace(alone, key="") == replace(in_batch, key="")


async def test_an_answer_fits_the_schema_that_was_asked(bench):
    """The body is the one that a batch would send."""
    reply = await asked(bench, "judge", bench.spec(output_schema=Judgement.model_json_schema()))

    assert Judgement.model_validate_json(reply.output)


async def test_an_embedding_is_answered_where_its_tokens_are_told(bench):
    """So that its cost is known; Gemini's is asked in a batch."""
    if "embed" not in bench.provider.in_realtime or bench.backend.embedder is None:
        pytest.skip("not by single calls")
    spec = bench.spec(kind="embed").model_copy(update={"model": bench.backend.embedder})

    reply = await asked(bench, "a sea", spec)

    assert reply.usage.input_tokens > 0
    assert all(isinstance(number, float) for number in reply.output)


async def test_what_is_wrong_with_one_request_is_a_failed_row(bench):
    """As in a batch: its neighbours may be well."""
    reply = await asked(bench, "x [[emulate:error=invalid_request]]")

    assert (reply.key, reply.status, reply.usage) == ("key-7", "failed", Usage())
    assert not reply.error.retryable
    assert "400" in reply.error.message


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [(401, None, Denied), (403, None, Denied), (402, None, Paused), (404, None, NotFound)],
)
async def test_what_is_wrong_with_the_account_is_raised(bench, route, status, code, error):
    """Nothing was billed."""
    bench.emulator.faults.add(route, "status", status=status, code=code)

    with pytest.raises(error):
        await asked(bench, "x")

    assert bench.emulator.jobs.asked.total() == 0


@pytest.mark.parametrize(("status", "ambiguous"), [(429, False), (500, True), (503, True), (529, True)])
async def test_a_passing_fault_says_whether_the_row_may_have_been_paid(bench, route, status, ambiguous):
    """And for how long the provider asks to wait."""
    bench.emulator.faults.add(route, "status", status=status, retry_after=7)

    with pytest.raises(Unavailable) as told:
        await asked(bench, "x")

    assert (told.value.ambiguous, told.value.retry_after) == (ambiguous, 7)


async def test_one_call_is_made_and_no_other(bench, route):
    """The SDKs' own retries are off: a lost reply may have been paid."""
    bench.emulator.faults.add(route, "cut", when="after", times=None)

    with pytest.raises(Unavailable) as told:
        await asked(bench, "x")

    assert told.value.ambiguous
    assert bench.emulator.calls[route] == 1
    assert bench.emulator.jobs.bought.total() == 1


@pytest.mark.parametrize("page", [b"<html>proxy</html>", b"[1]", b"", b'{"a":' * 5000])
@pytest.mark.parametrize("name", list(BACKENDS))
async def test_a_page_of_a_proxy_is_not_an_answer(name, page):
    """It may stand for one that was paid."""
    backend = BACKENDS[name]
    transport = httpx2.MockTransport(lambda _request: httpx2.Response(200, content=page))
    provider = provider_class(backend.provider)(backend.account("http://emulator.test"), transport)
    spec = _spec(backend)
    body = msgspec.json.encode(provider.codec.encode(BatchRequest(prompt="x"), spec))

    with pytest.raises(Unavailable) as told:
        await provider.ask("key-7", body, spec)

    assert told.value.ambiguous
    await provider.aclose()


@pytest.mark.parametrize("name", list(BACKENDS))
@pytest.mark.parametrize("status", [200, 400])
async def test_a_key_that_the_provider_quotes_is_masked(name, status):
    """In an answer, and in what it refuses."""
    backend = BACKENDS[name]
    quoted = {"error": {"message": f"you sent {KEY}", "code": 400}, "message": f"you sent {KEY}"}
    transport = httpx2.MockTransport(lambda _request: httpx2.Response(status, json=quoted))
    provider = provider_class(backend.provider)(backend.account("http://emulator.test"), transport)
    spec = _spec(backend)
    body = msgspec.json.encode(provider.codec.encode(BatchRequest(prompt="x"), spec))

    reply = await provider.ask("key-7", body, spec)

    assert (reply.key, reply.status) == ("key-7", "failed")
    assert KEY not in repr(reply)
    await provider.aclose()


def _spec(backend):
    return Spec(model=backend.model)
