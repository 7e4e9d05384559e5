"""Every distribution that the package imports is declared: what Airflow brings today it may drop tomorrow."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "airflow_batch_provider"
# Modules whose distribution has another name.
DISTRIBUTIONS = {
    "airflow": "apache-airflow",
    "backports": "backports-zstd",
    "google": "google-genai",
    "openlineage": "openlineage-python",
    "opentelemetry": "opentelemetry-api",
    "upath": "universal-pathlib",
}
# Imported without being declared, and why that is right.
BROUGHT = {
    "pydantic-core": "pydantic pins it to the patch level",
    "pytest": "the module is a plug-in, which only pytest loads",
    "wtforms": "only Airflow before 3.2 loads the form widgets, and brings it for them",
}

# Declared without a highest version, and why that is right.
UNBOUNDED = {
    "fsspec": "numbered by the calendar, and brought by Airflow",
    "packaging": "numbered by the calendar, and brought by Airflow",
    "rich": "brought by Airflow, which bounds it; only its tables are used",
    "pyarrow": "a major version each quarter, whose formats stay readable",
    "apache-airflow-providers-amazon": "Airflow's constraints choose it; only its filesystem is used",
    "apache-airflow-providers-google": "Airflow's constraints choose it; only its filesystem is used",
    "apache-airflow-providers-microsoft-azure": "Airflow's constraints choose it; only its filesystem is used",
    "apache-airflow-providers-openlineage": "Airflow's constraints choose it; only what its extractors return is used",
}


@cache
def imported():
    """The third parties that any module imports, wherever in it, each with one of these modules."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                names = [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            found |= {name.split(".")[0]: str(path.relative_to(ROOT)) for name in names}
    ours = {*sys.stdlib_module_names, PACKAGE.name, "compression"}  # Python's own since 3.14
    return {_normal(DISTRIBUTIONS.get(name, name)): where for name, where in found.items() if name not in ours}


def declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    return {_normal(re.split(r"[\[<>=!~ ;]", entry)[0]): entry for entries in lists for entry in entries}


def _normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_imported_distribution_is_declared():
    """Or stands above with the reason."""
    missing = {name: where for name, where in imported().items() if name not in {*declared(), *BROUGHT}}

    assert missing == {}


@pytest.mark.parametrize("name", BROUGHT)
def test_every_exception_is_needed(name):
    """One that is declared, or no longer imported, goes."""
    assert name in imported()
    assert name not in declared()


def test_every_declared_distribution_has_a_lowest_version():
    """The one that is known to have what is used."""
    assert [entry for entry in declared().values() if ">=" not in entry] == []


def test_every_declared_distribution_has_a_highest_version():
    """The next major one may break what is used; or it stands above with the reason."""
    unbounded = {name for name, entry in declared().items() if "<" not in entry.split(";")[0]}

    assert unbounded == set(UNBOUNDED)
