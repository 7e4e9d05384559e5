"""`submit(…, canary=k)` of a stage's own client: the first rows are bought alone, and are seen before the rest is bought."""

from __future__ import annotations

import pytest
from fakes import failing

from airflow_batch_provider.exceptions import RowsFailed, Unavailable, UsageError
from airflow_batch_provider.models import Reply

ROWS = list("abcdefg")
OK = Reply(key="", status="succeeded", output="fine")


def end(provider):
    for batch in provider.batches.values():
        batch.status = "completed"


def sizes(provider):
    return [len(batch.keys) for batch in provider.batches.values()]


async def test_the_handle_tells_of_the_canary_and_how_many_rows_wait(client, provider):
    """Its status and its rows are there before anything else is bought, and a submit in between buys nothing."""
    handle = await client().submit(ROWS, canary=2)
    again = await client().submit(ROWS, canary=2)

    assert handle == again
    assert (handle.id, handle.batch_ids, handle.status, handle.rest) == ("batch-0", ("batch-0",), "pending", 5)
    assert not (await client().get_status(handle.id)).ended
    with pytest.raises(Unavailable, match="has not ended"):
        await client().get_results(handle.id)
    end(provider)
    assert (await client().get_status(handle.id)).status == "completed"
    rows = await client().get_results(handle.id)
    assert [(row.custom_id, row.output) for row in rows] == [("request-0", "echo: a"), ("request-1", "echo: b")]
    assert sizes(provider) == [2]


@pytest.mark.parametrize("most", [100, 3])
async def test_once_it_has_landed_the_same_submit_buys_the_rest(client, provider, most):
    """In as many batches as the limits ask for; the canary's rows are results like the others."""
    provider.max_requests = most
    await client().submit(ROWS, canary=2)
    end(provider)

    handle = await client().submit(ROWS, canary=2)

    assert (handle.status, handle.rest) == ("pending", 0)
    assert sizes(provider) == ([2, 5] if most == 100 else [2, 3, 2])
    end(provider)
    whole = await client().submit(ROWS, canary=2)
    assert (whole.status, whole.id) == ("completed", f"batch-0+{len(sizes(provider)) - 1}")
    assert [row.output for row in await client().get_results(whole.id)] == [f"echo: {row}" for row in ROWS]
    assert [row.custom_id for row in await client().get_results("batch-0")] == ["request-0", "request-1"]
    assert provider.bought == dict.fromkeys(ROWS, 1)


async def test_a_canary_that_failed_stops_the_submit_before_the_rest_is_bought(client, provider):
    """With the reasons; the next attempt asks its rows first again, and buys the rest when they are good."""
    provider.answer = lambda _body, n: failing("wrong_model", retryable=True) if n == 1 else OK
    await client().submit(ROWS, canary=2)
    end(provider)

    with pytest.raises(RowsFailed, match=r"only 0 of the 2 rows .* the other 5 were not bought.*2 x wrong_model"):
        await client().submit(ROWS, canary=2)
    assert sizes(provider) == [2]

    handle = await client(attempt=2).submit(ROWS, canary=2)
    assert (sizes(provider), handle.rest) == ([2, 2], 5)
    end(provider)
    provider.answer = lambda _body, _n: OK
    await client(attempt=2).submit(ROWS, canary=2)
    assert sizes(provider) == [2, 2, 5]


async def test_a_canary_of_every_row_is_none(client, provider):
    """There is no rest."""
    handle = await client().submit(["a", "b"], canary=2)

    assert (handle.rest, sizes(provider)) == (0, [2])


async def test_what_has_no_storage_or_no_size_is_refused_before_anything_is_paid(client, provider):
    """A later submit could not know what became of the canary."""
    with pytest.raises(UsageError, match="canary needs the storage of a task"):
        await client(storage=None).submit(ROWS, canary=2)
    with pytest.raises(UsageError, match="canary=-1 is not a number of rows"):
        await client().submit(ROWS, canary=-1)

    assert not provider.batches
