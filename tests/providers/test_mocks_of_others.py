"""Servers by others that speak the batch APIs, so that our emulator is not the only judge of what we send and read.

aimock (npm) speaks OpenAI's files and batches, llmock (PyPI) those and Anthropic's batches. `make stores` installs both beside the
environment; without them these tests are skipped. Neither runs a model or keeps a bill: they judge the protocol, not the money.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr
from storages import free_port, wait_for

from airflow_batch_provider.models import Account, BatchRequest, Spec
from airflow_batch_provider.providers import connect
from airflow_batch_provider.providers.base import BatchQuery, Payload
from airflow_batch_provider.providers.openai.provider import OpenAIProvider
from airflow_batch_provider.stages import PollConfig
from airflow_batch_provider.stages.embed import EmbedStage
from airflow_batch_provider.stages.generate import GenerateStage
from airflow_batch_provider.testing import SimulatedTask, run_stage

# llmock 0.2.2 leaves the file of an upload to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*SpooledTemporaryFile:pytest.PytestUnraisableExceptionWarning",
    "ignore:.*SpooledTemporaryFile:ResourceWarning",
)

DAY = PollConfig(interval=timedelta(minutes=5), max_wait=timedelta(days=1))
ROWS = [{"custom_id": "a", "prompt": "Name a sea."}, {"custom_id": "b", "prompt": "Name a lake."}]


@dataclass(frozen=True)
class Mock:
    """One API of one server."""

    server: str
    provider: str
    model: str
    path: str
    batches: str
    options: dict[str, Any] = field(default_factory=dict)

    def account(self, url: str) -> Account:
        return Account(
            provider=self.provider, api_key=SecretStr("none"), base_url=url + self.path, options=dict(self.options)
        )


OPENAI = {"provider": "openai", "model": "gpt-5-mini", "path": "/v1", "batches": "/batches"}
MOCKS = {
    "aimock chat": Mock("aimock", **OPENAI),
    "aimock responses": Mock("aimock", **OPENAI, options={"api": "responses"}),
    "llmock openai": Mock("llmock", **OPENAI),
    "llmock anthropic": Mock("llmock", "anthropic", "claude-haiku-4-5", "/anthropic", "/v1/messages/batches"),
}


@pytest.fixture(scope="module")
def aimock_url(tmp_path_factory):
    """A process of Node, which forgets everything when it ends."""
    binary = shutil.which("aimock")
    if binary is None:
        pytest.skip("aimock is not installed: make stores, where npm is")
    config = tmp_path_factory.mktemp("aimock") / "config.json"
    config.write_text("{}")
    port = free_port()
    command = [binary, "--config", str(config), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_for(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=10)


@pytest.fixture(scope="module")
def llmock_url():
    """A thread of this process; its batches are done at the first poll."""
    testing = pytest.importorskip("llmock.testing", reason="llmock is not installed: make stores")
    from llmock.routers import batch

    with pytest.MonkeyPatch.context() as patch, testing.LLMockServer() as server:
        patch.setattr(batch, "_BATCH_DELAY", 0.0)  # three seconds of the real clock, which no test of ours waits for
        yield server.url


@pytest.fixture(params=list(MOCKS))
def mock(request) -> Mock:
    return MOCKS[request.param]


@pytest.fixture
def url(mock, request) -> str:
    return request.getfixturevalue(f"{mock.server}_url")


@pytest.fixture
def task(mock, url, tmp_path) -> SimulatedTask:
    """A task of `BatchGenerateOperator`, whose clock begins now, as that of the mock's records does."""
    return simulated(mock, url, tmp_path)


def config(mock: Mock, **changes: Any) -> dict[str, Any]:
    connection = {"conn_id": "mine", "provider": mock.provider}
    return {"model": f"{mock.provider}:{mock.model}", "connection": connection, "retry_rows": 0, **changes}


def simulated(mock: Mock, url: str, folder: Path) -> SimulatedTask:
    accounts = {"mine": mock.account(url)}
    return SimulatedTask(GenerateStage, str(folder), config(mock), ROWS, accounts=accounts, poll=DAY)


def rows(output: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(output["results"]).read_text().splitlines()]


def batches(mock: Mock, url: str) -> list[str]:
    """The ids that the mock itself lists, read without our code."""
    return [one["id"] for one in httpx2.get(f"{url}{mock.path}{mock.batches}", params={"limit": 100}).json()["data"]]


