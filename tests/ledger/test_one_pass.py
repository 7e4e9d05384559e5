"""Rows go out and come back in one pass: each is read, written and serialised once, and none waits for the others."""

from __future__ import annotations

import hashlib
from collections import Counter
from contextlib import contextmanager
from datetime import timedelta
from types import SimpleNamespace

import msgspec
import pytest
from pydantic import SecretStr
from upath import UPath

from airflow_batch_provider.blocks import MOST_BYTES, MOST_ROWS
from airflow_batch_provider.ledger import Target
from airflow_batch_provider.ledger import batch_files as batch_files_module
from airflow_batch_provider.ledger import bodies as bodies_module
from airflow_batch_provider.ledger import landed as landed_module
from airflow_batch_provider.ledger import requests as requests_module
from airflow_batch_provider.ledger.batch_files import REQUESTS, ROWS, USES
from airflow_batch_provider.ledger.requests import check_rows
from airflow_batch_provider.ledger.row_cache import RowCache
from airflow_batch_provider.models import Account, BatchRequest, PlainRequest, Spec
from airflow_batch_provider.storage import Directory


@pytest.fixture
def passes(monkeypatch):
    """How often files of a kind were written and read: `passes(REQUESTS)`."""
    counted = {REQUESTS: Counter(), ROWS: Counter()}
    for name in ("writer", "reader"):
        original = getattr(Directory, name)

        @contextmanager
        def opened(self, file, _name=name, _original=original):
            for ending, counts in counted.items():
                counts[_name] += file.endswith(ending)
            with _original(self, file) as stream:
                yield stream

        monkeypatch.setattr(Directory, name, opened)
    return counted.__getitem__


async def test_a_request_file_is_written_once_and_read_once_until_it_is_bought(new_ledger, provider, passes):
    """The estimate is taken while the rows are planned, and only the upload reads them again."""
    provider.max_requests = 2
    ledger = new_ledger()
    with ledger.draft([f"q{n}" for n in range(6)]) as draft:
        assert draft.forecast.usage.input_tokens > 0
        draft.commit()
    await ledger.advance()

    assert len(provider.batches) == 3
    assert passes(REQUESTS) == {"writer": 3, "reader": 3}


async def test_what_a_plan_costs_is_known_without_its_bodies(new_ledger, provider, passes):
    """To an attempt that goes on with it, and to the limit on what the task may cost."""
    provider.account = Account(provider="openai", api_key=SecretStr("k"), options={"prices": {"m": {"input": 1}}})
    provider.max_requests = 2
    with new_ledger().draft([f"q{n}" for n in range(6)]) as draft:
        draft.commit()
    ledger = new_ledger(max_cost_usd=1)

    assert ledger.forecast(draft.plan).usage == draft.forecast.usage
    assert passes(REQUESTS)["reader"] == 0
    await ledger.advance()

    assert len(provider.batches) == 3
    assert passes(REQUESTS)["reader"] == 3  # to send them


async def test_counts_of_a_plan_that_are_lost_or_damaged_are_made_again(new_ledger):
    """From its bodies: an estimate is never a reason to stop."""
    ledger = new_ledger()
    with ledger.draft(["a", {"prompt": "b", "request_params": {"max_tokens": 7}}]) as draft:
        draft.commit()
    directory = ledger.files.wave_directory(0)
    (name,) = [name for name in directory.names() if name.endswith(USES)]

    directory.write(name, b"[1]")
    damaged = ledger.forecast(draft.plan)
    directory.delete(name)
    lost = ledger.forecast(draft.plan)

    assert damaged.usage == lost.usage == draft.forecast.usage


@pytest.fixture
def parsed(monkeypatch):
    """How many landed rows were parsed."""
    counted = Counter()
    original = batch_files_module.decode_row

    def decode_row(line):
        counted["rows"] += 1
        return original(line)

    for module in (batch_files_module, landed_module):
        monkeypatch.setattr(module, "decode_row", decode_row)
    return counted


async def finished(ledger, provider, clock, name):
    provider.max_requests = 2
    with ledger.draft([f"q{n}" for n in range(6)]) as draft:
        draft.commit()
    while await ledger.advance():
        clock.advance(60)
        ledger.landed()
    ledger.landed()
    return ledger.write_results("generate", Target(ledger.root, name)).manifest


@pytest.mark.parametrize("name", ["results.jsonl", "results.jsonl.zst"])
async def test_rows_that_landed_are_read_once_and_parsed_never(new_ledger, provider, clock, passes, parsed, name):
    """Where nothing was asked again, the results are the bytes that landed; counts, tokens and money are known already."""
    manifest = await finished(new_ledger(retry_rows=2), provider, clock, name)

    assert (manifest.counts["succeeded"], manifest.usage.input_tokens) == (6, 60)
    assert passes(ROWS) == {"writer": 3, "reader": 3}
    assert parsed["rows"] == 0


async def test_rows_that_become_a_table_are_parsed_once(new_ledger, provider, clock, passes, parsed):
    """To be put into columns, and not to be counted."""
    manifest = await finished(new_ledger(retry_rows=2), provider, clock, "results.parquet")

    assert manifest.counts["succeeded"] == 6
    assert (passes(ROWS)["reader"], parsed["rows"]) == (3, 6)


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


