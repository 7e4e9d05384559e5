"""What a release and its forge need: workflows, the entry of Airflow's registry, claims of versions."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pinned(name):
    """The version of a distribution in constraints.txt."""
    return re.search(rf"^{name}==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]


def steps(path):
    for job in yaml.safe_load(path.read_text())["jobs"].values():
        yield from job["steps"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_by_its_commit(path):
    """A tag can be moved by whoever takes the action over; its version stands beside for people."""
    used = re.findall(r"uses: (.*)", path.read_text())

    assert used
    assert [use for use in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", use)] == []


def test_one_action_has_one_version():
    """In all workflows."""
    used = {use for path in WORKFLOWS for use in re.findall(r"uses: (.*)", path.read_text())}

    assert len({use.split("@")[0] for use in used}) == len(used)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_calls_targets_that_exist(path):
    """CI does what people do, by the same words."""
    called = {target for step in steps(path) for target in re.findall(r"\bmake ([\w-]+)", step.get("run", ""))}

    assert called
    assert [target for target in called if not re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)] == []


def test_the_release_is_uploaded_by_the_pinned_tool_without_a_password():
    """The index trusts the workflow itself."""
    text = (ROOT / ".github/workflows/release.yml").read_text()

    assert f"pip install uv=={pinned('uv')}" in text
    assert "uv publish --trusted-publishing always" in text
    assert "secrets." not in text


def test_zizmor_finds_nothing():
    """With its strictest rules that are not guesses."""
    zizmor = Path(sys.executable).with_name("zizmor")
    run = subprocess.run(
        [zizmor, "--offline", "--pedantic", "--no-progress", ROOT / ".github"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr


def test_the_registry_entry_names_what_the_package_brings():
    """Every public operator, sensor, hook, trigger and decorator, each importable, with a line about it; nothing else."""
    from airflow.sdk.module_loading import import_string

    from airflow_batch_provider import hooks, operators, sensors, triggers
    from airflow_batch_provider.get_provider_info import get_provider_info

    entry = yaml.safe_load((ROOT / ".airflow-registry.yaml").read_text())
    brought = {
        module.__name__.rpartition(".")[2]: {f"{module.__name__}.{name}" for name in module.__all__}
        for module in (hooks, operators, sensors, triggers)
    }
    brought["decorators"] = {decorator["class-name"] for decorator in get_provider_info()["task-decorators"]}
    named = {part: {item["module"] for item in entry[part]} for part in brought}

    assert named == brought
    assert all(import_string(name) for names in named.values() for name in names)
    assert all(len(item["description"]) > 20 for part in brought for item in entry[part])
    assert entry["package-name"] == PROJECT["name"]
    assert PROJECT["description"] in " ".join(entry["description"].split())


def test_only_what_was_run_is_claimed():
    """The Pythons of the classifiers stand in the table of what was run, and Airflow's range begins and ends there."""
    page = (ROOT / "docs/compatibility.md").read_text(encoding="utf-8")
    table = page.split("## What was run")[1].split("\n\n")[2]
    claimed = [name.rpartition(" ")[2] for name in PROJECT["classifiers"] if ":: Python :: 3." in name]
    (airflow,) = [entry for entry in PROJECT["dependencies"] if entry.startswith("apache-airflow>")]
    lowest, above = re.fullmatch(r"apache-airflow>=([\d.]+),<3\.(\d+)", airflow).groups()

    assert claimed
    assert [version for version in claimed if f"Python {version}." not in table] == []
    assert f"Airflow {lowest}" in table
    assert f"Airflow 3.{int(above) - 1}." in table
