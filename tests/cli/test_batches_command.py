"""The commands as a person calls them, and the operator in a DAG, over Airflow's database and three emulated providers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from airflow.sdk import DAG
from failed_dags import MODELS, failed_dag
from upath import UPath

from airflow_batch_provider.cli.definition import COMMANDS, parser
from airflow_batch_provider.clock import utc_now
from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.ledger.batch_files import BatchFiles
from airflow_batch_provider.operators import ReconcileOperator
from airflow_batch_provider.storage import Directory


def phases(emulator):
    return [job["phase"] for job in emulator.books()["jobs"]]


def test_nothing_open_is_said_so(database, batches, storage):
    """And is not an error."""
    code, out, err = batches("list")
    assert (code, out) == (0, "No batch is open.\n")
    assert f"Stage storage: {storage.as_uri()}" in err
    assert batches("reconcile", "--apply")[:2] == (0, "No batch is open.\n")
    assert batches("prune", "--older-than", 1)[:2] == (0, "No stage storage is that old.\n")


def test_orphans_are_shown_then_cancelled(orphans, batches, emulator):
    """Looking asks a person to act; acting leaves nothing to do."""
    code, out, err = batches("list")
    assert code == 0
    header, _, *lines = out.splitlines()
    assert (header.split()[-1], [line.split()[-1] for line in lines]) == ("task_is", ["over", "over", "over"])
    assert "Stage storage: file://" in err
    code, out, _ = batches("reconcile")
    assert code == 1
    assert out.count("It runs, but its task is over.") == 3
    assert out.endswith("3 to do. Nothing was changed: add --apply to act.\n")
    assert phases(emulator) == ["running"] * 3

    code, out, _ = batches("reconcile", "--apply", "-o", "json")

    assert code == 0
    told = {row["provider"]: (row["action"], row["task_is"]) for row in json.loads(out)}
    assert told == dict.fromkeys(["anthropic", "openai", "google"], ("cancelled", "over"))
    assert "running" not in phases(emulator)


def test_programs_read_the_list(orphans, batches):
    """Numbers are numbers, and nothing else is on standard output."""
    for output, read in (("json", json.loads), ("yaml", yaml.safe_load)):
        code, out, _ = batches("list", "--output", output)
        requests = {row["provider"]: row["requests"] for row in read(out)}
        assert (output, code, requests) == (output, 0, {"anthropic": 2, "google": 2, "openai": 2})


def test_a_plain_list_has_one_line_a_batch(orphans, batches):
    """For grep and awk, whatever the width of the terminal."""
    out = batches("list", "-o", "plain")[1]

    header, *lines = out.splitlines()
    assert header.split()[0] == "tag"
    assert [line.split()[-1] for line in lines] == ["over", "over", "over"]


def test_one_batch_is_shown_as_its_provider_sees_it_now(orphans, storage, batches):
    """With its task, its claim, and where it is counted."""
    tags = {row["provider"]: row["tag"] for row in json.loads(batches("list", "-o", "json")[1])}

    code, out, _ = batches("show", tags["openai"], "-o", "json")

    (facts,) = json.loads(out)
    assert (code, facts["status"], facts["task_is"], facts["connection"]) == (0, "processing", "over", "openai_default")
    assert facts["claim"].startswith(storage.as_uri())
    assert "processing" in batches("show", tags["openai"])[1]
    assert batches("show", "nope")[0] == 2


def test_what_a_file_says_does_not_steer_the_terminal(orphans, storage, batches):
    """Neither escape codes nor the markup of the library that draws the table."""
    for entry in (storage / "=registry" / "open").iterdir():
        facts = json.loads(entry.read_text())
        entry.write_text(json.dumps(facts | {"batch_id": "\x1b[31m[red]evil[/nothing]"}))

    code, out, _ = batches("list")

    assert (code, out.count("[red]evil[/nothing]"), out.count("\x1b")) == (0, 3, 0)


@pytest.mark.parametrize("provider", MODELS)
def test_a_connection_is_checked(database, batches, monkeypatch, emulator, provider):
    """A key that works, one that does not, and no connection at all."""
    conn_id = f"{provider}_default"
    assert batches("check", conn_id)[0] == 0
    variable = f"AIRFLOW_CONN_{conn_id.upper()}"
    monkeypatch.setenv(variable, json.dumps(json.loads(os.environ[variable]) | {"password": "invalid"}))

    code, _, err = batches("check", conn_id)

    assert (code, "key" in err.lower()) == (1, True)
    assert batches("check", "nowhere")[0] == 2


def test_a_deleted_runs_batches_are_cancelled_and_a_deleted_dags_are_reported(orphans, batches, emulator):
    """A DAG that Airflow does not know may be another Airflow's."""
    from airflow.api.common.delete_dag import delete_dag
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    with create_session() as session:
        session.execute(delete(DagRun).where(DagRun.dag_id == orphans))
    rows = json.loads(batches("reconcile", "-o", "json")[1])
    assert {(row["action"], row["task_is"]) for row in rows} == {("cancel", "gone")}
    delete_dag(orphans)

    code, out, _ = batches("reconcile", "--apply", "-o", "json")

    assert code == 1
    assert {row["action"] for row in json.loads(out)} == {"report"}
    assert phases(emulator) == ["running"] * 3


