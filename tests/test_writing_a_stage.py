"""The page *Writing a stage*: its code, exactly as it stands there, runs over the emulator."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from driving import KEY, PATHS
from pydantic import SecretStr

from airflow_batch_provider.emulator.server import EmulatorServer
from airflow_batch_provider.emulator.settings import Progress, Settings
from airflow_batch_provider.models import Account
from airflow_batch_provider.testing import run_stage

PAGE = Path(__file__).parents[1] / "docs/writing-a-stage.md"
OUTPUTS = {
    "data-extraction": {"items": ["a kettle", "a lamp"], "sections": ["Kettles boil water.", "Lamps give light."]}
}


@pytest.fixture(scope="module")
def page():
    """The page's code as one module, as a plugins folder would hold it."""
    module = ModuleType("written_stages")
    sys.modules[module.__name__] = module
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
    exec(compile(code, str(PAGE), "exec"), vars(module))
    yield module
    del sys.modules[module.__name__]


@pytest.fixture
def accounts():
    """An account of each provider at one emulator."""
    with EmulatorServer(
        Settings(progress=Progress(by="polls", pending=1, running=1, finalizing=0, settle=0))
    ) as server:
        yield {
            name: {name: Account(provider=name, api_key=SecretStr(KEY), base_url=server.url + path)}
            for name, path in PATHS.items()
        }


def test_the_first_example_collects_every_item(page, accounts):
    """Submitted, polled each minute, collected in the check."""
    result = page.process(accounts["anthropic"])

    assert [(item["id"], item["success"]) for item in result.output["items"]] == [("item-0", True), ("item-1", True)]
    assert result.output["items"][0]["result"] == "echo: Process this item: a kettle"
    assert (result.metrics["items_processed"], result.metrics["success_count"]) == (2, 2)


def test_the_second_example_gives_a_vector_for_each_section(page, accounts):
    """In one batch, and in as many as there are sections."""
    for size in (100, 1):
        config = {"model": "text-embedding-3-small", "batch_size": size}
        result = run_stage(page.BatchEmbeddings, config=config, outputs=OUTPUTS, accounts=accounts["openai"])

        assert [one["id"] for one in result.output["embeddings"]] == ["section-0", "section-1"]
        assert result.output["total_tokens"] > 0
        assert result.checks[-1].embeddings["total_processed"] == 2


def test_the_stage_that_submits_in_each_execute_ends_with_every_row(page, accounts):
    """Its second submit finds nothing left to ask."""
    result = run_stage(page.Patient, config={"model": "gemini-2.5-flash"}, outputs=OUTPUTS, accounts=accounts["google"])

    assert [item["success"] for item in result.output["items"]] == [True, True]
    assert len(result.suspensions) == 1


def test_the_stage_with_a_canary_waits_for_it_before_it_buys_the_rest(page, accounts):
    """One wait for each, and the canary's row is a result like the others."""
    result = run_stage(page.Careful, config={"model": "gpt-5-mini"}, outputs=OUTPUTS, accounts=accounts["openai"])

    assert [(item["id"], item["success"]) for item in result.output["items"]] == [
        ("request-0", True),
        ("request-1", True),
    ]
    assert len(result.suspensions) == 2
