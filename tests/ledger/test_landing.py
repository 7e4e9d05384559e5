"""Whatever a batch sends back, and in whatever order, each of its requests gets one row that says what became of it."""

from __future__ import annotations

import json
from datetime import timedelta

import msgspec
import pytest
from fakes import START
from msgspec.structs import replace
from upath import UPath

from airflow_batch_provider.exceptions import NotFound, Unavailable, Unresolved
from airflow_batch_provider.ledger.batch_files import BatchFiles
from airflow_batch_provider.ledger.landing import CUT_OFF, Landing, checked, land, rechecked
from airflow_batch_provider.ledger.records import PlannedRow, Receipt, encoded
from airflow_batch_provider.ledger.replies import ForeignBatch
from airflow_batch_provider.models import BatchRow, BatchStatus, Reply, RequestCounts, RowError, Spec, Usage
from airflow_batch_provider.rows import Row
from airflow_batch_provider.schemas import AnswerSchema, as_raw
from airflow_batch_provider.storage import Directory

NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


class Batch:
    """A batch of a second wave, which asks the rows 2, 5 and 7 again, and what the provider sends of it."""

    indices = (2, 5, 7)

    def __init__(self, root, provider):
        self.directory = Directory(UPath(root))
        self.provider = provider
        self.provider.results = self._results
        self.asked = []
        self.replies = []
        self.fault = None
        self.schemas = {}

    async def _results(self, batch_id, kind):
        self.asked.append((batch_id, kind))
        for reply in self.replies:
            yield reply
        if self.fault:
            raise self.fault

    async def land(self, *, tentative=False, status="completed", retry_truncated=False, schema=None, **more):
        self.files = files = BatchFiles(self.directory, 4, "")
        with self.directory.writer(files.requests_name) as file:
            for index in self.indices:
                own = encoded(self.schemas.get(index))
                row = PlannedRow(index=index, custom_id=f"id-{index}", body=msgspec.Raw(b"{}"), schema=own)
                file.write(msgspec.json.encode(row) + b"\n")
        receipt = Receipt(batch_id="b-9", tag="tag-1-00004", requests=3, submitted_at=START, tentative=tentative)
        spec = Spec(model="m", output_schema=schema)
        landing = Landing(files, 1, receipt, spec, retry_truncated, AnswerSchema(schema) if schema else None)
        return await land(landing, self.provider, BatchStatus(batch_id="b-9", status=status, **more), START)

    @property
    def rows(self):
        return [BatchRow.model_validate_json(line) for line in self.directory.lines("00004.rows.jsonl")]


@pytest.fixture
def batch(tmp_path, provider):
    return Batch(tmp_path / "wave", provider)


def good(index, output="fine", **more):
    return Reply(key=f"tag-1-00004-{index}", status="succeeded", output=output, **more)


def bad(index, **more):
    error = RowError(code="overloaded", message="later", retryable=True)
    return Reply(key=f"tag-1-00004-{index}", status="failed", error=error, **more)


async def test_a_row_says_all_that_the_provider_said_and_where_it_came_from(batch):
    """Nothing that was paid for is dropped on the way."""
    usage = Usage(input_tokens=5, cached_tokens=4, cache_write_tokens=3, output_tokens=2, reasoning_tokens=1)
    batch.replies = [good(7), bad(5), good(2, usage=usage, model="m-2026", finish_reason="stop")]

    counts = await batch.land()

    first, second, third = batch.rows
    assert first == BatchRow(
        custom_id="id-2",
        index=2,
        status="succeeded",
        output="fine",
        usage=usage,
        model="m-2026",
        finish_reason="stop",
        wave=1,
        batch_id="b-9",
    )
    assert (second.custom_id, second.status, second.error) == ("id-5", "failed", bad(5).error)
    assert (third.custom_id, third.index, third.status) == ("id-7", 7, "succeeded")
    assert counts == {"succeeded": 2, "failed": 1}
    assert batch.asked == [("b-9", "generate")]


@pytest.mark.parametrize(
    ("replies", "status", "output"),
    [
        ([good(2, "one"), good(2, "two")], "succeeded", "two"),
        ([good(2, "one"), bad(2)], "succeeded", "one"),
        ([bad(2), good(2, "two")], "succeeded", "two"),
        ([bad(2, output="one"), bad(2, output="two")], "failed", "two"),
        ([good(2, "one"), bad(2), good(2, "three"), bad(2)], "succeeded", "three"),
    ],
)
async def test_of_several_answers_to_one_request_the_last_good_one_stands(batch, replies, status, output):
    """And the last one, where none is good."""
    batch.replies = [*replies, good(5), good(7)]

    await batch.land()

    assert (batch.rows[0].status, batch.rows[0].output) == (status, output)
    assert [row.index for row in batch.rows] == [2, 5, 7]