def test_a_waiting_tasks_batches_are_kept(orphans, batches, emulator):
    """Whatever state it waits in, a cleared one that has none yet included."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import update

    for state in ("deferred", "queued", "up_for_retry", None):
        with create_session() as session:
            session.execute(update(TaskInstance).where(TaskInstance.dag_id == orphans).values(state=state))

        code, out, _ = batches("reconcile", "--apply", "-o", "json")

        assert (code, {row["action"] for row in json.loads(out)}) == (0, {"keep"})
    assert phases(emulator) == ["running"] * 3


def test_only_named_connections_are_looked_through(orphans, batches, emulator):
    """What lies elsewhere is reported."""
    code, out, _ = batches("reconcile", "--apply", "--conn-id", "openai_default", "-o", "json")
    told = {row["provider"]: row["action"] for row in json.loads(out)}
    assert (code, told) == (1, {"anthropic": "report", "openai": "cancelled", "google": "report"})
    assert batches("reconcile", "--conn-id", "nowhere")[0::2] == (
        2,
        "error: There is no Airflow connection 'nowhere'; `airflow connections list` shows all.\n",
    )


@pytest.mark.parametrize("provider", MODELS)
def test_a_lost_receipt_is_settled_by_hand(tested, storage, batches, emulator, provider):
    """Adopt writes it again; absent withdraws a claim that the provider surely has not."""
    tested(failed_dag(f"lost_{provider}", [provider]))
    (receipt,) = storage.rglob("*.receipt.json")
    batch_id, tag = (json.loads(receipt.read_text())[name] for name in ("batch_id", "tag"))
    receipt.unlink()
    assert batches("adopt", tag, "batches/b-0" if provider == "gemini" else "batch_0")[0] == 2
    code, _, err = batches("absent", tag)
    assert code == 2
    assert "may not be visible yet" in err

    code, out, _ = batches("adopt", tag, batch_id)

    assert code == 0
    assert f"Batch {batch_id} is {tag} of lost_{provider}/" in out
    assert json.loads(receipt.read_text())["batch_id"] == batch_id
    assert json.loads(receipt.read_text())["tentative"] == (provider == "anthropic")


def test_an_absent_batch_is_withdrawn(tested, storage, batches, emulator):
    """The claim is old, and the provider has nothing under its tag."""
    tested(failed_dag("absent", ["openai"]))
    for file in [*storage.rglob("*.receipt.json")]:
        file.unlink()
    (claim,) = storage.rglob("*.claim.json")
    (entry,) = (storage / "=registry" / "open").iterdir()
    tag = json.loads(claim.read_text())["tag"]
    entry.write_text(
        entry.read_text().replace(str(json.loads(entry.read_text())["claimed_at"]), "2026-01-01T00:00:00Z")
    )
    emulator.emulator.reset()

    code, out, _ = batches("absent", tag)

    assert (code, out.endswith("is withdrawn. Clear the task: it buys these 2 requests.\n")) == (0, True)
    assert BatchFiles(Directory(UPath(claim.parent)), 0).claim() is None
    assert not entry.exists()


def test_an_unknown_tag_says_where_to_look(database, storage, batches):
    """Bad words end with 2 and one line."""
    code, _, err = batches("adopt", "nope", "batch_1")
    assert code == 2
    assert err.startswith("error: No open batch below file://")
    assert "airflow batches list" in err


def test_old_storage_is_listed_and_deleted(tested, storage, batches):
    """Not while a batch of it is open; results and all when it is finished."""
    tested(failed_dag("pruned", ["openai"]))
    assert batches("prune", "--older-than", 1e-9, "--unfinished")[1] == "No stage storage is that old.\n"
    for entry in (storage / "=registry" / "open").iterdir():
        entry.unlink()
    assert batches("prune", "--older-than", 1e-9)[1] == "No stage storage is that old.\n"
    code, out, _ = batches("prune", "--older-than", 1e-9, "--unfinished")
    assert code == 0
    assert "unfinished" in out
    assert out.endswith("1 to do. Nothing was changed: add --apply to delete.\n")

    code, out, _ = batches("prune", "--older-than", 1e-9, "--unfinished", "--apply", "-o", "json")

    assert [row["action"] for row in json.loads(out)] == ["deleted"]
    assert not (storage / "pruned").exists()


@pytest.mark.parametrize("is_configured", [True, False], ids=["configured", "named"])
def test_old_answers_of_the_row_cache_are_listed_and_deleted(storage, batches, tmp_path, monkeypatch, is_configured):
    """Of the cache that Airflow's configuration or the command names; newer answers and files of others stay."""
    scope = tmp_path / "cache" / "0123456789abcdef"
    scope.mkdir(parents=True)
    old, new, other = (
        scope / name for name in ("all.20200101T000000Z-t.jsonl.zst", f"all.{_now()}-t.jsonl.zst", "mine")
    )
    for path in (old, new, other):
        path.touch()
    named = [] if is_configured else ["--row-cache", (tmp_path / "cache").as_uri()]
    if is_configured:
        monkeypatch.setenv("AIRFLOW__BATCH_PROVIDER__ROW_CACHE", (tmp_path / "cache").as_uri())

    code, out, _ = batches("prune", "--older-than", 30, *named)

    assert (code, "1 objects of the row cache" in out, "2020-01-01 00:00" in out, old.exists()) == (0, True, True, True)
    assert [
        row["action"] for row in json.loads(batches("prune", "--older-than", 30, *named, "--apply", "-o", "json")[1])
    ] == ["deleted"]
    assert [path.exists() for path in (old, new, other)] == [False, True, True]


