"""What all waves together say: which rows are asked again and how, and why rows have no answer."""

from __future__ import annotations

import msgspec
import pytest
from fakes import START, failing
from upath import UPath

from airflow_batch_provider.exceptions import RowsFailed
from airflow_batch_provider.ledger.files import TaskFiles
from airflow_batch_provider.ledger.merge import Tally, best_rows, landed_rows
from airflow_batch_provider.ledger.records import Chunk, Wave
from airflow_batch_provider.models import BatchRow, Reply, RowError, Usage
from airflow_batch_provider.storage import Directory


def failed(number, message="no", code="invalid"):
    error = RowError(code=code, message=message, retryable=False)
    return BatchRow(custom_id=f"id-{number}", index=number, status="failed", error=error, wave=0)


def digest_of(rows):
    tally = Tally()
    for row in rows:
        tally.settled(row)
    return tally.digest


def test_reasons_are_counted_most_frequent_first_with_three_samples():
    """Five reasons at most: a log is read, a table of errors is not."""
    rows = [failed(number, f"reason {'abcdef'[number % 6]}") for number in range(26)]

    reasons = digest_of(rows).reasons

    assert [(reason.message, reason.count) for reason in reasons] == [
        ("reason a", 5),
        ("reason b", 5),
        ("reason c", 4),
        ("reason d", 4),
        ("reason e", 4),
    ]
    assert reasons[0].code == "invalid"
    assert reasons[0].sample == ("id-0", "id-6", "id-12")


def test_a_long_message_is_cut():
    """Providers repeat the prompt in some of them."""
    (reason,) = digest_of([failed(0, "x" * 200 + "a"), failed(1, "x" * 200 + "b")]).reasons

    assert (reason.message, reason.count) == ("x" * 200, 2)


