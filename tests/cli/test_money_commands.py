"""`airflow batches cost` and `cancel`, as a person calls them."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta

import pytest
import yaml
from airflow.sdk import DAG
from failed_dags import MODELS

from airflow_batch_provider.cli.definition import moment
from airflow_batch_provider.clock import utc_now
from airflow_batch_provider.operators import BatchGenerateOperator
from airflow_batch_provider.stages import PollConfig

SOON = PollConfig(interval=timedelta(seconds=1), max_wait=timedelta(minutes=2), first_poll=timedelta(0))


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """Where the first test leaves the stage storage of its run, and the run."""
    return {"storage": tmp_path_factory.mktemp("spent") / "batches"}


@pytest.fixture
def spent(tested, emulator, storage, first):
    """Two rows at each provider have landed, once for all tests; each has a copy of the storage. Returns the run."""
    if "run" in first:
        shutil.copytree(first["storage"], storage)
        return first["run"]
    emulator.emulator.settings = emulator.emulator.settings.model_copy(
        update={"progress": emulator.emulator.settings.progress.model_copy(update={"running": 0})}
    )
    with DAG("spent", schedule=None) as dag:
        for provider, model in MODELS.items():
            conn_id = f"{provider}_default"
            BatchGenerateOperator(task_id=provider, model=model, conn_id=conn_id, requests=["a", "b"], poll=SOON)
    run = tested(dag)
    assert set(run.states().values()) == {"success"}
    shutil.copytree(storage, first["storage"])
    first["run"] = run
    return run


def test_what_batches_cost_is_summed_by_what_one_asks_for(spent, batches):
    """To the cent of the manifests, for people with a total."""
    manifests = {provider: spent.xcom(provider) for provider in MODELS}
    usd = {manifest["model"]: manifest["cost"]["usd"] for manifest in manifests.values()}

    rows = json.loads(batches("cost", "--by", "model", "-o", "json")[1])
    assert {row["model"]: row["usd"] for row in rows} == pytest.approx(usd)
    assert [row["usd"] for row in rows] == sorted(usd.values(), reverse=True)
    assert {(row["batches"], row["requests"], row["succeeded"]) for row in rows} == {(1, 2, 2)}
    code, out, _ = batches("cost", "--by", "task")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[2:]] == [
        *(f"{spent.run.dag_id}/{name}" for name in sorted(MODELS, key=lambda one: -manifests[one]["cost"]["usd"])),
        "total",
    ]


def test_every_group_has_its_names(spent, batches):
    """All of the same batches."""
    groups = {
        "dag": 1,
        "run": 1,
        "month": 1,
        "connection": {f"{provider}_default" for provider in MODELS},
        "provider": {"anthropic", "openai", "google"},
    }
    for group, names in groups.items():
        rows = yaml.safe_load(batches("cost", "--by", group, "--output", "yaml")[1])
        assert (group, sum(row["batches"] for row in rows)) == (group, 3)
        assert (len(rows) if isinstance(names, int) else {row[group] for row in rows}) == names, group


def test_the_tags_of_a_dag_and_the_team_of_its_bundle_share_what_it_cost(spent, batches):
    """A batch counts for each tag, and once in the total; what has no tag or team is told as that."""
    from airflow.models.dag import DagModel, DagTag
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.team import Team
    from airflow.utils.session import create_session

    dag_id = spent.run.dag_id
    assert {row["tag"] for row in json.loads(batches("cost", "--by", "tag", "-o", "json")[1])} == {"no tag"}
    assert {row["team"] for row in json.loads(batches("cost", "--by", "team", "-o", "json")[1])} == {"no team"}
    with create_session() as session:
        dag = session.get(DagModel, dag_id)
        dag.tags = [DagTag(name="nightly", dag_id=dag_id), DagTag(name="search", dag_id=dag_id)]
        bundle = DagBundleModel(name="of_a_team")
        bundle.teams = [Team(name="labels")]
        session.add(bundle)
        session.flush()
        dag.bundle_name = "of_a_team"

    by_tag = json.loads(batches("cost", "--by", "tag", "-o", "json")[1])
    assert {row["tag"]: row["batches"] for row in by_tag} == {"nightly": 3, "search": 3}
    assert batches("cost", "--by", "tag", "-o", "plain")[1].splitlines()[-1].split()[:2] == ["total", "3"]
    (team,) = json.loads(batches("cost", "--by", "team", "-o", "json")[1])
    assert (team["team"], team["usd"]) == ("labels", by_tag[0]["usd"])


def test_only_batches_since_a_day_are_summed(spent, batches):
    """A date, or days until now."""
    assert batches("cost", "--since", "1d", "-o", "json")[1].count('"dag"') == 1
    later = f"{utc_now() + timedelta(days=1):%Y-%m-%d}"
    assert batches("cost", "--since", later)[:2] == (0, f"No batch has landed since {later}.\n")


def test_costs_outlast_the_stage_storage(spent, batches, storage):
    """What was pruned was paid nevertheless."""
    before = batches("cost", "-o", "json")[1]
    assert batches("prune", "--older-than", 1e-9, "--apply")[0] == 0
    assert not (storage / spent.run.dag_id).exists()

    assert batches("cost", "-o", "json")[1] == before


def test_the_use_of_budgets_is_shown(spent, batches, storage, monkeypatch):
    """To the cent, of runs and of connections; what was pruned is still in the month, and the run's is gone with it."""
    monkeypatch.setenv("AIRFLOW__BATCH_PROVIDER__RUN_BUDGETS", "10")
    monkeypatch.setenv("AIRFLOW__BATCH_PROVIDER__MONTHLY_BUDGETS", '{"openai_default": 5}')
    usd = {provider: spent.xcom(provider)["cost"]["usd"] for provider in MODELS}

    run, month = json.loads(batches("cost", "--by", "budget", "-o", "json")[1])

    assert run["budget"] == f"run {spent.run.run_id!r} of DAG {spent.run.dag_id!r}"
    assert (run["limit_usd"], run["open_usd"]) == (10, 0)
    assert run["spent_usd"] == pytest.approx(sum(usd.values()))
    assert month["spent_usd"] == pytest.approx(usd["openai"])
    assert month["left_usd"] == pytest.approx(5 - usd["openai"])
    assert f"connection 'openai_default' in {utc_now():%Y-%m}" in batches("cost", "--by", "budget")[1]

    assert batches("prune", "--older-than", 1e-9, "--apply")[0] == 0
    assert json.loads(batches("cost", "--by", "budget", "-o", "json")[1]) == [month]


