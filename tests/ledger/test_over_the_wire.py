"""Whole jobs against the emulator with the real SDKs; what was bought stands in the emulator's own books."""

from __future__ import annotations

from decimal import Decimal

import pytest
from fakes import FakeClock, Job
from pydantic import BaseModel, SecretStr
from upath import UPath

from airflow_batch_provider.exceptions import RowsFailed, Unresolved, UsageError
from airflow_batch_provider.hub import Hub
from airflow_batch_provider.models import Account
from airflow_batch_provider.registry import Registry
from airflow_batch_provider.stages import Suspended
from airflow_batch_provider.stages.embed import EmbedStage
from airflow_batch_provider.storage import Directory

MODELS = {
    "anthropic": "claude-sonnet-4-5",
    "openai": "gpt-5-mini",
    "responses": "gpt-5-mini",
    "google": "gemini-2.5-flash",
}
CREATE = {
    "anthropic": "anthropic.create",
    "openai": "openai.batches.create",
    "responses": "openai.batches.create",
    "google": "google.create",
}
RESULTS = {
    "anthropic": "anthropic.results",
    "openai": "openai.files.content",
    "responses": "openai.files.content",
    "google": "google.download",
}


class Answer(BaseModel):
    label: str
    score: int


@pytest.fixture(params=MODELS)
def name(request):
    return request.param


class SharedClock(FakeClock):
    """The emulator's time goes with the worker's."""

    def __init__(self, emulator):
        super().__init__()
        super().advance(emulator.clock.now() - self.now().timestamp())
        self._emulator = emulator

    def advance(self, seconds):
        super().advance(seconds)
        self._emulator.clock.advance(seconds)


@pytest.fixture
async def make(tmp_path, batch_emulator):
    """Makes a job on one provider's emulator; polls cost virtual time only."""
    hubs = []
    clock = SharedClock(batch_emulator)

    def make(name, requests, **config):
        urls = {"anthropic": batch_emulator.anthropic_url, "google": batch_emulator.google_url}

        async def open_account(connection):
            conn_id = connection.conn_id
            return Account(
                provider=conn_id,
                api_key=SecretStr("the-key"),
                base_url=urls.get(conn_id, batch_emulator.openai_url),
                options={"api": "responses"} if name == "responses" else {},
            )

        provider = "openai" if name == "responses" else name
        hub = Hub(open_account, sleep=clock.sleep)
        hubs.append(hub)
        model = config.pop("model", MODELS[name])
        return Job(tmp_path / "storage", None, clock, requests, hub=hub, conn_id=provider, model=model, **config)

    yield make
    for hub in hubs:
        await hub.aclose()


async def test_every_row_is_answered_and_bought_once(name, make, batch_emulator):
    """Answers prove which prompt they belong to."""
    task = make(name, [f"question {n}" for n in range(20)])

    manifest = await task.run()

    assert [row["output"] for row in task.rows(manifest)] == [f"echo: question {n}" for n in range(20)]
    assert manifest.usage.input_tokens > 0
    assert manifest.cost.usd > 0
    assert batch_emulator.books()["bought_twice"] == 0


@pytest.mark.parametrize("word", ["x", "дé日𐐷"])
async def test_ids_of_any_script_and_length_reach_every_provider(name, make, batch_emulator, word):
    """They become folders, records, metadata and display names; Airflow takes 250 characters of each."""
    task = make(name, ["a"])
    longest = (word * 250)[:250]
    task.dag_id, task.run_id, task.task_id = longest, f"manual__2026-11-23T08:00:00+00:00_{word}", longest

    manifest = await task.run()

    assert [row["output"] for row in task.rows(manifest)] == ["echo: a"]
    assert batch_emulator.books()["bought_twice"] == 0


async def test_structured_answers_fit_their_schema(name, make):
    """Native structured output on each provider, checked when landing."""
    task = make(name, ["a", "b"], output_type=Answer)

    manifest = await task.run()

    assert all(Answer.model_validate(row["output"]) for row in task.rows(manifest))


async def test_a_row_may_bring_its_own_schema_system_and_parameters(name, make):
    """Per-request schema and overrides."""
    own = {"type": "object", "properties": {"x": {"type": "boolean"}}, "required": ["x"]}
    task = make(name, [{"prompt": "a", "output_type": own, "max_tokens": 7, "system": "Be brief."}, "b"])

    manifest = await task.run()

    first, second = task.rows(manifest)
    assert isinstance(first["output"]["x"], bool)
    assert second["output"] == "echo: b"


