"""A stage's own client buys the same requests once, whatever changes around them."""

from __future__ import annotations

import gc
import shutil
from datetime import date

import pytest
from blockbuster import blockbuster_ctx
from fakes import FakeHub, failing
from msgspec import structs
from upath import UPath

from airflow_batch_provider.client import BatchClient
from airflow_batch_provider.exceptions import Rejected, Unavailable, Unresolved, UsageError
from airflow_batch_provider.fleet.deployment import Deployment, task_of
from airflow_batch_provider.models import ConnectionRef, Reply, RequestCounts, Spec
from airflow_batch_provider.storage import Directory


def end(provider, status="completed"):
    """Let every batch end that runs."""
    for batch in provider.batches.values():
        if batch.status == "processing":
            batch.status = status


def outputs(rows):
    return {row.custom_id: row.output if row.status == "succeeded" else row.status for row in rows}


def shaky(provider, *prompts, retryable=True):
    """Refuse the first asking of these prompts."""
    answer = provider.answer
    provider.answer = lambda body, n: (
        failing(retryable=retryable) if body["prompt"] in prompts and n == 1 else answer(body, n)
    )


async def test_requests_stay_cut_as_they_were_when_some_of_them_are_bought(client, provider):
    """A limit was changed between two attempts; other cuts would move rows between batches."""
    provider.max_requests = 2
    provider.submit_faults = [None, Rejected("too large")]
    with pytest.raises(Rejected):
        await client().submit(["a", "b", "c", "d"])

    provider.max_requests = 3
    handle = await client().submit(["a", "b", "c", "d"])
    again = await client().submit(["a", "b", "c", "d"], batch_size=1)

    assert provider.bought == {"a": 1, "b": 1, "c": 1, "d": 1}
    assert handle.batch_ids == again.batch_ids == ("batch-0", "batch-1")
    assert handle.id == "batch-0+1"


async def test_a_submit_of_the_same_requests_buys_only_the_rows_without_a_good_answer(client, provider):
    """In the attempt that asked first, and in the next one; good answers are never paid twice."""
    shaky(provider, "b")
    first = await client().submit(["a", "b", "c"])
    end(provider)
    assert outputs(await client().get_results(first.id)) == {
        "request-0": "echo: a",
        "request-1": "failed",
        "request-2": "echo: c",
    }

    second = await client(attempt=2).submit(["a", "b", "c"])
    assert (second.status, second.batch_ids) == ("pending", ("batch-1",))
    assert (await client().get_status(first.id)).status == "processing"
    end(provider)
    for known in (first.id, second.id):
        rows = await client().get_results(known)
        assert outputs(rows) == {"request-0": "echo: a", "request-1": "echo: b", "request-2": "echo: c"}

    done = await client(attempt=3).submit(["a", "b", "c"])
    assert (done.status, done.id) == ("completed", second.id)
    assert provider.bought == {"a": 1, "b": 2, "c": 1}


async def test_a_model_without_a_price_is_told_once(client, provider, caplog):
    """When its requests are planned; going on with them says nothing new."""
    task = client()
    for _ in range(2):
        await task.submit(["a", "b"])
        end(provider)

    told = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 1
    assert "No price is known for model" in told[0]
    assert "(2 of the requests)" in told[0]


async def test_one_attempt_asks_again_as_often_as_it_is_told(client, provider):
    """`retry_rows`: a stage that submits in each `execute` ends."""
    provider.answer = lambda _body, _n: failing()
    handles = []
    for _ in range(5):
        handles.append(await client().submit(["a"], retry_rows=1))
        end(provider)
    assert [handle.status for handle in handles] == ["pending", "pending", "completed", "completed", "completed"]
    assert provider.bought == {"a": 2}


async def test_rows_that_asking_again_cannot_help_are_not_bought_again(client, provider):
    """The provider refused them for good."""
    shaky(provider, "b", retryable=False)
    await client().submit(["a", "b"])
    end(provider)
    handle = await client(attempt=2).submit(["a", "b"])
    assert handle.status == "completed"
    assert provider.bought == {"a": 1, "b": 1}


@pytest.mark.parametrize("fate", ["expired", "cancelled"])
async def test_a_dead_batch_keeps_its_finished_rows_and_only_the_rest_is_bought(client, provider, fate):
    """Two batches: one was done when the other died."""
    provider.max_requests = 2
    await client().submit(["a", "b", "c"])
    provider.batches["batch-0"].status = "completed"
    end(provider, fate)
    handle = await client().submit(["a", "b", "c"])
    assert handle.batch_ids == ("batch-2",)
    end(provider)
    assert outputs(await client().get_results(handle.id)) == {f"request-{n}": f"echo: {k}" for n, k in enumerate("abc")}
    assert provider.bought == {"a": 1, "b": 1, "c": 2}