def test_ever_new_messages_do_not_fill_the_memory():
    """After a thousand kinds the rest is counted together; a kind that is known stays itself."""
    rows = [failed(number, "hostile " + "x" * (number % 40) + " y" * (number // 40)) for number in range(1010)]
    known = rows[3].error.message

    first, second, *_ = digest_of([*rows, failed(2000, known), failed(2001, known)]).reasons

    assert (first.code, first.message, first.count, first.sample[0]) == ("other", "further reasons", 10, "id-1000")
    assert (second.message, second.count) == (known, 3)


def test_a_row_without_a_reason_is_counted_by_what_became_of_it():
    """And may be asked again, for nothing speaks against it."""
    tally = Tally()
    tally.settled(BatchRow(custom_id="a", index=0, status="expired", wave=0))

    (reason,) = tally.digest.reasons
    assert (reason.code, reason.message) == ("expired", "no reason was given")
    assert (tally.open, tally.counts) == (1, {"expired": 1})


def test_every_kind_of_token_is_summed_over_all_askings():
    """The bill has a price for each."""
    usage = Usage(**{name: 10**place for place, name in enumerate(Usage.__struct_fields__) if True})
    tally = Tally()
    for _ in range(3):
        tally.asked(BatchRow(custom_id="a", index=0, status="succeeded", wave=0, usage=usage))

    assert tally.usage == Usage(**{name: 3 * getattr(usage, name) for name in Usage.__struct_fields__})


@pytest.mark.parametrize("output", [None, "half an answer"])
async def test_a_row_that_failed_is_asked_again_just_as_it_was(job, provider, output):
    """Only an answer that does not fit is shown to the model; what came with a failure is not an answer."""
    ok = Reply(key="", status="succeeded", output="fine")
    provider.answer = lambda _body, n: msgspec.structs.replace(failing(), output=output) if n == 1 else ok

    await job(["a"], retry_rows=1).run()

    first, second = provider.batches.values()
    assert second.bodies == first.bodies


async def test_a_row_that_never_fits_is_shown_its_last_answer_and_what_is_wrong(job, provider):
    """In the words of the schema."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    provider.answer = lambda _body, n: Reply(key="", status="succeeded", output=f'{{"n": "try {n}"}}')

    with pytest.raises(RowsFailed, match="invalid_output"):
        await job(["a"], output_type=schema, retry_rows=2).run()

    bodies = [batch.bodies[0] for batch in provider.batches.values()]
    assert [body.get("answer") for body in bodies] == [None, '{"n": "try 1"}', '{"n": "try 2"}']
    assert bodies[1]["problem"].startswith("Your answer does not have the required form: ")
    assert 'at n: the value is not of type "integer"' in bodies[1]["problem"]
    assert bodies[1]["problem"].endswith("with nothing but JSON that fits the schema.")


async def test_a_good_answer_of_an_early_wave_is_kept(job, provider):
    """Later waves ask other rows; each row's last good answer stands in its own place."""
    ok = Reply(key="", status="succeeded", output="fine")
    good_at = {"a": 3, "b": 1, "c": 2, "d": 1}
    provider.answer = lambda body, n: ok if n >= good_at[body["prompt"]] else failing()
    task = job("abcd", retry_rows=2)

    manifest = await task.run()

    assert [(row["custom_id"], row["wave"]) for row in task.rows(manifest)] == [
        ("request-0", 2),
        ("request-1", 0),
        ("request-2", 1),
        ("request-3", 0),
    ]


def landed(root, number, *rows, **more):
    """A wave with these rows: index → status, and these fields of all of them."""
    chunk = Chunk(number=0, requests=len(rows), bytes=1, tokens=1, draft="")
    directory = TaskFiles(root).wave_directory(number)
    with directory.writer("00000.rows.jsonl") as file:
        for index, status in rows:
            fields = {"custom_id": f"id-{index}", "index": index, "status": status, "wave": number}
            row = BatchRow(**fields | more)
            file.write(row.model_dump_json().encode() + b"\n")
    return Wave(nonce="n", number=number, attempt=1, opened_at=START, chunks=(chunk,))


def test_a_good_answer_is_not_replaced_by_a_later_bad_one(tmp_path):
    """Two workers may have asked it again at once; and a wave that passes a row over does not end its waves."""
    root = Directory(UPath(tmp_path))
    waves = [
        landed(root, 0, (0, "succeeded"), (1, "failed"), (2, "failed")),
        landed(root, 1, (0, "failed"), (2, "expired")),
        landed(root, 2, (1, "succeeded"), (2, "invalid")),
    ]

    best = list(best_rows(TaskFiles(root), waves))

    assert [(row.index, row.status, row.wave) for row in best] == [
        (0, "succeeded", 0),
        (1, "succeeded", 2),
        (2, "invalid", 2),
    ]


CUT = {"output": "and th", "error": RowError(code="truncated", message="cut", retryable=True)}
REFUSED = {"error": RowError(code="bad", message="no", retryable=False)}
BUSY = {"error": RowError(code="busy", message="later", retryable=True)}


@pytest.mark.parametrize(
    ("later", "retryable"),
    [
        ({"status": "failed", **REFUSED}, False),
        ({"status": "failed", **BUSY}, True),
        ({"status": "succeeded", "output": "and then"}, None),
    ],
)
def test_a_text_that_was_cut_off_stays_where_nothing_better_comes(tmp_path, later, retryable):
    """And is not asked again where asking again was refused."""
    root = Directory(UPath(tmp_path))
    waves = [landed(root, 0, (0, "failed"), **CUT), landed(root, 1, (0, later["status"]), **later)]

    (best,) = best_rows(TaskFiles(root), waves)

    if retryable is None:
        assert (best.status, best.value) == ("succeeded", "and then")
    else:
        assert (best.value, best.error.code, best.error.retryable) == ("and th", "truncated", retryable)


async def test_a_row_whose_batch_has_not_landed_is_missing_and_says_why(ledger, provider):
    """In the wave that should have asked it."""
    task, _ = ledger()
    (first,) = task.waves()
    (chunk,) = first.chunks
    name = f"00000-{chunk.draft}.requests.jsonl"
    task.root.write(f"waves/1/{name}", task.root.read(f"waves/0/{name}"))
    second = first.model_copy(update={"number": 1})

    for wave in (first, second):
        for row in landed_rows(task.files, wave):
            assert (row.status, row.wave, row.error.code) == ("missing", wave.number, "not_asked")
            assert row.error.retryable