async def test_a_limit_counts_a_rows_own_model_before_anything_is_paid(make, batch_emulator):
    """Anthropic takes another model in each row: 1,000 tokens out cost $0.0025 of Haiku 4.5, and $0.0125 of Opus 4.5."""
    rows = ["a", {"prompt": "b", "request_params": {"model": "claude-opus-4-5"}}]
    haiku = {"model": "claude-haiku-4-5", "max_tokens": 1000}

    with pytest.raises(UsageError, match=r"may cost up to \$0\.015"):
        await make("anthropic", rows, **haiku, max_cost_usd=0.01).run()
    assert batch_emulator.books()["jobs"] == []

    planned = await make("anthropic", rows, **haiku, dry_run=True).run()
    assert 0.015 <= planned.cost.usd < 0.016


async def test_a_passing_error_heals_in_the_next_wave(name, make, batch_emulator):
    """Only the row that failed is asked again."""
    task = make(name, ["a", "b [[emulate:error=unavailable,times=1]]", "c"], retry_rows=1)

    manifest = await task.run()

    assert manifest.counts["succeeded"] == 3
    assert manifest.waves == 2
    assert [len(job["keys"]) for job in batch_emulator.books()["jobs"]] == [3, 1]


async def test_an_answer_that_does_not_fit_is_asked_again_with_its_fault(name, make, batch_emulator):
    """The wave after shows the model what was wrong."""
    batch_emulator.emulator.rule("bad_schema", keys="*-0-00000-*")  # wave 0 only
    task = make(name, ["a"], output_type=Answer, retry_rows=1)

    manifest = await task.run()

    assert manifest.counts["succeeded"] == 1
    assert manifest.waves == 2


# Dollars per million tokens in a batch, from the providers' pages, 2026-11: input, output.
PRICES = {
    "anthropic": ("1.5", "7.5"),
    "openai": ("0.125", "1"),
    "responses": ("0.125", "1"),
    "google": ("0.15", "1.25"),
}


async def test_three_waves_of_two_attempts_cost_what_the_emulators_books_say(name, make, batch_emulator, tmp_path):
    """To the last digit, for the task and for the deployment: an answer that does not fit was paid each time it was given."""
    batch_emulator.emulator.rule("bad_schema", keys="*-[01]-00000-[34]")
    task = make(name, [f"question {n}" for n in range(5)], output_type=Answer, retry_rows=1, on_partial="fail")
    task.registry = Registry(Directory(UPath(tmp_path / "registry")))

    with pytest.raises(RowsFailed):
        await task.run()
    manifest = await task.retry()

    jobs = batch_emulator.books()["jobs"]
    assert ([len(job["keys"]) for job in jobs], manifest.waves) == ([5, 2, 2], 3)
    tokens = [sum(job["usage"][kind] for job in jobs) for kind in ("input", "output")]
    usd = sum(count * Decimal(price) for count, price in zip(tokens, PRICES[name], strict=True)) / 10**6
    assert (manifest.usage.input_tokens, manifest.usage.output_tokens) == tuple(tokens)
    assert manifest.cost.usd == float(usd) > 0
    spent = list(task.registry.spending.since())
    assert (len(spent), sum(Decimal(str(one.cost.usd)) for one in spent)) == (3, usd)


async def test_a_canary_in_realtime_costs_what_the_emulators_books_say(name, make, batch_emulator, tmp_path):
    """Its rows what they do without a batch, twice as much; whatever it was, the deployment's books have it as well."""
    rows = [f"question {n}" for n in range(5)]
    task = make(name, rows, output_type=Answer, canary=2, canary_realtime=True)
    task.registry = Registry(Directory(UPath(tmp_path / "registry")))

    manifest = await task.run()

    jobs = batch_emulator.books()["jobs"]
    assert [(job["single"], job["requests"]) for job in jobs] == [(True, 1), (True, 1), (False, 3)]
    usd = sum(
        job["usage"][kind] * Decimal(price) * (1 + job["single"])
        for job in jobs
        for kind, price in zip(("input", "output"), PRICES[name], strict=True)
    )
    assert (manifest.counts["succeeded"], manifest.waves) == (5, 1)
    assert manifest.cost.usd == float(usd / 10**6) > 0
    spent = list(task.registry.spending.since())
    assert sum(Decimal(str(one.cost.usd)) for one in spent) == usd / 10**6
    assert list(task.registry.tags()) == []


async def test_an_answer_that_was_cut_off_is_asked_again_with_more_room(name, make):
    """Each provider limits its answers under another name."""
    task = make(name, ["a [[emulate:truncated]]"], retry_truncated=True, retry_rows=1, max_tokens=50)

    with pytest.raises(RowsFailed, match="truncated"):
        await task.run()

    asked = [
        file.read_bytes() for wave in (0, 1) for file in (task.root / "waves" / str(wave)).glob("*.requests.jsonl")
    ]
    assert b":50" in asked[0]
    assert b":100" in asked[1]


