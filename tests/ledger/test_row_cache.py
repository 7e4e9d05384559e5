"""What an earlier task has bought is not bought again: the row cache."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest
from fakes import FakeClock, FakeProvider, Job, bombed_storage, failing
from sweeps import killed_jobs
from upath import UPath

from airflow_batch_provider.compression import reading, writing
from airflow_batch_provider.fleet.deployment import Deployment
from airflow_batch_provider.fleet.prune import Pruner
from airflow_batch_provider.ledger import row_cache
from airflow_batch_provider.ledger.row_cache import written_at
from airflow_batch_provider.models import Reply
from airflow_batch_provider.results import BatchResults
from airflow_batch_provider.storage import Directory

OK = Reply(key="", status="succeeded", output="fine")
DAY = 24 * 3600


@pytest.fixture
def cache(tmp_path):
    """Where the answers are kept."""
    return tmp_path / "cache"


@pytest.fixture
def task(tmp_path, provider, clock, cache):
    """Makes a task of its own for the same cache: `task("ab", row_cache_days=1)`."""
    made = []

    def make(prompts, **config):
        made.append(prompts)
        where = {"row_cache": cache.as_uri()} | config
        return Job(tmp_path / f"storage-{len(made)}", provider, clock, list(prompts), **where)

    return make


def lines_of(path):
    with path.open("rb") as raw, reading(raw, path.name) as file:
        return file.read().splitlines()


def rewrite(path, lines):
    with path.open("wb") as raw, writing(raw, path.name) as file:
        file.write(b"\n".join(lines))


def objects(cache):
    return sorted(path for path in cache.rglob("*") if path.is_file())


async def test_what_an_earlier_task_was_answered_is_not_bought_again(task, provider):
    """Nor is it estimated; the row says when it was answered, and costs nothing."""
    first = await task("ab").run()
    later = task("bcb")

    manifest = await later.run()

    assert provider.bought == {"a": 1, "b": 1, "c": 1}
    rows = later.rows(manifest)
    assert [(row["output"], row.get("same_as")) for row in rows] == [
        ("echo: b", None),
        ("echo: c", None),
        ("echo: b", "request-0"),
    ]
    assert rows[0]["cached_at"] == rows[2]["cached_at"]
    assert "cached_at" not in rows[1]
    assert [row["usage"]["input_tokens"] for row in rows] == [0, 10, 0]
    assert (first.cached, manifest.cached, manifest.copies, manifest.usage.input_tokens) == (0, 1, 1, 10)
    assert manifest.counts["succeeded"] == 3


async def test_a_task_of_which_all_is_known_buys_nothing(task, provider):
    """It is done at once."""
    await task("ab").run()

    manifest = await task("ba").run()

    assert len(provider.batches) == 1
    assert (manifest.batches, manifest.cached, manifest.counts["succeeded"]) == ((), 2, 2)


@pytest.mark.parametrize(
    "other",
    [
        {"model": "openai:n"},
        {"system": "be short"},
        {"request_params": {"seed": 1}},
        {"output_type": {"type": "string"}},
        {"row_cache": ""},
        {"row_cache": None},
    ],
)
async def test_another_question_is_bought(task, provider, other):
    """By model, body and schema; and where no cache is named."""
    provider.answer = lambda _body, _n: Reply(key="", status="succeeded", output='"a text"')
    await task("a").run()

    manifest = await task("a", **other).run()

    assert (provider.bought, manifest.cached) == ({"a": 2}, 0)


async def test_what_another_server_has_answered_is_bought(task, provider):
    """A gateway or a server of one's own may give the name of a model to any other."""
    await task("a").run()
    provider.account = provider.account.model_copy(update={"base_url": "https://gateway.example/v1"})

    manifest = await task("a").run()

    assert (provider.bought, manifest.cached) == ({"a": 2}, 0)


async def test_of_several_answers_the_newest_counts(task, provider, clock):
    """To a task that takes older ones as well."""
    provider.answer = lambda _body, n: Reply(key="", status="succeeded", output=f"answer {n}")
    await task("a").run()
    clock.advance(2 * DAY)
    await task("a", row_cache_days=1).run()

    late = task("a", row_cache_days=9)

    (row,) = late.rows(await late.run())
    assert (row["output"], provider.bought) == ("answer 2", {"a": 2})