def test_where_no_budget_is_set_that_is_said(spent, batches):
    """Though costs are known."""
    assert batches("cost", "--by", "budget")[1] == "No budget is set, or nothing counts for one.\n"


def test_what_is_open_costs_nothing_yet_and_is_told(orphans, batches):
    """On standard error."""
    code, out, err = batches("cost")

    assert (code, out) == (0, "No batch has landed.\n")
    assert "3 open or claimed" in err


@pytest.mark.parametrize("word", ["yesterday", "xd", "nand", "2026-13-01"])
def test_a_date_that_is_none_is_refused(word):
    """With what would be one."""
    with pytest.raises(Exception, match="neither a date such as 2026-11-01 nor days such as 30d"):
        moment(word)


# cancel


@pytest.fixture
def run_id(orphans):
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        return session.scalar(select(DagRun.run_id).where(DagRun.dag_id == orphans))


def running(emulator):
    return sum(job["phase"] == "running" for job in emulator.books()["jobs"])


def test_a_tasks_open_batch_is_cancelled_once_a_person_agrees(orphans, run_id, batches, emulator, monkeypatch):
    """Only that task's."""
    monkeypatch.setattr("builtins.input", lambda _question: "n")
    assert batches("cancel", orphans, run_id, "openai")[:2] == (1, "Nothing was cancelled.\n")
    assert running(emulator) == 3
    monkeypatch.setattr("builtins.input", lambda _question: "y")

    code, out, err = batches("cancel", orphans, run_id, "openai", "-o", "json")

    (row,) = json.loads(out)
    assert (code, row["action"], row["provider"], row["task_is"]) == (0, "cancelled", "openai", "over")
    assert row["batch_id"] in err
    assert running(emulator) == 2


def test_all_batches_of_a_run_are_cancelled_without_a_question(orphans, run_id, batches, emulator):
    """As a script asks for it."""
    code, out, _ = batches("cancel", orphans, run_id, "--yes", "-o", "json")

    assert (code, {row["action"] for row in json.loads(out)}) == (0, {"cancelled"})
    assert running(emulator) == 0


def test_nobody_at_the_terminal_agrees_to_nothing(orphans, run_id, batches, emulator, monkeypatch):
    """A script that forgot `--yes` is told so."""

    def nobody(_question):
        raise EOFError

    monkeypatch.setattr("builtins.input", nobody)

    code, _, err = batches("cancel", orphans, run_id)

    assert (code, running(emulator)) == (2, 3)
    assert err.rstrip().endswith("Add --yes.")


def test_what_a_task_waits_for_is_cancelled_by_marking_the_task(orphans, run_id, batches, emulator):
    """Else the task would ask the rows again; a person may insist."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import update

    with create_session() as session:
        session.execute(update(TaskInstance).where(TaskInstance.dag_id == orphans).values(state="deferred"))

    code, out, _ = batches("cancel", orphans, run_id, "--yes")
    assert (code, running(emulator)) == (1, 3)
    assert out.count("mark the task failed in Airflow") == 3

    assert batches("cancel", orphans, run_id, "--yes", "--even-if-waiting")[0] == 0
    assert running(emulator) == 0


def test_a_run_without_open_batches_is_said_so(database, batches, storage):
    """And is not an error."""
    assert batches("cancel", "nothing", "here", "--yes")[:2] == (0, "No batch of it is open.\n")
