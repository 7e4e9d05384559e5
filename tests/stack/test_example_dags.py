"""Every example DAG, run by a real Airflow to its end.

Each process of a task takes Airflow a second and a half of a processor, so `make test` runs three of them and `make rest` the others.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from upath import UPath

from airflow_batch_provider.demo.connections import KEY
from airflow_batch_provider.demo.rest import RunFailed

EXAMPLES = Path(__file__).parents[2] / "example_dags"


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_fits_on_one_screen(example):
    """At most 40 lines, the docstring that explains it included."""
    lines = example.read_text().splitlines()
    assert len(lines) <= 40
    assert lines[0].startswith('"""')


def test_every_example_is_run():
    """By one of the tests below."""
    marks = [mark for one in globals().values() for mark in getattr(one, "pytestmark", ())]
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {mark.args[0] for mark in marks if mark.name == "dag"} - {
        "fails"
    }


@pytest.mark.dag("quickstart")
def test_quickstart_asks_three_providers_without_holding_a_worker(finished):
    """Each provider's task is deferred while its batch runs, and ends with all three answers."""
    finished.require_success()
    for provider, name in (("anthropic", "anthropic"), ("openai", "openai"), ("gemini", "google")):
        task = f"ask_{provider}"
        manifest = finished.manifest(task)
        assert finished.was_deferred(task)
        assert manifest.provider == name
        assert manifest.counts == {**dict.fromkeys(manifest.counts, 0), "succeeded": 3}
        assert manifest.usage.input_tokens > 0
        assert manifest.cost.usd is not None
        assert manifest.cost.usd > 0


@pytest.mark.dag("quickstart")
def test_quickstart_shows_the_answers_in_the_log_of_the_next_task(finished):
    """A downstream task reads the rows by the manifest, in the order asked."""
    rows = finished.rows("ask_openai")
    assert [row.index for row in rows] == [0, 1, 2]
    log = finished.log("show_openai")
    assert all(row.custom_id in log for row in rows)


@pytest.mark.dag("quickstart")
def test_no_answer_and_no_key_passes_through_xcom_or_the_log(finished):
    """The manifest says where the rows are; what they say stays there."""
    for seen in (str(finished.xcom("ask_anthropic")), finished.log("ask_anthropic")):
        assert [row.output for row in finished.rows("ask_anthropic") if row.output in seen] == []
        assert "Why is the sky blue?" not in seen
        assert KEY not in seen


@pytest.mark.dag("structured_output")
def test_structured_output_becomes_a_parquet_file_whose_answers_fit(finished):
    """Every row of the file is an answer that the model of the DAG accepts."""
    from pyarrow import parquet

    finished.require_success()
    manifest = finished.manifest("classify")
    assert manifest.format == "parquet"
    table = parquet.read_table(UPath(manifest.results).path)
    assert table.num_rows == manifest.requests == 3
    for row in finished.rows("classify"):
        assert row.output["category"] in ("billing", "delivery", "defect", "other")
        assert 1 <= row.output["urgency"] <= 5


@pytest.mark.slow
@pytest.mark.dag("embeddings")
def test_embeddings_come_back_under_the_users_keys(finished):
    """One vector per text, and a downstream task that computes with them."""
    finished.require_success()
    rows = finished.rows("embed")
    assert [row.custom_id for row in rows] == ["cat", "dog", "tax"]
    assert len({len(row.output) for row in rows}) == 1
    assert set(finished.xcom("closest")) < {"cat", "dog", "tax"}


@pytest.mark.slow
@pytest.mark.dag("file_rows")
def test_every_row_of_the_file_gets_its_answer(finished):
    """Keys come from the file's column, in the file's order."""
    finished.require_success()
    rows = finished.rows("judge")
    assert [row.custom_id for row in rows] == [f"r-00{number}" for number in range(1, 7)]
    assert {row.status for row in rows} == {"succeeded"}


@pytest.mark.slow
@pytest.mark.dag("fan_out")
def test_fan_out_gives_each_mapped_task_a_batch_and_a_storage_of_its_own(finished):
    """Three topics, three batches, three places; the sum downstream is right."""
    finished.require_success()
    manifests = [finished.manifest("ask", index) for index in range(3)]
    assert len({manifest.results for manifest in manifests}) == 3
    assert len({manifest.batches for manifest in manifests}) == 3
    assert finished.was_deferred("ask", 0)
    total = finished.xcom("total")
    assert total["answers"] == 6
    assert total["usd"] == pytest.approx(sum(manifest.cost.usd for manifest in manifests))


@pytest.mark.slow
@pytest.mark.dag("reconcile")
def test_reconcile_leaves_alone_what_tasks_wait_for(finished):
    """Beside running DAGs it finds nothing to cancel."""
    finished.require_success()
    assert finished.xcom("reconcile")["cancel"] == 0


@pytest.mark.slow
@pytest.mark.dag("chain")
def test_the_second_batch_of_the_chain_asks_about_the_answers_of_the_first(finished):
    """Its rows carry the keys of the first batch's rows, and its prompts their answers."""
    finished.require_success()
    drafts, judgements = finished.rows("write"), finished.rows("judge")
    assert [row.custom_id for row in drafts] == [row.custom_id for row in judgements] == ["kettle", "lamp"]
    for draft, judgement in zip(drafts, judgements, strict=True):
        assert draft.output in judgement.output  # the emulator's answers repeat the question
    assert finished.was_deferred("write")
    assert finished.was_deferred("judge")


@pytest.mark.dag("own_stage")
def test_a_stage_of_ones_own_suspends_is_checked_in_the_triggerer_and_resumes(finished):
    """Both stages of the guide end with the output that their schema describes."""
    finished.require_success()
    assert finished.was_deferred("process")
    assert finished.was_deferred("embed")
    processed = finished.xcom("process")["items"]
    assert [item["id"] for item in processed] == ["item-0", "item-1"]
    assert all(item["success"] for item in processed)
    embedded = finished.xcom("embed")
    assert [item["id"] for item in embedded["embeddings"]] == ["section-0", "section-1"]
    assert embedded["total_tokens"] > 0


@pytest.mark.dag("fails")
def test_a_failed_run_is_told_with_the_tail_of_its_log(finished):
    """What `make demo` prints when a DAG fails names the task and its reason."""
    assert finished.state == "failed"
    with pytest.raises(RunFailed, match="the kettle is empty"):
        finished.require_success()
