"""Every example on the pages runs as it stands there, against the emulator: whoever copies it gets what the page says."""

from __future__ import annotations

import argparse
import configparser
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from airflow.cli.cli_parser import get_parser
from airflow.configuration import conf
from page_code import OUTPUT, blocks_of, dags_of, write_files

from airflow_batch_provider.airflow.connections import OWN_TYPES
from airflow_batch_provider.cli.definition import parser as batches_parser
from airflow_batch_provider.demo.connections import to_emulator
from airflow_batch_provider.emulator.__main__ import parser as emulator_parser
from airflow_batch_provider.emulator.server import EmulatorServer
from airflow_batch_provider.emulator.settings import Progress, Settings
from airflow_batch_provider.get_provider_info import get_provider_info
from airflow_batch_provider.stages.polling import PollPlan

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
# They have tests of their own: tests/test_writing_a_stage.py, tests/operators/test_tables_page.py.
OTHERS = {DOCS / "writing-a-stage.md", DOCS / "tables.md"}
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if page not in OTHERS]
CODE = {page: blocks_of(page) for page in [ROOT / "README.md", *PAGES]}
COMMANDS = [
    (page, line.removeprefix("$ ").split("  #")[0].strip())
    for page, blocks in CODE.items()
    for block in blocks
    if block.language == "console"
    for line in block.text.splitlines()
    if line.startswith("$ ")
]


def by_page(item):
    return item.relative_to(ROOT).as_posix() if isinstance(item, Path) else None


@pytest.fixture(scope="module")
def emulator():
    with EmulatorServer(Settings(progress=Progress(by="polls", pending=0, running=0, finalizing=0))) as server:
        yield server


@pytest.fixture
def connected(emulator, monkeypatch):
    """Connections to the emulator, and polls that do not wait."""
    for name, value in to_emulator(emulator).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(PollPlan, "first_pause", lambda _self, _now: 0.0)


def with_modules():
    return [page for page in PAGES if any(block.is_module for block in CODE[page])]


@pytest.mark.slow
@pytest.mark.parametrize("page", with_modules(), ids=by_page)
def test_the_dags_of_a_page_succeed_and_print_what_it_shows(page, connected, tested, tmp_path, monkeypatch):
    """All its blocks are one file, as a reader would put them together; files that it shows lie beside it."""
    write_files(CODE[page], tmp_path)
    monkeypatch.chdir(tmp_path)
    code = "\n".join(block.text for block in CODE[page] if block.is_module)
    printed = ""
    with dags_of(f"page_{page.stem.replace('-', '_')}", code, tmp_path / "page.py") as dags:
        assert dags
        for dag in dags:
            run = tested(dag)
            assert set(run.states().values()) == {"success"}, run.log
            printed += run.log

    shown = [line for block in CODE[page] if block.title == OUTPUT for line in block.text.splitlines()]
    assert [line for line in shown if line not in printed] == []


def with_files(pattern):
    return [page for page in PAGES if any(re.search(pattern, block.title) for block in CODE[page])]


@pytest.mark.slow
@pytest.mark.parametrize("page", with_files(r"test_\w+\.py$"), ids=by_page)
def test_the_tests_of_a_page_pass(page, database, tmp_path):
    """As pytest runs them in a project of their own."""
    write_files(CODE[page], tmp_path)
    dags = tmp_path / "dags"
    env = os.environ | {
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__BATCH_PROVIDER__STORAGE_PATH": (tmp_path / "batches").as_uri(),
        "PYTHONPATH": os.pathsep.join(map(str, [dags, tmp_path, ROOT])),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path]
    done = subprocess.run(command, check=False, cwd=tmp_path, env=env, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout
    assert f"{sum(len(re.findall('^def test_', b.text, re.MULTILINE)) for b in CODE[page])} passed" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("page", with_files(r"^airflow/dags/"), ids=by_page)
def test_the_dag_files_of_a_page_succeed_and_print_what_it_shows(page, connected, tested, tmp_path):
    """The tutorial's file, where the tutorial saves it."""
    printed = ""
    for path in write_files(CODE[page], tmp_path):
        with dags_of(path.stem, path.read_text(encoding="utf-8"), path) as dags:
            [dag] = dags
            run = tested(dag)
            assert set(run.states().values()) == {"success"}, run.log
            printed += run.log

    shown = [line for block in CODE[page] if block.title == OUTPUT for line in block.text.splitlines()]
    assert shown
    assert [line for line in shown if line not in printed] == []


def check_command(command):
    """Raise for a command that would not work as it stands; what is in capitals stands for a value."""
    variables, words = [], shlex.split(command)
    while words and re.match(r"\w+=", words[0]):
        variables.append(words.pop(0))
    match words:
        case ["export", *given]:
            variables += given
        case ["airflow", *arguments]:
            parser = batches_parser() if arguments[0] == "batches" else get_parser()
            parser.parse_args(arguments)
        case ["python", "-m", "airflow_batch_provider.emulator", *arguments]:
            if "--help" not in arguments:
                emulator_parser().parse_args(arguments)
        case ["make", target, *_]:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        case ["pip", "install", what]:
            check_installed(what)
        case ["python3", "-m", "venv", _] | ["source", _] | ["mkdir", "-p", _] | ["pytest", *_]:
            pass
        case _:
            raise AssertionError("nothing here knows how to try this command")
    for variable in variables:
        check_variable(*variable.partition("=")[::2])


def check_installed(what):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    name, extras = re.fullmatch(r"([\w-]+)(?:\[([\w,]+)\])?", what).groups()
    assert name == project["name"]
    assert set(filter(None, (extras or "").split(","))) <= set(project["optional-dependencies"])


def check_variable(name, value):
    """A connection has one of our types and leads somewhere; a setting of ours exists."""
    if name.startswith("AIRFLOW_CONN_"):
        assert json.loads(value)["conn_type"] in OWN_TYPES
    if name.startswith("AIRFLOW__BATCH_PROVIDER__"):
        options = get_provider_info()["config"]["batch_provider"]["options"]
        assert name.removeprefix("AIRFLOW__BATCH_PROVIDER__").lower() in options


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=by_page)
def test_a_command_on_a_page_is_one(page, command):
    """With its arguments, as its own parser takes them."""
    try:
        check_command(command)
    except (argparse.ArgumentError, SystemExit) as error:
        pytest.fail(f"{command}: {error}")


def sections_of(block):
    """Section → settings, of a block of airflow.cfg or of the values of a Helm chart."""
    if block.language == "yaml":
        return yaml.safe_load(block.text)["config"]
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(block.text)
    return {name: parser[name] for name in parser.sections()}


def test_every_setting_that_a_page_sets_exists():
    """Our own section, and Airflow's."""
    ours = get_provider_info()["config"]
    for block in [block for blocks in CODE.values() for block in blocks if block.language in ("ini", "yaml")]:
        for section, settings in sections_of(block).items():
            known = ours[section] if section in ours else conf.configuration_description[section]
            assert set(settings) <= set(known["options"]), block.text


@pytest.mark.parametrize("page", PAGES, ids=by_page)
def test_every_block_of_a_page_is_tried(page):
    """A block of another language than these would be shown without being run."""
    assert {block.language for block in CODE[page]} <= {"console", "csv", "ini", "json", "python", "text", "yaml"}
    fences = len(re.findall(r"^```", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert fences == 2 * len(CODE[page])