async def test_a_task_is_answered_row_by_row(task, mock, url):
    """Uploaded, created, polled, downloaded; each row has a text and its model."""
    before = batches(mock, url)

    output = (await task.run()).output

    found = rows(output)
    assert [(row["custom_id"], row["status"], row["finish_reason"]) for row in found] == [
        ("a", "succeeded", "stop"),
        ("b", "succeeded", "stop"),
    ]
    assert all(row["output"] and row["model"] == mock.model for row in found)
    assert sorted({*batches(mock, url)} - {*before}) == output["batches"]
    assert output["errors"] == {"reasons": []}


async def test_a_batch_whose_receipt_was_lost_is_found_and_not_bought_again(task, mock, url, tmp_path):
    """As when the worker dies right after the purchase; by our tag in their list, or by time and number of requests."""
    before = batches(mock, url)
    await task.start()
    bought = batches(mock, url)
    [receipt] = tmp_path.rglob("*.receipt.json")
    receipt.unlink()
    [suspended] = tmp_path.rglob("suspended.json")
    suspended.unlink()

    output = (await simulated(mock, url, tmp_path).run()).output

    assert output["batches"] == [*{*bought} - {*before}]  # they list batches of one second in any order
    assert {*batches(mock, url)} == {*bought}
    assert output["counts"]["succeeded"] == 2


async def test_a_cancelled_batch_is_seen_as_cancelled(task, mock, url, monkeypatch):
    """At once or at the next poll."""
    if mock.server == "llmock":
        monkeypatch.setattr("llmock.routers.batch._BATCH_DELAY", 3600.0)
    [batch_id] = (await task.start()).batch_ids
    provider = connect(mock.account(url))

    await provider.cancel(batch_id)
    states = [(await provider.status(batch_id)).status for _ in range(2)]
    await provider.aclose()

    assert states[-1] == "cancelled"


@pytest.mark.parametrize("name", ["aimock chat", "llmock openai"])
def test_rows_are_embedded(name, request):
    """A vector for each row."""
    mock = MOCKS[name]
    url = request.getfixturevalue(f"{mock.server}_url")
    settings = config(mock, model="openai:text-embedding-3-small", kind="embed")

    output = run_stage(EmbedStage, config=settings, input=ROWS, accounts={"mine": mock.account(url)}, poll=DAY).output

    assert output["counts"]["succeeded"] == 2


# what only aimock can be told to do


class Outcome(httpx2.AsyncHTTPTransport):
    """Asks aimock for an ending other than `completed`."""

    def __init__(self, outcome: str) -> None:
        super().__init__()
        self.outcome = outcome

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        request.headers["X-AIMock-Batch-Outcome"] = self.outcome
        return await super().handle_async_request(request)


def payload(provider: OpenAIProvider, folder: Path, tag: str) -> Payload:
    spec = Spec(model="gpt-5-mini")
    body = json.dumps(provider.codec.encode(BatchRequest(prompt="Name a sea."), spec)).encode()
    path = folder / f"{tag}.jsonl"
    path.write_bytes(provider.codec.line("key-0", body, spec) + b"\n")
    return Payload(tag=tag, label="dag/run/task", path=path, requests=1, bytes=path.stat().st_size, spec=spec)


@pytest.mark.parametrize("outcome", ["failed", "expired", "cancelled"])
async def test_a_batch_without_answers_ends_as_the_server_says(outcome, aimock_url, tmp_path):
    """A failed one has an error file, whose lines are rows with their reason."""
    provider = OpenAIProvider(MOCKS["aimock chat"].account(aimock_url), Outcome(outcome))
    batch_id = await provider.create(await provider.prepare(payload(provider, tmp_path, f"abp-{outcome}")))
    for _ in range(2):
        status = await provider.status(batch_id)
    replies = [reply async for reply in provider.results(batch_id, "generate")]
    await provider.aclose()

    assert (status.status, status.tag) == (outcome, f"abp-{outcome}")
    told = {"failed": [("key-0", "failed", "mock_failure")]}.get(outcome, [])
    assert [(reply.key, reply.status, reply.error.code) for reply in replies] == told


async def test_a_batch_beyond_the_first_page_of_a_list_is_found(aimock_url, tmp_path):
    """A page has 100 of them at most."""
    provider = OpenAIProvider(MOCKS["aimock chat"].account(aimock_url))
    began = datetime.now(UTC)
    batch_id = await provider.create(await provider.prepare(payload(provider, tmp_path, "abp-page")))
    body = {"input_file_id": "file-x", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    async with httpx2.AsyncClient() as client:
        for _ in range(101):
            await client.post(f"{aimock_url}/v1/batches", json=body)

    found = await provider.find(BatchQuery(tag="abp-page", claimed_at=began, requests=1, key_prefix="key-"))
    await provider.aclose()

    assert [(one.batch_id, one.certain) for one in found] == [(batch_id, True)]