def _now():
    return f"{utc_now():%Y%m%dT%H%M%SZ}"


@pytest.mark.parametrize("words", [["prune"], ["prune", "--older-than", "0"], ["adopt", "t"], ["what"], []])
def test_wrong_words_end_with_two(words, capsys):
    """As argparse says it."""
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(["batches", *words])
    assert ended.value.code == 2


TWO_COMMANDS = """
import runpy, sys

_, program = sys.argv
for words in ["list"], ["adopt", "nope", "batch_1"]:
    sys.argv[1:] = ["batches", *words]
    try:
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        print("ended with", ended.code)
"""


@pytest.mark.parametrize("program", [pytest.param("airflow", marks=pytest.mark.slow), "airflow_batch_provider"])
def test_both_programs_have_the_commands(database, storage, program):
    """Airflow takes them from the provider's record since 3.2; without it, they are a module. One process, which costs much."""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", TWO_COMMANDS, program]

    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)

    assert done.stdout == "No batch is open.\nended with 0\nended with 2\n", done.stderr


def test_airflow_gets_every_command():
    """Under the same names and arguments."""
    from airflow_batch_provider.cli.definition import get_batches_commands

    (group,) = get_batches_commands()
    assert group.name == "batches"
    assert [command.name for command in group.subcommands] == [command.name for command in COMMANDS]


# from a DAG


def reconciled(name, **options):
    with DAG(name, schedule=None) as dag:
        connections = ["anthropic_default", "openai_default", "gemini_default"]
        ReconcileOperator(task_id="reconcile", **{"conn_ids": connections, **options})
    return dag


def test_the_operator_cancels_after_the_grace(orphans, tested, emulator):
    """It asks Airflow through the task, as a worker must; the counts are its output."""
    nothing = dict.fromkeys(["keep", "adopt", "cancel", "forget", "report"], 0)
    assert tested(reconciled("within_grace")).xcom("reconcile") == {**nothing, "keep": 3}
    assert phases(emulator) == ["running"] * 3
    asked = tested(reconciled("only_report", apply=False, grace=timedelta(0)))
    assert asked.xcom("reconcile") == {**nothing, "cancel": 3}
    assert "cancel (not done): batch " in asked.log
    assert phases(emulator) == ["running"] * 3

    run = tested(reconciled("no_grace", grace=timedelta(0)))

    assert run.xcom("reconcile") == {**nothing, "cancel": 3}
    assert "running" not in phases(emulator)


def test_the_operator_tells_deleted_runs_from_unknown_dags(orphans, tested, emulator):
    """The first are cancelled, the second reported."""
    from airflow.api.common.delete_dag import delete_dag
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    with create_session() as session:
        session.execute(delete(DagRun).where(DagRun.dag_id == orphans))
    assert tested(reconciled("gone", apply=False, grace=timedelta(0))).xcom("reconcile")["cancel"] == 3
    delete_dag(orphans)

    run = tested(reconciled("unknown", grace=timedelta(0)))

    assert run.xcom("reconcile")["report"] == 3
    assert "another one that shares this storage may wait for it" in run.log
    assert phases(emulator) == ["running"] * 3


def test_the_operator_needs_connections():
    """Said while the DAG is parsed."""
    with pytest.raises(UsageError, match="has no conn_ids="):
        reconciled("none", conn_ids=[])
