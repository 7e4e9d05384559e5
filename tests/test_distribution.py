"""What is released: wheel and sdist are the same bytes each time, hold what they should, and the wheel works alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from airflow_batch_provider import __version__

ROOT = Path(__file__).parents[1]
PACKAGE = "airflow_batch_provider"
INFO = f"{PACKAGE}-{__version__}.dist-info"
# The files that a build reads; the tests and pages only go along.
SOURCES = ("pyproject.toml", "README.md", "LICENSE", ".gitignore", PACKAGE)
# Left behind by those who run the code.
LITTER = shutil.ignore_patterns("__pycache__", "*.pyc")


def build(folder, *, umask=0o022, epoch="1764230400", seed="0"):
    """Wheel and sdist of a copy of the sources, made under that umask."""
    source = folder / "source"
    source.mkdir(parents=True)
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=LITTER, copy_function=shutil.copyfile)
        else:
            shutil.copyfile(ROOT / name, source / name)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", source]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": epoch, "PYTHONHASHSEED": seed}
    subprocess.run(command, check=True, capture_output=True, umask=umask, env=environment)
    return sorted((folder / "dist").iterdir())


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel and the sdist."""
    wheel, sdist = build(tmp_path_factory.mktemp("built"))
    assert (wheel.suffix, sdist.suffix) == (".whl", ".gz")
    return wheel, sdist


@pytest.mark.slow
def test_two_builds_are_the_same_bytes(built, tmp_path):
    """In another folder, later, under another umask and another order of hashes."""
    again = build(tmp_path, umask=0o077, seed="1")

    assert [path.name for path in again] == [path.name for path in built]
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in built]


def test_the_wheel_holds_the_package_and_nothing_else(built):
    """Every file of the package: the page's scripts and `py.typed` too; no test, no page, no cache."""
    files = {path.relative_to(ROOT) for path in (ROOT / PACKAGE).rglob("*") if path.is_file()}
    ours = {str(path) for path in files if "__pycache__" not in path.parts}
    told = {f"{INFO}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")}

    held = set(zipfile.ZipFile(built[0]).namelist())

    assert held == ours | told
    assert {f"{PACKAGE}/py.typed", f"{PACKAGE}/plugins/www/main.js", f"{PACKAGE}/get_provider_info.py"} <= held
    assert {Path(name).suffix for name in ours} == {".py", ".js", ".svg", ".typed"}


def test_the_wheel_tells_airflow_and_pytest_what_it_brings(built):
    """The provider, the plugin of the page, and the fixture."""
    points = zipfile.ZipFile(built[0]).read(f"{INFO}/entry_points.txt").decode()

    assert f"{PACKAGE}.get_provider_info:get_provider_info" in points
    assert {"[apache_airflow_provider]", "[airflow.plugins]", "[pytest11]"} <= set(points.splitlines())


def test_the_sdist_holds_the_sources_and_nothing_that_lies_about(built):
    """A file beside the sources that nobody named stays at home."""
    _, sdist = built
    with tarfile.open(sdist) as archive:
        tops = {Path(name).parts[1] for name in archive.getnames()}

    assert tops == {*SOURCES, "PKG-INFO"}


def metadata(wheel):
    return Parser().parsestr(zipfile.ZipFile(wheel).read(f"{INFO}/METADATA").decode())


def test_the_metadata_invents_nothing(built):
    """The page of the package index is the first page; a URL stands there once there is one."""
    told = metadata(built[0])

    assert told["Version"] == __version__
    assert told.get_payload().strip() == (ROOT / "README.md").read_text(encoding="utf-8").strip()
    assert [url for url in told.get_all("Project-URL", []) if "example" in url or "TODO" in url] == []


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """The Python of a new virtual environment that has the wheel, what it brings, and nothing else of ours."""
    folder = tmp_path_factory.mktemp("installed")
    python = folder / "venv/bin/python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-c", ROOT / "constraints.txt", built[0]], check=True)
    return python


def outside(python, folder, *arguments, **environment):
    """Run that Python far from the sources, with a home of its own; returns what it prints."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHON", "COV"))}
    return subprocess.run(
        [python, *arguments],
        cwd=folder,
        env={**kept, "AIRFLOW_HOME": str(folder / "home"), **environment},
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_wheel_alone_runs_the_quickstart(installed, tmp_path):
    """From an empty environment: `dag.test()` as a user runs it, against the emulator that the wheel brings."""
    dags = tmp_path / "dags"
    dags.mkdir()
    shutil.copy(ROOT / "example_dags/quickstart.py", dags)
    shutil.copy(ROOT / "tests/support/quickstart_alone.py", tmp_path)

    run = outside(installed, tmp_path, tmp_path / "quickstart_alone.py", str(dags))

    assert run.returncode == 0, run.stdout[-6000:]
    assert f"{PACKAGE} of the environment" in run.stdout
    for provider in ("anthropic", "openai", "google"):
        assert f"{provider} sold 3 rows, none twice" in run.stdout
    assert run.stdout.count("request-2: echo: Why do cats purr?") == 3
