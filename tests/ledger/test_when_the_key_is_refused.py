"""A key that is refused while a worker talks to the provider: read again, and no reason to give up what was bought."""

from __future__ import annotations

import pytest
from fakes import Job
from pydantic import SecretStr

from airflow_batch_provider.exceptions import Denied
from airflow_batch_provider.hub import Hub
from airflow_batch_provider.models import Account

MODELS = {"anthropic": "claude-sonnet-4-5", "openai": "gpt-5-mini", "google": "gemini-2.5-flash"}
CREATE = {"anthropic": "anthropic.create", "openai": "openai.batches.create", "google": "google.create"}
RUNS_ON = "What was bought runs on at the provider"


class Keys:
    """The connection as Airflow holds it, and the keys that the provider takes."""

    def __init__(self, emulator):
        self._emulator = emulator.emulator
        self.stored = "old"
        self._next = []
        self.accept("old", "new")

    def accept(self, *keys):
        self._emulator.settings = self._emulator.settings.model_copy(update={"keys": frozenset(keys)})

    def serve(self, *keys):
        """Set these keys one after the other, as they are read."""
        self._next = list(keys)

    def read(self):
        """Return the key that is stored when the connection is read."""
        if self._next:
            self.stored = self._next.pop(0)
        return self.stored

    def rotate(self):
        """The new key is stored, and the old one is taken no more."""
        self.stored = "new"
        self.accept("new")


@pytest.fixture(params=MODELS)
def name(request):
    return request.param


@pytest.fixture
def keys(batch_emulator):
    return Keys(batch_emulator)


@pytest.fixture
async def task(tmp_path, batch_emulator, clock, keys, name):
    """A task of three rows in two batches, on the provider's own SDK."""
    clock.advance(batch_emulator.clock.now() - clock.now().timestamp())
    urls = {
        "anthropic": batch_emulator.anthropic_url,
        "openai": batch_emulator.openai_url,
        "google": batch_emulator.google_url,
    }

    async def open_account(connection):
        key = SecretStr(keys.read())
        return Account(provider=name, api_key=key, base_url=urls[name], options={"max_requests": 2})

    hubs = []

    class Task(Job):
        """Each attempt is a process with connections of its own."""

        async def start(self):
            hubs.append(Hub(open_account, sleep=clock.sleep))
            self._hub = hubs[-1]
            return await super().start()

    yield Task(tmp_path, None, clock, ["a", "b", "c"], hub=object(), conn_id=name, model=MODELS[name])
    for hub in hubs:
        await hub.aclose()


async def test_a_key_that_is_rotated_under_a_worker_is_read_again(task, keys, batch_emulator):
    """Between two of its runs, which share a client here as they do on a long-lived worker."""
    suspended = await task.start()
    keys.rotate()
    await task.wait(suspended)

    manifest = await task.resume(suspended)

    assert manifest.counts["succeeded"] == 3
    assert batch_emulator.books()["bought_twice"] == 0


async def test_a_key_that_is_rotated_between_two_submits_buys_each_batch_once(task, keys, batch_emulator, name):
    """The first is bought under the old key, and the other one under the new."""
    refused = batch_emulator.faults.add(CREATE[name], "status", status=401, after=1)
    keys.serve("old", "new")
    suspended = await task.start()
    await task.wait(suspended)

    assert (await task.resume(suspended)).counts["succeeded"] == 3
    assert refused.taken == 1
    assert batch_emulator.books()["bought_twice"] == 0


async def test_a_key_that_stays_refused_says_that_the_batch_runs_on(task, keys, batch_emulator):
    """And a retry with a good key lands it, buying nothing again."""
    suspended = await task.start()
    await task.wait(suspended)
    keys.accept("another")

    with pytest.raises(Denied, match=RUNS_ON):
        await task.resume(suspended)
    assert (task.shown[-1]["state"], RUNS_ON in task.shown[-1]["next_action"]) == ("denied", True)

    keys.rotate()
    assert (await task.retry()).counts["succeeded"] == 3
    assert batch_emulator.books()["bought_twice"] == 0


async def test_a_key_that_is_refused_before_anything_is_bought_promises_nothing(task, keys):
    """Nothing runs on."""
    keys.accept("another")

    with pytest.raises(Denied) as refused:
        await task.start()

    assert RUNS_ON not in str(refused.value)
    assert RUNS_ON not in task.shown[-1]["next_action"]
