"""Files of another layout are refused with the versions that matter; damaged ones are another question."""

from __future__ import annotations

import json

import pytest
from fakes import START
from upath import UPath

from airflow_batch_provider import __version__
from airflow_batch_provider.exceptions import Unresolved, UsageError
from airflow_batch_provider.registry import Entry, Registry
from airflow_batch_provider.storage import Directory


def rewritten(task, **changes):
    """Change fields of the plan; None removes one."""
    plan = json.loads(task.directory.read("plan.json")) | changes
    kept = {name: value for name, value in plan.items() if value is not None}
    task.directory.write("plan.json", json.dumps(kept).encode())


async def test_a_plan_says_its_layout_and_who_wrote_it(job):
    """A later release finds both."""
    task = job()
    await task.start()

    plan = json.loads(task.directory.read("plan.json"))
    assert (plan["layout"], plan["package"]) == (1, __version__)


@pytest.mark.parametrize("more", [{}, {"new_field": 1}])
async def test_a_plan_of_another_layout_is_refused_with_the_version_to_use(job, provider, more):
    """Whether or not its fields would fit: nothing is bought, and nothing is called damaged."""
    task = job()
    await task.start()
    rewritten(task, layout=2, package="0.7.0", **more)

    with pytest.raises(
        UsageError,
        match=rf"plan\.json has file layout 2, written by airflow-batch-provider 0\.7\.0; this is {__version__}, which "
        r"reads layout 1\. Use airflow-batch-provider 0\.7\.0",
    ):
        await task.retry()
    assert len(provider.batches) == 1


async def test_a_plan_without_a_layout_is_of_a_development_version(job):
    """Its fields have other names."""
    task = job()
    await task.start()
    rewritten(task, layout=None, package=None, first={"parts": []})

    with pytest.raises(UsageError, match=r"has file layout 0, written by airflow-batch-provider 0\.1\.0-dev"):
        await task.retry()


@pytest.mark.parametrize("data", [b"{", b"[]", b'{"layout": "one"}', b'{"layout": 1}'])
async def test_a_plan_that_cannot_be_read_is_damaged(job, data):
    """It may hide a purchase, so a person must look."""
    task = job()
    await task.start()
    task.directory.write("plan.json", data)

    with pytest.raises(Unresolved, match="is damaged"):
        await task.retry()


def test_an_entry_of_another_layout_is_refused(tmp_path):
    """Two releases may share a storage while one replaces the other."""
    directory = Directory(UPath(tmp_path))
    entry = Entry(tag="t", provider="openai", account="a", label="d/r/t", claim="c", requests=2, claimed_at=START)
    newer = entry.model_dump(mode="json") | {"layout": 2, "package": "0.7.0"}
    directory.write("open/t.json", json.dumps(newer).encode())

    with pytest.raises(UsageError, match=r"open/t\.json has file layout 2"):
        Registry(directory).get("t")