@pytest.mark.parametrize(
    "key",
    [
        "tag-1-00004-3",  # another wave's row
        "tag-1-00004-0",
        "tag-1-00004-8",
        "tag-1-00004-" + "9" * 18,
        "tag-1-00004-" + "9" * 19,  # more than an index can be
        "tag-1-00004-" + "2" * 5000,
        "tag-1-00004-٢",  # a digit, but not one of ours
        "tag-1-00004-²",
        "tag-1-00004--2",
        "tag-1-00004-",
        "tag-1-00005-2",
        "2",
        "",
    ],
)
async def test_an_answer_that_was_never_asked_for_is_ignored(batch, key):
    """Whatever its key looks like, it is nobody's answer."""
    batch.replies = [good(2), good(5), good(7), Reply(key=key, status="succeeded", output="stranger")]

    assert await batch.land() == {"succeeded": 3}
    assert [row.output for row in batch.rows] == ["fine"] * 3


@pytest.mark.parametrize(
    ("status", "more", "word", "code", "retryable"),
    [
        ("completed", {}, "missing", "missing", True),
        ("expired", {}, "expired", "batch_expired", True),
        ("cancelled", {}, "cancelled", "batch_cancelled", True),
        ("failed", {"error": "bad file", "retryable": False}, "failed", "batch_failed", False),
        ("failed", {"error": "bad file", "retryable": True}, "failed", "batch_failed", True),
    ],
)
async def test_a_request_without_an_answer_says_how_its_batch_ended(batch, status, more, word, code, retryable):
    """With the id of the batch, for the provider's console; the answers beside it are kept."""
    batch.replies = [good(5)]

    counts = await batch.land(status=status, **more)

    row, kept, _ = batch.rows
    assert (row.status, row.error.code, row.error.retryable) == (word, code, retryable)
    assert "b-9" in row.error.message
    assert (more.get("error") or "") in row.error.message
    assert kept.status == "succeeded"
    assert counts == {"succeeded": 1, word: 2}


async def test_a_batch_that_failed_without_a_word_says_so(batch):
    """Rather than `None`."""
    await batch.land(status="failed")

    assert "no reason" in batch.rows[0].error.message


@pytest.mark.parametrize("replies", [[], [good(2), Reply(key="x", status="succeeded")]])
async def test_a_tentative_batch_without_strangers_or_with_a_row_of_ours_is_ours(batch, replies):
    """One that expired before any row ran says nothing against it."""
    batch.replies = replies

    await batch.land(tentative=True)

    assert len(batch.rows) == 3


async def test_a_tentative_batch_that_only_answers_others_is_not_ours(batch):
    """Nothing is written; its caller looks for ours."""
    batch.replies = [Reply(key="x-1", status="succeeded")]

    with pytest.raises(ForeignBatch):
        await batch.land(tentative=True)

    assert not batch.directory.exists("00004.rows.jsonl")


async def test_a_batch_that_is_surely_ours_stays_ours_whatever_it_sends(batch):
    """It was bought under our tag: its rows are missing."""
    batch.replies = [Reply(key="x-1", status="succeeded")]

    assert await batch.land() == {"missing": 3}


@pytest.mark.parametrize("status", ["completed", "expired", "cancelled"])
@pytest.mark.parametrize("sent", [[], [good(5)], [Reply(key="x-1", status="succeeded")]])
async def test_answers_that_are_told_and_not_sent_are_waited_for(batch, sent, status):
    """Ten minutes from the batch's end; to take its rows for missing at once would be to buy them again."""
    told = {"counts": RequestCounts(total=3, succeeded=2, failed=1), "status": status}
    batch.replies = sent

    with pytest.raises(Unavailable, match=f"has 2 answers, but has sent only {len(sent)} of them") as waiting:
        await batch.land(ended_at=START - timedelta(minutes=9), **told)
    assert waiting.value.retry_after == 60
    assert not batch.directory.exists("00004.rows.jsonl")

    assert (await batch.land(ended_at=START - timedelta(minutes=10), **told)).total() == 3


@pytest.mark.parametrize(
    "told",
    [
        {"counts": RequestCounts(total=3, succeeded=0, failed=3), "ended_at": START},
        {"counts": RequestCounts(total=3, succeeded=2, failed=1), "ended_at": None},
        {"counts": None, "ended_at": START},
    ],
)
async def test_silence_is_final_where_no_answer_is_to_come(batch, told):
    """No row has one, or nobody knows how long to wait."""
    assert (await batch.land(**told)).total() == 3


