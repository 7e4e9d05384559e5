"""When the built-in stages poll again, where they put things, and what they refuse."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from fakes import Killed, failing
from pydantic import SecretStr

from airflow_batch_provider.exceptions import RowsFailed, Unavailable, UsageError
from airflow_batch_provider.models import Account, Manifest, Reply
from airflow_batch_provider.stages import Suspended
from airflow_batch_provider.storage import Directory

# A model with a published batch price.
PRICED = "openai:gpt-5-mini"


async def test_a_refused_submit_is_due_to_the_second(job, provider, clock):
    """Not before, not after."""
    provider.submit_faults = [Unavailable("slow down", retry_after=900.0, ambiguous=False)]
    task = job()
    suspended = await task.start()

    clock.advance(899)
    assert not (await task.check(suspended)).is_ready
    clock.advance(1)
    assert (await task.check(suspended)).is_ready


async def test_a_submit_that_is_due_already_is_polled_at_once(job, provider, clock):
    """The provider may ask for less time than the worker took to say so."""
    task = job()
    suspended = await task.start()
    provider.status_faults = [Unavailable("busy", retry_after=0.001)]

    again = await task.resume(suspended)

    assert again.poll.first_poll <= timedelta(seconds=1)


async def test_a_task_that_is_done_returns_what_it_returned(job, clock, provider):
    """The same manifest to the second, although a row has no answer; for a stricter standard it is asked again."""
    ok = Reply(key="", status="succeeded", output="fine")
    provider.answer = lambda body, n: failing() if body["prompt"] == "b" and n == 1 else ok
    task = job()
    manifest = await task.run()
    clock.advance(3600)

    assert await task.retry() == manifest
    task.config = task.config.model_copy(update={"min_success_ratio": 1.0})
    assert (await task.retry()).counts["succeeded"] == 3
    assert provider.bought == {"a": 1, "b": 2, "c": 1}


async def test_a_higher_limit_buys_what_a_task_that_ended_well_went_without(job, provider):
    """What was withheld is bought when the task is cleared, as its manifest says; under the same limit nothing is."""
    ok = Reply(key="", status="succeeded", output="fine")
    provider.account = Account(
        provider="openai", api_key=SecretStr("k"), options={"prices": {"house": {"input": 0, "output": 100_000}}}
    )
    provider.answer = lambda body, n: failing() if body["prompt"] == "b" and n < 5 else ok  # each for $0.50
    task = job(model="openai:house", max_tokens=10, max_cost_usd=3, retry_rows=9)
    manifest = await task.run()
    assert (manifest.counts["succeeded"], provider.bought["b"]) == (2, 3)

    again = await task.retry()
    assert (again.withheld, provider.bought["b"]) == (manifest.withheld, 3)

    task.config = task.config.model_copy(update={"max_cost_usd": 5})
    more = await task.retry()
    assert (more.withheld, more.counts["succeeded"]) == (None, 3)
    assert provider.bought == {"a": 1, "b": 5, "c": 1}


# where results go


@pytest.mark.parametrize("name", ["answers.jsonl", "answers.parquet"])
async def test_a_path_with_a_known_ending_is_the_file(job, tmp_path, name):
    """Its ending is the format."""
    manifest = await job(result_path=str(tmp_path / "out" / name)).run()

    assert (tmp_path / "out" / name).stat().st_size > 0
    assert (manifest.results.endswith(f"out/{name}"), manifest.format) == (True, name.rpartition(".")[2])


@pytest.mark.parametrize(("index", "folder"), [(-1, "task"), (0, "task/0"), (7, "task/7")])
async def test_any_other_path_is_a_directory_for_a_file_of_each_task(job, tmp_path, index, folder):
    """Mapped tasks and other runs must not overwrite each other's."""
    task = job(result_path=str(tmp_path / "out"))
    task.map_index = index
    await task.run()

    found = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert found == [tmp_path / "out/dag/run" / folder / "results.jsonl"]


async def test_whether_a_place_can_be_written_leaves_no_trace(job, tmp_path):
    """In stage storage, and where the results go."""
    task = job(result_path=str(tmp_path / "out"))
    await task.start()

    assert ".writable" not in task.directory.names()
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


# what is asked