async def test_parts_together_are_every_row_once_and_the_handle_is_all_of_them(client, provider):
    """Of several batches each id stands for its own rows, also in a wave that asks few of them again."""
    prompts = [f"p{n}" for n in range(7)]
    shaky(provider, "p1", "p2", "p5", "p6")
    handle = await client().submit(prompts, batch_size=3)
    assert len(handle.batch_ids) == 3
    end(provider)
    parts = [await client().get_results(batch_id) for batch_id in handle.batch_ids]
    assert [[row.index for row in part] for part in parts] == [[0, 1, 2], [3, 4, 5], [6]]

    again = await client().submit(prompts, batch_size=3)
    assert len(again.batch_ids) == 2
    end(provider)
    parts = [row for batch_id in again.batch_ids for row in await client().get_results(batch_id)]
    assert sorted(row.index for row in parts) == list(range(7))
    assert [row.index for row in await client().get_results(again.id)] == list(range(7))
    assert {row.status for row in parts} == {"succeeded"}


async def test_a_submission_has_ended_when_its_last_batch_has(client, provider):
    """The status of a handle is not completed while a part still runs, and there are no results to read yet."""
    provider.max_requests = 1
    handle = await client().submit(["a", "b"])
    provider.batches["batch-0"].status = "completed"
    assert (await client().get_status(handle.id)).status == "processing"
    assert (await client().get_status("batch-0")).status == "completed"
    with pytest.raises(Unavailable):
        await client().get_results(handle.id)
    assert outputs(await client().get_results("batch-0")) == {"request-0": "echo: a"}
    end(provider)
    status = await client().get_status(handle.id)
    assert (status.status, status.batch_id) == ("completed", handle.id)


async def test_results_are_read_from_storage_once_they_landed(client, provider):
    """The provider may have removed them by then; its files go, unless they are to stay."""
    handle = await client().submit(["a"])
    kept = await client().submit(["b"], clean_up=False)
    end(provider)
    for known in (handle, kept):
        await client().get_results(known.id)
    assert provider.cleaned == [handle.id]
    provider.results = None
    assert outputs(await client().get_results(handle.id)) == {"request-0": "echo: a"}


async def test_a_batch_leaves_the_registry_when_its_rows_have_landed(client, provider, tmp_path):
    """It was entered before it was paid, under the task that bought it."""
    deployment = Deployment(Directory(UPath(tmp_path)))
    handle = await client().submit(["a"])
    (entry,) = deployment.registry.entries()
    assert (entry.batch_id, str(task_of(entry))) == (handle.id, "dag/run/task")
    assert deployment.files(entry).receipt().batch_id == handle.id
    end(provider)
    await client().get_results(handle.id)
    assert deployment.registry.tags() == []


async def test_a_batch_that_failed_unbilled_for_a_passing_reason_is_bought_again(client, provider, clock):
    """As a whole, before anything ran: without using up a wave, after a pause."""
    first = await client().submit(["a"], retry_rows=0)
    provider.batches[first.id].status, provider.batches[first.id].retryable = "failed", True
    assert [row.status for row in await client().get_results(first.id)] == ["missing"]
    before = clock.now()
    second = await client().submit(["a"], retry_rows=0)
    assert (second.status, second.id) == ("pending", "batch-1")
    assert clock.now() > before
    end(provider)
    assert outputs(await client().get_results(second.id)) == {"request-0": "echo: a"}


async def test_a_submit_that_the_provider_does_not_take_now_is_made_later_for_the_rest(client, provider):
    """What was bought stays bought, and the error may be retried."""
    provider.max_requests = 1
    provider.submit_faults = [None, *[Unavailable("busy", retry_after=600, ambiguous=False)] * 2]
    with pytest.raises(Unavailable, match="did not take 1 of the batches") as caught:
        await client().submit(["a", "b"])
    assert caught.value.retry_after == 600
    assert not caught.value.ambiguous
    with pytest.raises(Unavailable):
        await client().submit(["a", "b"])
    handle = await client().submit(["a", "b"])
    assert handle.batch_ids == ("batch-0", "batch-1")
    assert provider.bought == {"a": 1, "b": 1}