async def test_faults_that_are_sent_first_stand_for_no_answer(batch):
    """A service may write the rows that failed into a file of their own, which is there before the other."""
    told = {"counts": RequestCounts(total=3, succeeded=2, failed=1), "ended_at": START}

    batch.replies = [good(2), bad(5)]
    with pytest.raises(Unavailable, match="has 2 answers, but has sent only 1 of them"):
        await batch.land(**told)
    batch.replies = [good(2), bad(5), bad(7)]  # one of them is a refusal, which the provider counts as an answer
    assert (await batch.land(**told)).total() == 3


async def test_a_batch_that_only_answers_others_is_not_silent(batch):
    """It was sent, and what is not in it will not come."""
    batch.replies = [Reply(key="x-1", status="succeeded"), Reply(key="x-2", status="succeeded")]
    told = {"counts": RequestCounts(total=3, succeeded=2, failed=1), "ended_at": START}

    assert await batch.land(**told) == {"missing": 3}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ([], None),
        ([good(2), good(2)], "2 answers twice and 0 that"),
        ([Reply(key="x-1", status="succeeded"), Reply(key="x-2", status="succeeded")], "0 answers twice and 2 that"),
        ([bad(5), Reply(key="x-1", status="succeeded")], "1 answers twice and 1 that"),
    ],
)
async def test_what_was_ignored_is_counted_in_the_log(batch, caplog, more, told):
    """A person who wonders about the provider's own numbers finds the difference there."""
    batch.replies = [good(2), good(5), good(7), *more]

    await batch.land()

    said = [record.message for record in caplog.records if "ignored" in record.message]
    assert len(said) == (told is not None)
    assert not said or f" sent {told}" in said[0]


async def test_rows_that_have_landed_stay(batch):
    """A later wave asks by them, so a worker that lands the same batch late changes nothing."""
    batch.replies = [good(2, "first")]
    await batch.land()
    batch.replies = [good(2, "second"), good(5)]

    assert await batch.land() == {}
    assert [row.output for row in batch.rows] == ["first", None, None]


async def test_rows_that_another_worker_landed_and_cleaned_up_are_not_lost(batch):
    """It was quicker, and removed the results while this one was reading them."""
    batch.replies = [good(2), good(5), good(7)]
    await batch.land()
    batch.replies, batch.fault = [good(2)], NotFound("the file is gone")

    assert await batch.land() == {}
    assert [row.status for row in batch.rows] == ["succeeded"] * 3


async def test_results_that_break_off_leave_nothing(batch):
    """Landing starts again."""
    batch.replies, batch.fault = [good(2)], Unavailable("cut")

    with pytest.raises(Unavailable):
        await batch.land()

    assert not batch.directory.exists("00004.rows.jsonl")


async def test_results_that_are_gone_are_a_question_for_a_person(batch):
    """The message names the batch and the files whose deletion buys its rows again."""
    batch.fault = NotFound("removed after 29 days")

    with pytest.raises(Unresolved, match=r"'b-9' are gone from openai: removed.*delete .*/00004\.receipt\.json and"):
        await batch.land()


async def test_a_cut_off_answer_is_an_answer(batch):
    """Its `finish_reason` tells."""
    batch.replies = [good(2, "half", finish_reason="max_tokens")]

    await batch.land()

    row, *_ = batch.rows
    assert (row.status, row.output, row.finish_reason, row.error) == ("succeeded", "half", "max_tokens", None)


async def test_a_cut_off_answer_that_must_be_asked_again_failed_for_lack_of_room(batch):
    """Its text so far is kept."""
    batch.replies = [good(2, "half", finish_reason="max_tokens"), good(5, finish_reason="stop"), bad(7)]

    assert await batch.land(retry_truncated=True) == {"succeeded": 1, "failed": 2}

    cut, whole, failed = batch.rows
    assert (cut.status, cut.output, cut.error.code, cut.error.retryable) == ("failed", "half", "truncated", True)
    assert "max_tokens" in cut.error.message
    assert (whole.status, whole.error) == ("succeeded", None)
    assert failed.error.code == "overloaded"


@pytest.mark.parametrize("schema", [None, NUMBER])
async def test_a_cut_off_call_of_a_tool_failed_for_lack_of_room_too(batch, schema):
    """Its arguments end in the middle; no schema is about them."""
    called = {"tool_calls": [{"id": "c", "name": "f", "arguments": '{"q":'}], "text": None}
    batch.replies = [good(2, called, finish_reason="max_tokens")]

    await batch.land(retry_truncated=True, schema=schema)

    cut, *_ = batch.rows
    assert (cut.status, cut.output, cut.error.code, cut.error.retryable) == ("failed", called, "truncated", True)