async def test_an_answer_that_is_too_old_is_bought_again(task, provider, clock):
    """Older than `row_cache_days`."""
    await task("a").run()
    clock.advance(2 * DAY)

    await task("a", row_cache_days=3).run()
    assert provider.bought == {"a": 1}
    await task("a", row_cache_days=1).run()
    assert provider.bought == {"a": 2}


async def test_only_good_answers_are_kept(task, provider):
    """Neither failed rows, nor texts that were cut off, which another task may not take for an answer."""
    cut = Reply(key="", status="succeeded", output="lo", finish_reason="max_tokens")
    provider.answer = lambda body, _n: {"a": OK, "b": failing(), "c": cut}[body["prompt"]]

    await task("abc", retry_truncated=False).run()
    manifest = await task("abc", retry_truncated=False).run()

    assert (provider.bought, manifest.cached) == ({"a": 1, "b": 2, "c": 2}, 1)


async def test_an_answer_of_a_later_wave_answers_the_first_question(task, provider):
    """The model was shown its bad answer in between; tomorrow's task asks as the first wave did."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    provider.answer = lambda body, _n: Reply(
        key="", status="succeeded", output='{"n": 1}' if "problem" in body else "nonsense"
    )
    await task("a", output_type=schema, retry_rows=1).run()
    later = task("a", output_type=schema)

    manifest = await later.run()

    assert provider.bought == {"a": 2}
    assert later.rows(manifest)[0]["output"] == {"n": 1}


async def test_results_read_alike_whoever_bought_them(task):
    """As Parquet too."""
    await task("a").run()

    manifest = await task("ab", result_format="parquet").run()

    found = list(BatchResults(manifest))
    assert [(row.output, row.cached_at is None) for row in found] == [("echo: a", False), ("echo: b", True)]


async def test_a_large_batch_makes_few_objects_and_a_small_task_reads_few_of_them(task, provider, cache, monkeypatch):
    """Their names tell how the digests begin that are in them, and nothing of what was asked."""
    monkeypatch.setattr(row_cache, "_DIGITS", ((20, 1), (0, 0)))
    prompts = [f"secret {number}" for number in range(60)]
    await task(prompts).run()
    names = [path.name for path in objects(cache)]
    assert 8 < len(names) <= 16
    assert not any("secret" in str(path) for path in objects(cache))

    read = []
    original = Directory.reader
    monkeypatch.setattr(Directory, "reader", lambda self, name: read.append(name) or original(self, name))
    manifest = await task(prompts[:2]).run()

    assert manifest.cached == 2
    assert len([name for name in read if name in names]) <= 2
    assert len(provider.batches) == 1


@pytest.mark.parametrize("damage", [b"", b"no zstd", None])
async def test_what_cannot_be_read_is_bought(task, provider, cache, damage, caplog):
    """An empty file, a damaged one, a folder in its place: a warning, and never an error."""
    await task("a").run()
    (path,) = objects(cache)
    path.write_bytes(damage or path.read_bytes()[:-4])
    if damage is None:
        path.unlink()
        path.mkdir()

    manifest = await task("a").run()

    assert (provider.bought, manifest.counts["succeeded"]) == ({"a": 2}, 1)


async def test_every_answer_comes_back_as_it_was(task, provider):
    """Text, model and why it ended, in whatever order they are asked for."""
    provider.answer = lambda body, _n: Reply(
        key="", status="succeeded", output=body["prompt"] * 2, model=f"m-{len(body['prompt'])}", finish_reason="stop"
    )
    prompts = ["a" * length for length in (1, 90, 3, 17, 200, 2)]
    told = ("output", "model", "finish_reason", "status")
    first, again = task(prompts), task(prompts[::-1])

    before, after = first.rows(await first.run()), again.rows(await again.run())

    assert len(provider.batches) == 1
    assert [[row[name] for name in told] for row in after] == [[row[name] for name in told] for row in before[::-1]]
    assert [(row["custom_id"], row["index"]) for row in after] == [(f"request-{n}", n) for n in range(6)]


async def test_a_damaged_line_is_skipped_alone(task, provider, cache):
    """The other answers of its object count."""
    await task("ab").run()
    (path,) = objects(cache)
    good, other = lines_of(path)
    rewrite(path, [b'{"key": 5}', b"[" * 5000, other[:-9], good, b'{"key": "zz", "output": 1}'])

    manifest = await task("ab").run()

    assert manifest.cached == 1
    assert sorted(provider.bought.values()) == [1, 2]


@pytest.mark.parametrize("output", [b'"\xff"', b"1e999"])
async def test_an_answer_without_a_value_is_bought(task, provider, cache, output):
    """It stands in a line that can be read; in the plan it would end every attempt at the results."""
    await task("a").run()
    (path,) = objects(cache)
    rewrite(path, [line.replace(b'"echo: a"', output) for line in lines_of(path)])

    manifest = await task("a", result_format="parquet").run()

    assert (manifest.cached, manifest.counts["succeeded"], provider.bought) == (0, 1, {"a": 2})


async def test_a_file_with_an_impossible_time_in_its_name_is_a_strangers(task, provider, cache):
    """It keeps nobody from the others, and is not pruned."""
    await task("a").run()
    (path,) = objects(cache)
    stranger = path.with_name("all.20261399T250000Z-x.jsonl.zst")
    stranger.write_bytes(b"x")

    manifest = await task("a").run()

    assert (manifest.cached, provider.bought) == (1, {"a": 1})
    assert written_at(stranger.name) is None


async def test_a_cache_that_cannot_be_written_or_listed_ends_no_task(task, provider, cache, monkeypatch, caplog):
    """One warning each task; everything is bought."""
    caplog.set_level(logging.WARNING)
    for name in ("writer", "names"):
        original = getattr(Directory, name)

        def broken(self, *args, _original=original):
            if str(cache) in str(self):
                raise PermissionError("no")
            return _original(self, *args)

        monkeypatch.setattr(Directory, name, broken)

    manifest = await task("ab").run()

    assert manifest.counts["succeeded"] == 2
    assert any("row cache" in record.message and "does not work" in record.message for record in caplog.records)


@pytest.mark.parametrize("whose", ["the task", "the row"])
async def test_answers_are_checked_against_their_own_type(task, provider, cache, whose):
    """An entry that does not fit, whoever wrote it, is taken for none."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    rows = ["a"] if whose == "the task" else [{"prompt": "a", "output_type": schema}]
    config = {"output_type": schema} if whose == "the task" else {}
    provider.answer = lambda _body, _n: Reply(key="", status="succeeded", output='{"n": 1}')
    await task(rows, **config).run()
    assert (await task(rows, **config).run()).cached == 1
    (path,) = objects(cache)
    rewrite(path, [line.replace(b'{"n":1}', b'{"m":1}') for line in lines_of(path)])

    manifest = await task(rows, **config).run()

    assert (manifest.cached, manifest.counts["succeeded"]) == (0, 1)