async def test_cancel_all_cancels_what_the_task_bought_and_has_not_landed(client, provider):
    """Not what is done, and not what another task bought."""
    stranger = client(storage=None)
    await stranger.submit(["theirs"])
    done = await client().submit(["a"])
    provider.batches[done.id].status = "completed"
    await client().get_results(done.id)
    running = await client().submit(["b"])
    assert await client().cancel_all() == (running.id,)
    assert [batch.status for batch in provider.batches.values()] == ["processing", "completed", "cancelled"]


async def test_cancel_all_goes_on_after_a_batch_that_cannot_be_cancelled_and_then_says_so(client, provider):
    """The others are stopped nevertheless."""
    await client().submit(["a"])
    await client().submit(["b"])
    cancel = provider.cancel

    async def refusing(batch_id):
        if batch_id == "batch-0":
            raise Rejected("it cannot be cancelled")
        await cancel(batch_id)

    provider.cancel = refusing
    with pytest.raises(Rejected, match="cannot be cancelled"):
        await client().cancel_all()
    assert [batch.status for batch in provider.batches.values()] == ["processing", "cancelled"]


async def test_what_was_recorded_is_known_and_summed(client, provider):
    """Once, however often it is told."""
    handle = await client().submit(["a", "b"])
    assert not await client().is_recorded(handle.id)
    end(provider)
    rows = await client().get_results(handle.id)
    await client().record_results(handle.id, rows)
    await client().record_results(handle.id, rows)
    assert await client().is_recorded(handle.id)
    stats = await client().get_stats()
    assert (stats.total_calls, stats.usage.input_tokens) == (2, 20)


async def test_cancel_stops_exactly_what_the_id_stands_for(client, provider):
    """One part, or all of them."""
    provider.max_requests = 1
    first, second = await client().submit(["a", "b", "c"]), await client().submit(["d", "e"])
    await client().cancel("batch-1")
    assert [batch.status == "cancelled" for batch in provider.batches.values()] == [False, True, False, False, False]
    await client().cancel(second.id)
    assert [batch.status == "cancelled" for batch in provider.batches.values()] == [False, True, False, True, True]
    assert first.batch_ids == ("batch-0", "batch-1", "batch-2")


async def test_another_schema_than_that_of_the_submit_is_checked_against_landed_answers(client, provider):
    """`get_results(output_type=…)`: of landed rows too."""
    answer = provider.answer
    provider.answer = lambda body, n: structs.replace(answer(body, n), output='{"red": 1}')
    handle = await client().submit(["a"])
    end(provider)
    (row,) = await client().get_results(handle.id)
    assert row.output == '{"red": 1}'
    red = {"type": "object", "properties": {"red": {"type": "integer"}}, "required": ["red"]}
    (fits,) = await client().get_results(handle.id, output_type=red)
    assert fits.output == {"red": 1}
    (misfit,) = await client().get_results(handle.id, output_type={"type": "array"})
    assert (misfit.status, misfit.output) == ("invalid", '{"red": 1}')


async def test_a_schema_that_is_asked_for_later_chooses_among_the_pieces_of_a_landed_answer(client, provider):
    """Without one the text is whole, as the model wrote it."""
    answer = provider.answer
    pieces = {"output": 'Sure: {"red": 1}', "choices": ('{"red": 1}',)}
    provider.answer = lambda body, n: structs.replace(answer(body, n), **pieces)
    handle = await client().submit(["a"])
    end(provider)
    (row,) = await client().get_results(handle.id)
    assert row.output == 'Sure: {"red": 1}'
    (chosen,) = await client().get_results(handle.id, output_type={"type": "object", "required": ["red"]})
    assert (chosen.status, chosen.output) == ("succeeded", {"red": 1})


async def test_an_answer_that_did_not_fit_is_good_where_it_fits_what_is_asked_for_now(client, provider):
    """The schema at landing was too narrow; the answer is there, and paid."""
    answer = provider.answer
    provider.answer = lambda body, n: structs.replace(answer(body, n), output='{"red": 1}')
    handle = await client().submit(["a"])
    end(provider)
    (row,) = await client().get_results(handle.id, output_type={"type": "object", "required": ["blue"]})
    assert row.status == "invalid"
    (fits,) = await client().get_results(handle.id, output_type={"type": "object", "required": ["red"]})
    assert (fits.status, fits.output) == ("succeeded", {"red": 1})


@pytest.mark.parametrize("single", ["one prompt", {"prompt": "one"}])
async def test_a_single_request_is_not_taken_apart(client, provider, single):
    """A string would become a request for each of its letters."""
    with pytest.raises(UsageError, match="takes a list of requests, not one"):
        await client().submit(single)
    assert provider.bought == {}