def test_what_a_row_asks_is_digested_once(new_ledger, clock, tmp_path, monkeypatch):
    """For the plan's fingerprint, for copies among the rows, and for the row cache."""
    digested = []

    def counted(data, **options):
        digested.append(bytes(data))
        return hashlib.sha256(data, **options)

    monkeypatch.setattr(requests_module, "hashlib", SimpleNamespace(sha256=counted))
    cache = RowCache(Directory(UPath(tmp_path / "cache")), timedelta(days=1), clock)

    with new_ledger(row_cache=cache, dedup_rows=True).draft(["one", "two", "one"]) as draft:
        assert draft.plan.copies == 1

    assert [sum(word in data for data in digested) for word in (b"one", b"two")] == [2, 1]


@pytest.mark.parametrize("kind", [str, PlainRequest])
async def test_a_prompt_is_serialised_once(new_ledger, monkeypatch, kind):
    """Its bytes are then copied as they are: into the request file, and from there into what is sent."""
    serialised = Counter()

    made = msgspec.json.Encoder

    class CountingEncoder:
        def __init__(self, **options):
            self._encoder = made(**options)

        def encode(self, value):
            serialised[str(value)] += 1
            return self._encoder.encode(value)

        def encode_lines(self, values):
            serialised.update(values)
            return self._encoder.encode_lines(values)

    monkeypatch.setattr(bodies_module.msgspec.json, "Encoder", CountingEncoder)
    ledger = new_ledger()
    prompts = [f"question {n}" for n in range(4)]
    with ledger.draft(list(map(kind, prompts))) as draft:
        draft.commit()
    await ledger.advance()

    assert {prompt: serialised[prompt] for prompt in prompts} == dict.fromkeys(prompts, 1)


@pytest.fixture
def most_alive(new_ledger, monkeypatch):
    """Plans rows; returns the most that had been read, and were not written."""
    read, written, most = 0, 0, 0

    class CountingFile:
        def __init__(self, file):
            self._file = file

        def write(self, data):
            nonlocal written
            written += data.count(b"\n")
            return self._file.write(data)

    original = Directory.writer

    @contextmanager
    def counted(self, name):
        with original(self, name) as file:
            yield CountingFile(file) if name.endswith(REQUESTS) else file

    monkeypatch.setattr(Directory, "writer", counted)

    def planned(given):
        def rows():
            nonlocal read, most
            for row in given:
                read += 1
                most = max(most, read - written)
                yield row

        with new_ledger().draft(rows()):
            assert read == written
        return most

    return planned


@pytest.mark.parametrize("kind", [str, PlainRequest])
def test_a_block_of_rows_is_written_before_the_next_one_is_read(most_alive, kind):
    """So the rows that are alive at once are few, however many there are."""
    assert most_alive(kind(f"q{number}") for number in range(3 * MOST_ROWS + 7)) <= MOST_ROWS + 1


@pytest.mark.parametrize("kind", [str, PlainRequest])
def test_the_bodies_of_large_rows_are_made_a_few_at_once(kind, provider):
    """As many as have the bytes of a block: a hundred prompts of a megabyte are in memory once."""
    rows = [kind(f"{number} {'x' * 4 * MOST_BYTES}") for number in range(20)]

    blocks = list(check_rows(rows, provider, Spec(model="m")))

    assert [len(block) for block in blocks] == [1] * 20
    assert [row.index for (row,) in blocks] == list(range(20))


def test_rows_that_are_skipped_stay_in_order_whatever_is_wrong_with_them(new_ledger, provider):
    """What is bad is found before what is too large; both are of one block."""
    provider.max_bytes = 3000
    ledger = new_ledger(skip_bad_rows=True)
    rows = ["x" * 4000, " ", "good", "y" * 4000, ""]
    with ledger.draft(rows) as draft:
        assert draft.commit()

    assert [row.index for row in ledger.files.skipped_rows(draft.plan)] == [0, 1, 3, 4]


def test_a_batch_ends_at_its_limit_in_the_middle_of_a_block(new_ledger, provider):
    """And the next one goes on with the very next row."""
    provider.max_requests = 3
    ledger = new_ledger()
    with ledger.draft([PlainRequest(f"q{number}") for number in range(8)]) as draft:
        assert draft.commit()

    asked = [[row.index for row in batch.planned_rows()] for batch in ledger.files.batches(draft.plan.first)]
    assert asked == [[0, 1, 2], [3, 4, 5], [6, 7]]


def test_a_plan_is_the_same_however_its_rows_come(new_ledger):
    """At once, in blocks of plain requests, or among others, which are looked at one by one: a retry buys nothing again."""
    prompts = [f"question {number}" for number in range(5)]
    ledger = new_ledger()
    with ledger.draft([PlainRequest(prompt) for prompt in prompts]) as draft:
        assert draft.commit()

    for rows in (prompts, [BatchRequest(prompt=prompts[0]), *map(PlainRequest, prompts[1:])]):
        assert new_ledger().current_plan(rows) == draft.plan


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