async def test_a_dry_run_counts_what_is_known(task):
    """It costs nothing then."""
    await task("a").run()

    estimate = await task("ab", dry_run=True).run()

    assert (estimate.cached, estimate.counts) == (1, {"missing": 1, "succeeded": 1})


async def test_old_answers_are_pruned_and_no_other_file(task, cache, clock):
    """A task that listed one before it went takes it for one that never was."""
    await task("a").run()
    clock.advance(2 * DAY)
    await task("b").run()
    stranger = objects(cache)[0].with_name("notes.txt")
    stranger.write_text("mine")
    pruner = Pruner(Deployment(Directory(UPath(cache))), lambda _task: "over")
    before = clock.now() - timedelta(days=1)

    (old,) = pruner.stale_answers(Directory(UPath(cache)), before)
    old.delete()

    assert (len(old.names), old.touched_at < before) == (1, True)
    assert list(pruner.stale_answers(Directory(UPath(cache)), before)) == []
    assert len(objects(cache)) == 2
    assert stranger.exists()


@pytest.mark.sweep
async def test_a_job_with_a_cache_killed_anywhere_is_paid_once_and_whole(tmp_path, monkeypatch, sweep):
    """Also when it dies while it keeps answers, or has planned with some of them."""

    def make(root, bomb, patch):
        answer = lambda body, n: failing() if body["prompt"] == "b" and n == 1 else OK  # noqa: E731
        provider = FakeProvider(FakeClock(), bomb, answer=answer, max_requests=2)
        known = Directory(UPath(root / "cache"))
        bombed_storage(bomb, patch)
        config = {"retry_rows": 1, "row_cache": known.root.as_uri()}
        return Job(root / "storage", provider, provider.clock, list("abcab"), **config)

    async def drive(task):
        manifest = await task.retry()
        assert task.provider.bought == {"a": 1, "b": 2, "c": 1}
        assert [row["status"] for row in task.rows(manifest)] == ["succeeded"] * 5

    async for task, _bomb in killed_jobs(sweep, make, drive, tmp_path, monkeypatch):
        await drive(task)