@pytest.mark.parametrize("marker", ["error=invalid_request", "refusal"])
async def test_a_refusal_is_final(name, make, marker):
    """It is not bought again, and the digest says why."""
    task = make(name, ["a", f"b [[emulate:{marker}]]"], retry_rows=3)

    manifest = await task.run()

    assert manifest.waves == 1
    assert manifest.counts["failed"] == 1
    assert manifest.errors.reasons[0].sample == ("request-1",)


@pytest.mark.parametrize("marker", ["missing", "duplicate", "stranger", "separators", "pad=300000"])
async def test_odd_results_keep_one_row_per_request(name, make, marker):
    """Missing, doubled and foreign lines, line separators and very long lines."""
    task = make(name, ["a", f"b [[emulate:{marker},times=1]]", "c"], retry_rows=1)

    manifest = await task.run()

    rows = task.rows(manifest)
    assert [row["index"] for row in rows] == [0, 1, 2]
    assert [row["status"] for row in rows] == ["succeeded"] * 3


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_connection_cut_around_the_commit_buys_once(name, make, batch_emulator, when):
    """Whether or not the provider had it, there is one batch in the end."""
    batch_emulator.faults.add(CREATE[name], "cut", when=when)
    task = make(name, ["a", "b"])

    manifest = await task.run()

    assert manifest.counts["succeeded"] == 2
    assert len(batch_emulator.books()["jobs"]) == 1


async def test_an_error_after_the_commit_buys_once(name, make, batch_emulator):
    """A 500 does not mean that nothing happened."""
    batch_emulator.faults.add(CREATE[name], "status", status=500, when="after")

    await make(name, ["a", "b"]).run()

    assert len(batch_emulator.books()["jobs"]) == 1


async def test_results_cut_in_the_middle_are_landed_whole_later(name, make, batch_emulator):
    """The stream broke; the task comes back and starts again."""
    batch_emulator.faults.add(RESULTS[name], "cut_body", bytes=50)
    task = make(name, ["a" * 1000, "b" * 1000])

    manifest = await task.run()

    assert manifest.counts["succeeded"] == 2
    assert len(batch_emulator.books()["jobs"]) == 1


async def test_many_batches_are_cut_landed_and_put_in_order(name, make, batch_emulator):
    """The provider's own limit, made small."""
    task = make(name, [f"q{n}" for n in range(7)], max_enqueued_tokens=120, max_in_flight=2)

    manifest = await task.run()

    assert len(manifest.batches) > 1
    assert [row["output"] for row in task.rows(manifest)] == [f"echo: q{n}" for n in range(7)]


@pytest.mark.parametrize(
    ("provider", "model"), [("openai", "text-embedding-3-small"), ("google", "gemini-embedding-001")]
)
async def test_vectors(make, provider, model):
    """Embeddings on the two providers that have them."""
    task = make(provider, ["a", "b"], model=model, kind="embed")
    task.stage = EmbedStage()

    manifest = await task.run()

    assert all(len(row["output"]) == 8 for row in task.rows(manifest))


async def test_vectors_from_anthropic_are_refused_before_anything_is_paid(make, batch_emulator):
    """The message names who has them."""
    task = make("anthropic", ["a"], kind="embed")
    task.stage = EmbedStage()

    with pytest.raises(UsageError, match=r"(?i)openai"):
        await task.run()

    assert not batch_emulator.books()["jobs"]


async def test_two_batches_that_may_be_ours_stop_the_task(make, batch_emulator, clock):
    """Anthropic keeps no tag: with two candidates only a person can tell, and nothing more is paid."""
    batch_emulator.faults.add("anthropic.create", "cut", when="after")
    batch_emulator.emulator.change({"progress": {"by": "time", "running": 3600}})
    other = make("anthropic", ["x", "y"])
    other.root /= "other"
    assert isinstance(await other.start(), Suspended)  # tentatively adopted
    batch_emulator.faults.add("anthropic.create", "cut", when="after")
    task = make("anthropic", ["a", "b"])

    with pytest.raises(Unresolved, match="Several batches"):
        await task.start()

    assert len(batch_emulator.books()["jobs"]) == 2


async def test_no_key_and_no_text_of_a_row_reaches_a_log_and_no_key_the_storage(name, make, batch_emulator, caplog):
    """Not on the straight way, nor when connections break, rows fail and answers do not fit."""
    caplog.set_level("DEBUG", logger="airflow_batch_provider")
    batch_emulator.faults.add(CREATE[name], "cut", when="after")
    batch_emulator.faults.add(RESULTS[name], "cut_body", bytes=50)
    task = make(name, ["private question", "other [[emulate:error=unavailable,times=1]]"], retry_rows=1)

    manifest = await task.run()

    files = [path for path in task.root.rglob("*") if path.is_file()]
    assert not [path for path in files if b"the-key" in path.read_bytes()]
    assert "the-key" not in caplog.text
    assert "private question" not in caplog.text
    assert "the-key" not in manifest.model_dump_json()