async def test_rows_of_a_file_are_asked_with_the_template_and_their_own_keys(job, tmp_path, provider):
    """The stage reads the file itself, on the worker."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "".join(json.dumps({"id": key, "text": text}) + "\n" for key, text in [("x", "red"), ("y", "blue")])
    )
    source = {"uri": str(rows), "prompt": "Classify: {text}", "key": "id"}
    task = job((), source=source)

    manifest = await task.run()

    assert provider.bought == {"Classify: red": 1, "Classify: blue": 1}
    assert [row["custom_id"] for row in task.rows(manifest)] == ["x", "y"]


@pytest.mark.parametrize(
    ("given", "what"), [("one prompt", "str"), ({"prompt": "one"}, "dict"), (7, "int"), (None, "NoneType")]
)
async def test_requests_that_are_not_list_are_refused(job, given, what):
    """A text would be asked letter by letter."""
    task = job()
    task.requests = given

    with pytest.raises(UsageError, match=f"requests is {what}, not a list"):
        await task.start()


# what it may cost


async def test_the_estimate_is_all_input_and_the_longest_output(job):
    """Vectors have no output."""
    text = await job(model=PRICED, max_tokens=50, dry_run=True).run()
    vectors = await job(model=PRICED, max_tokens=50, dry_run=True, kind="embed").run()

    assert text.usage.output_tokens == 150
    assert vectors.usage.output_tokens == 0
    assert text.usage.input_tokens == vectors.usage.input_tokens > 0


async def test_a_budget_that_is_just_enough_is_enough(job, provider):
    """And a dollar less is not."""
    estimate = (await job(model=PRICED, dry_run=True).run()).cost.usd

    with pytest.raises(UsageError, match=r"3 requests may cost up to \$"):
        await job(model=PRICED, max_cost_usd=estimate * 0.999).start()
    assert not provider.batches
    assert isinstance(await job(model=PRICED, max_cost_usd=estimate).start(), Suspended)


async def test_a_budget_for_a_model_without_a_price_is_refused(job, provider):
    """It could not be held."""
    with pytest.raises(
        UsageError, match=r"max_cost_usd=5 cannot be held. No price is known for model 'nobody-knows' \(3 of"
    ):
        await job(model="openai:nobody-knows", max_cost_usd=5.0).start()

    assert not provider.batches


async def test_a_row_of_a_model_without_a_price_breaks_a_budget_too(job, provider):
    """The other rows have a price, so there is a sum, which is not the whole."""
    task = job(model=PRICED, max_cost_usd=5.0)
    task.requests = ["a", {"prompt": "b", "request_params": {"model": "gpt-5-mni"}}]

    with pytest.raises(UsageError, match=r"'gpt-5-mni' \(1 of the requests\).* Did you mean 'gpt-5-mini'"):
        await task.start()

    assert not provider.batches


@pytest.mark.parametrize("dry_run", [False, True])
async def test_a_misspelt_model_is_told_once_before_anything_is_paid(job, caplog, dry_run):
    """With the names that are near, and with what is therefore not counted."""
    await job(model="openai:gpt-5-mni", dry_run=dry_run).start()

    [told] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert told.message == (
        "No price is known for model 'gpt-5-mni' (3 of the requests), so nothing of it is counted as cost. Did you mean "
        "'gpt-5-mini' or 'gpt-5.4-mini' or 'gpt-4o-mini'? Set the price of a model that nobody lists in the "
        "connection's option 'prices'."
    )


async def test_a_model_with_a_price_is_not_warned_of(job, caplog):
    """Nor is anything else of an ordinary task."""
    await job(model=PRICED).start()

    assert not [record for record in caplog.records if record.levelname == "WARNING"]


async def test_a_storage_that_cannot_keep_two_workers_apart_is_told(job, caplog, monkeypatch):
    """SFTP, say, on which a file cannot be made by one of them only."""
    await job().start()
    assert not [record for record in caplog.records if "buying twice" in record.message]

    original = Directory.__init__

    def elsewhere(self, root):
        original(self, root)
        self.is_exclusive = False

    monkeypatch.setattr(Directory, "__init__", elsewhere)
    await job().start()

    assert any("Set storage_path to a shared disk, S3" in record.message for record in caplog.records)


async def test_a_manifest_that_is_older_than_the_last_answers_is_not_the_end(job, provider, monkeypatch):
    """A stricter attempt bought and landed more, and died before it could say so."""
    ok = Reply(key="", status="succeeded", output="fine")
    provider.answer = lambda body, n: failing() if body["prompt"] == "b" and n == 1 else ok
    task = job()
    await task.run()
    easy, publish = task.config, Directory.publish
    task.config = easy.model_copy(update={"min_success_ratio": 1.0})

    def dies(self, local, name):
        if name == "results.jsonl":
            raise Killed(name)
        publish(self, local, name)

    with monkeypatch.context() as patch:
        patch.setattr(Directory, "publish", dies)
        with pytest.raises(Killed):
            await task.retry()
    task.config = easy

    assert (await task.retry()).counts["succeeded"] == 3
    assert provider.bought == {"a": 1, "b": 2, "c": 1}


async def test_the_same_rows_for_another_model_are_other_requests(job, provider):
    """What is asked is the rows and how they are asked."""
    task = job()
    await task.run()

    task.config = task.config.model_copy(update={"model": "openai:other"})
    await task.retry()

    assert provider.bought == {"a": 2, "b": 2, "c": 2}


async def test_a_row_keeps_its_own_schema_on_the_way(job):
    """Its answer is read by it, and by nothing else."""
    form = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}

    manifest = await job(["a", {"prompt": "b", "output_type": form}]).run()

    assert (manifest.counts["succeeded"], manifest.counts["invalid"]) == (1, 1)


async def test_rows_whose_answers_cannot_be_read_are_in_the_results_too(job, provider):
    """None is bought again, each is told with its reason, and the provider keeps what may be read by another version."""
    provider.answer = lambda _body, _n: failing("unreadable_result")
    task = job(["a", "b"], retry_rows=2)

    for _ in range(2):  # a clear finds the same
        with pytest.raises(RowsFailed, match="Not one answer of openai could be read"):
            await task.run()

    unmet = Manifest.model_validate_json(task.directory.read("manifest.unmet.json"))
    assert [(row["status"], row["error"]["code"]) for row in task.rows(unmet)] == [("failed", "unreadable_result")] * 2
    assert provider.bought == {"a": 1, "b": 1}
    assert provider.cleaned == []
    assert not (task.root / "clock.json").exists()
    assert task.shown[-1]["state"] == "unmet"
    assert [batch["batch_id"] for batch in task.shown[-1]["landed"]] == ["batch-0"]
    assert "Not one answer of openai could be read" in task.shown[-1]["next_action"]