@pytest.mark.parametrize("shape", ["frame", "frame with an index", "Arrow", "numpy"])
async def test_frames_and_tables_give_their_records(client, provider, shape):
    """As for the operators: a frame iterates over the names of its columns, and each would be asked."""
    import pandas as pd
    import pyarrow as pa

    columns = {"custom_id": [7, 8], "prompt": ["a", "b"], "max_tokens": [10, None]}
    frame = pd.DataFrame(columns)
    shapes = {
        "frame": frame,
        "frame with an index": frame.set_index("custom_id"),
        "Arrow": pa.table(columns),
        "numpy": frame["prompt"].to_numpy(),
    }
    await client().submit(shapes[shape])

    assert provider.bought == {"a": 1, "b": 1}


@pytest.mark.parametrize(
    ("given", "said"), [({"a", "b"}, "is a set, which has no order"), (None, "requests is NoneType, not a list")]
)
async def test_what_is_not_a_list_of_requests_is_refused_in_words(client, provider, given, said):
    """Before anything is paid."""
    with pytest.raises(UsageError, match=said):
        await client().submit(given)
    assert provider.bought == {}


async def test_two_workers_that_find_a_dead_batch_buy_it_again_once(client, provider):
    """One of them saw it, and was slow."""
    await client().submit(["a", "b"])
    provider.batches["batch-0"].status = "expired"
    status, bought = provider.status, []

    async def slow(batch_id):
        seen = await status(batch_id)
        if not bought:
            provider.status = status
            bought.append(None)
            bought[0] = await client().submit(["a", "b"])
        return seen

    provider.status = slow
    handle = await client().submit(["a", "b"])

    assert handle == bought[0]
    assert provider.bought == {"a": 2, "b": 2}


async def test_a_client_in_the_triggerer_never_blocks_its_loop(client, provider):
    """Polling and landing read and write files in threads: hundreds of tasks wait in one loop."""
    handle = await client().submit(["a", "b"])
    end(provider)
    running = await client().submit(["c"])
    with blockbuster_ctx():
        assert (await client().get_status(handle.id)).ended
        assert len(await client().get_results(handle.id)) == 2
        assert await client().cancel_all() == (running.id,)


async def test_what_is_not_a_type_is_refused_before_anything_is_paid(client, provider):
    """As the operators refuse it."""
    with pytest.raises(UsageError, match="has no JSON schema"):
        await client().submit(["a"], output_type="Model")
    assert not provider.bought


async def test_results_are_read_by_the_type_that_is_given(client, provider):
    """Its own validators decide, whatever the schema said at the submit."""
    answer = provider.answer
    provider.answer = lambda body, n: structs.replace(answer(body, n), output='{"value": ["2026-02-30"]}')
    handle = await client().submit(["a"], output_type=list[str])
    end(provider)

    (row,) = await client().get_results(handle.id)
    (checked,) = await client().get_results(handle.id, output_type=list[date])

    assert (row.status, row.output) == ("succeeded", ["2026-02-30"])
    assert (checked.status, checked.error.code) == ("invalid", "invalid_output")


async def test_a_child_keeps_the_scratch_files_of_its_parent(client):
    """What the parent bought is still known when nobody else holds it."""
    parent = client(storage=None)
    handle = await parent.submit(["a"])
    child = parent.child("part")
    del parent
    gc.collect()

    assert (await child.get_status(handle.id)).batch_id == handle.id


@pytest.mark.parametrize(("label", "topic"), [("dag/run/task", "dag/run/task/part"), ("", "part"), ("/x/", "/x//part")])
async def test_a_child_has_a_topic_below_its_parents(provider, clock, label, topic):
    """The first one below none is its own name."""
    whole = BatchClient(FakeHub(provider, clock), ConnectionRef(conn_id="c"), "openai:m", label=label)
    assert whole.child("part").topic == topic


async def test_a_topic_with_half_a_character_is_refused_before_anything_is_paid(client, provider, clock):
    """It goes to the provider with the create."""
    with pytest.raises(UsageError, match=r"name='\\ud800' holds half a character"):
        client().child("\ud800")
    with pytest.raises(UsageError, match=r"label='\\udfff' holds half a character"):
        BatchClient(FakeHub(provider, clock), ConnectionRef(conn_id="c"), "openai:m", label="\udfff")
    assert not provider.batches


