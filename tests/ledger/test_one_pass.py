"""Rows go out in one pass: each is read, written and serialised once, and none waits in memory for the others."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager

import msgspec
import pytest

from airflow_batch_provider.ledger import bodies as bodies_module
from airflow_batch_provider.ledger.batch_files import REQUESTS
from airflow_batch_provider.storage import Directory


@pytest.fixture
def passes(monkeypatch):
    """How often request files were written and read."""
    counted = Counter()
    for name in ("writer", "reader"):
        original = getattr(Directory, name)

        @contextmanager
        def opened(self, file, _name=name, _original=original):
            counted[_name] += file.endswith(REQUESTS)
            with _original(self, file) as stream:
                yield stream

        monkeypatch.setattr(Directory, name, opened)
    return counted


async def test_a_request_file_is_written_once_and_read_once_until_it_is_bought(new_ledger, provider, passes):
    """The estimate is taken while the rows are planned, and only the upload reads them again."""
    provider.max_requests = 2
    ledger = new_ledger()
    with ledger.draft([f"q{n}" for n in range(6)]) as draft:
        assert draft.forecast.usage.input_tokens > 0
        draft.commit()
    await ledger.advance()

    assert len(provider.batches) == 3
    assert passes == {"writer": 3, "reader": 3}


async def test_a_source_is_read_once(new_ledger):
    """By the first attempt, which finds no plan."""
    reads = 0

    class Rows:
        def __iter__(self):
            nonlocal reads
            reads += 1
            return iter(["a", "b"])

    rows, ledger = Rows(), new_ledger()
    assert ledger.current_plan(rows) is None
    with ledger.draft(rows) as draft:
        draft.commit()
    await ledger.advance()

    assert reads == 1


async def test_a_prompt_is_serialised_once(new_ledger, monkeypatch):
    """Its bytes are then copied as they are: into the request file, and from there into what is sent."""
    serialised = Counter()

    made = msgspec.json.Encoder

    class CountingEncoder:
        def __init__(self, **options):
            self._encoder = made(**options)

        def encode(self, value):
            serialised[str(value)] += 1
            return self._encoder.encode(value)

    monkeypatch.setattr(bodies_module.msgspec.json, "Encoder", CountingEncoder)
    ledger = new_ledger()
    prompts = [f"question {n}" for n in range(4)]
    with ledger.draft(prompts) as draft:
        draft.commit()
    await ledger.advance()

    assert {prompt: serialised[prompt] for prompt in prompts} == dict.fromkeys(prompts, 1)


def test_a_row_is_written_before_the_next_but_one_is_read(new_ledger, monkeypatch):
    """So the rows that are alive at once are few, however many there are."""
    read, written, most = 0, 0, 0

    def rows():
        nonlocal read, most
        for number in range(500):
            read += 1
            most = max(most, read - written)
            yield f"q{number}"

    original = Directory.writer

    @contextmanager
    def counted(self, name):
        with original(self, name) as file:
            yield CountingFile(file)

    class CountingFile:
        def __init__(self, file):
            self._file = file

        def write(self, data):
            nonlocal written
            written += 1
            return self._file.write(data)

    monkeypatch.setattr(Directory, "writer", counted)
    with new_ledger().draft(rows()):
        pass

    assert (read, written) == (500, 500)
    assert most <= 2


def test_what_is_forecast_while_planning_is_what_the_files_say(new_ledger, provider):
    """Of plain rows, of rows with settings of their own, and of one that is skipped for its size."""
    provider.max_bytes = 3000
    ledger = new_ledger(skip_bad_rows=True)
    rows = ["plain", {"prompt": "own", "request_params": {"max_tokens": 7}}, "x" * 4000, "another plain one"]
    with ledger.draft(rows) as draft:
        draft.commit()

    again = ledger.forecast(draft.plan)

    assert (draft.plan.skipped, draft.forecast.usage, draft.forecast.cost) == (1, again.usage, again.cost)
    assert draft.plan.first.tokens == again.usage.input_tokens