async def test_an_answer_that_was_cut_off_and_fits_its_schema_is_not_asked_again(batch):
    """It has all that the schema asks for."""
    batch.replies = [good(2, '{"n": 1}', finish_reason="max_tokens"), good(5, '{"n": 1', finish_reason="max_tokens")]

    await batch.land(retry_truncated=True, schema=NUMBER)

    whole, half, _ = batch.rows
    assert (whole.status, whole.output) == ("succeeded", {"n": 1})
    assert half.status != "succeeded"


async def test_a_row_that_failed_and_was_cut_off_keeps_its_own_reason(batch):
    """More room would not help."""
    batch.replies = [bad(2, finish_reason="max_tokens")]

    await batch.land(retry_truncated=True)

    assert batch.rows[0].error.code == "overloaded"


async def test_answers_are_read_by_the_schema_of_the_task_or_by_the_row_s_own(batch):
    """One that does not fit keeps its raw text and says what is wrong."""
    batch.schemas = {5: {"type": "array"}}
    batch.replies = [good(2, '{"n": 1}'), good(5, "[1]"), good(7, '{"n": "one"}')]

    counts = await batch.land(schema=NUMBER)

    fits, own, not_fit = batch.rows
    assert (fits.status, fits.output) == ("succeeded", {"n": 1})
    assert (own.status, own.output) == ("succeeded", [1])
    assert (not_fit.status, not_fit.output) == ("invalid", '{"n": "one"}')
    assert (not_fit.error.code, not_fit.error.retryable) == ("invalid_output", True)
    assert "integer" in not_fit.error.message
    assert counts == {"succeeded": 2, "invalid": 1}


async def test_a_row_s_own_schema_chooses_among_the_pieces_of_its_answer(batch):
    """It is read later than the task's, when the reply is gone."""
    batch.schemas = {2: NUMBER}
    pieces = {"output": 'Sure: {"n": 1}', "choices": ('{"n": 1}',)}
    batch.replies = [good(2, **pieces), good(5, **pieces), good(7, **pieces)]

    await batch.land(schema={"type": "array"})

    assert [(row.status, row.output) for row in batch.files.landed_rows()][:2] == [
        ("succeeded", msgspec.Raw(b'{"n":1}')),
        ("invalid", msgspec.Raw(b'"{\\"n\\": 1}"')),
    ]


async def test_only_good_texts_are_read_by_a_schema(batch):
    """A row that failed, one that called tools, and any row where there is no schema stay as they are."""
    tools = {"tool_calls": [], "text": None}
    batch.schemas = {2: NUMBER, 5: NUMBER}
    batch.replies = [bad(2, output="no json"), good(5, tools), good(7, '{"n": 1}')]

    await batch.land()

    assert [(row.status, row.output) for row in batch.rows] == [
        ("failed", "no json"),
        ("succeeded", tools),
        ("succeeded", '{"n": 1}'),
    ]


async def test_every_line_is_a_row_as_json(batch):
    """Other programs read these files."""
    await batch.land()

    assert all(json.loads(line)["status"] == "missing" for line in batch.directory.lines("00004.rows.jsonl"))


def landed_row(**more):
    return Row(custom_id="id-2", index=2, status="succeeded", output=as_raw('{"n": "x"}'), **more)


def test_an_answer_that_fits_another_schema_is_good_by_that_one():
    """What spoke against it is gone, and nothing is left to choose."""
    wrong = checked(landed_row(choices=("a", '{"n": 1}')), '{"m": 1}', AnswerSchema({"required": ["z"]}))
    assert (wrong.status, wrong.error.code) == ("invalid", "invalid_output")

    row = rechecked(wrong, AnswerSchema({"type": "object", "required": ["m"]}))

    assert (row.status, row.value, row.error, row.choices) == ("succeeded", {"m": 1}, None, msgspec.UNSET)


def test_an_answer_that_was_cut_off_and_does_not_fit_failed_for_lack_of_room():
    """Also when it is checked once more, by another schema."""
    row = checked(landed_row(finish_reason="max_tokens"), '{"n": 1', AnswerSchema(NUMBER))
    assert (row.status, row.error.code) == ("invalid", "truncated")

    again = rechecked(row, AnswerSchema({"type": "array"}))

    assert (again.status, again.error.code) == ("invalid", "truncated")


def test_a_text_that_failed_for_lack_of_room_may_fit_another_schema():
    """It is an answer; one without a text stays as it is."""
    cut = replace(landed_row(), status="failed", output=as_raw("[1]"), error=CUT_OFF)

    assert rechecked(cut, AnswerSchema({"type": "array"})).status == "succeeded"
    empty = replace(cut, output=as_raw(None))
    assert rechecked(empty, AnswerSchema({"type": "array"})) == empty