async def test_a_submit_asks_as_it_is_told(client, provider, monkeypatch):
    """Every word of the call is in the spec that the provider checks and the rows are encoded by."""
    told = []
    monkeypatch.setattr(provider, "check_spec", told.append)
    schema = {"type": "object", "required": ["n"]}

    await client(kind="embed").submit(
        ["a"], system="Be brief.", max_tokens=7, output_type=schema, request_params={"temperature": 0}
    )

    assert told == [
        Spec(
            kind="embed",
            model="m",
            system="Be brief.",
            max_tokens=7,
            output_schema=schema,
            request_params={"temperature": 0},
        )
    ]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"batch_size": 0}, r"batch_size=0 leaves no room for a request\. Give 1 or more, or None\.$"),
        ({"retry_rows": -1}, r"retry_rows=-1 is not a number of repetitions\. Give 0 or more\.$"),
    ],
)
async def test_a_wrong_size_is_refused_with_the_remedy(client, provider, wrong, said):
    """Before anything is paid."""
    with pytest.raises(UsageError, match=said):
        await client().submit(["a"], **wrong)
    assert not provider.bought


async def test_without_storage_a_repeated_submit_is_another_one(client, provider):
    """Nothing tells the two apart, so both are bought."""
    scratch = client(storage=None)
    first, second = await scratch.submit(["a"]), await scratch.submit(["a"])

    assert first.id != second.id
    assert provider.bought == {"a": 2}


async def test_a_batch_whose_files_are_gone_is_a_question_with_a_way_on(client, provider, tmp_path):
    """It was paid, so nothing is bought in its place."""
    handle = await client().submit(["a"])
    shutil.rmtree(next((tmp_path / "dag/run/task").glob("submissions")))

    with pytest.raises(
        Unresolved, match=rf"files of batch '{handle.id}' are gone from .*see the batch at the provider\.$"
    ):
        await client().get_results(handle.id)


async def test_a_model_on_the_wrong_connection_is_refused_with_both_names(provider, clock):
    """Before anything is paid."""
    wrong = BatchClient(FakeHub(provider, clock), ConnectionRef(conn_id="mine"), "anthropic:claude-x")
    with pytest.raises(
        UsageError, match=r"belongs to anthropic, but connection 'mine' is of openai\. Change one of the two\.$"
    ):
        await wrong.submit(["a"])


async def test_results_that_are_late_are_told_with_the_time_to_come_back(client, provider, clock):
    """The provider counts an answer that it does not send yet."""
    handle = await client().submit(["a"])
    end(provider)
    statuses = provider.statuses

    async def told(batch_ids):
        more = {"counts": RequestCounts(total=1, succeeded=1), "ended_at": clock.now()}
        return {name: one.model_copy(update=more) for name, one in (await statuses(batch_ids)).items()}

    provider.statuses, provider.answer = told, lambda _body, _n: None

    with pytest.raises(Unavailable, match="has not ended, or has not sent all its answers so far") as caught:
        await client().get_results(handle.id)

    assert caught.value.retry_after == 600
    assert not caught.value.ambiguous


async def test_a_batch_that_landed_has_ended_whatever_was_bought_after_it(client, provider):
    """Of a submission only those batches are polled that have no rows yet."""
    shaky(provider, "b")
    first = await client().submit(["a", "b"])
    end(provider)
    await client().get_results(first.id)
    second = await client(attempt=2).submit(["a", "b"])
    end(provider)
    await client().get_results(second.id)

    provider.batches.pop(second.id)
    provider.polls_until_done = 0
    assert (await client().get_status(first.id)).ended


async def test_a_row_with_a_schema_of_its_own_is_checked_against_it(client, provider):
    """Whatever schema replaces that of all rows."""
    answer = provider.answer
    provider.answer = lambda body, n: structs.replace(answer(body, n), output='{"red": 1}')
    red, blue = ({"type": "object", "required": [name]} for name in ("red", "blue"))
    handle = await client().submit([{"prompt": "a", "output_type": red}, "b"])
    end(provider)

    assert [row.status for row in await client().get_results(handle.id, output_type=blue)] == ["succeeded", "invalid"]
    assert [row.output for row in await client().get_results(handle.id)] == [{"red": 1}, '{"red": 1}']


async def test_results_are_cleaned_up_once_they_landed(client, provider):
    """Files at the provider count against its storage."""
    handle = await client().submit(["a"])
    end(provider)
    await client().submit(["a"])
    assert provider.cleaned == [handle.id]


async def test_a_cut_off_answer_of_a_client_is_not_asked_again_with_more_room(client, provider):
    """A custom stage says itself how much room its rows have."""
    cut = Reply(key="", status="succeeded", output="and th", finish_reason="max_tokens")
    provider.answer = lambda _body, _n: cut
    await client().submit(["a"])
    end(provider)

    handle = await client(attempt=2).submit(["a"])

    assert (handle.status, provider.bought) == ("completed", {"a": 1})
