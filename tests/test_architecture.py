"""The walls of the house: who may import whom, who may name an SDK, who may read a clock. Not timed."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import airflow_batch_provider

PACKAGE = Path(airflow_batch_provider.__file__).parent
OURS = PACKAGE.name
SDKS = {"anthropic": "anthropic", "openai": "openai", "google.genai": "google"}
HEAVY = [*SDKS, "genai_prices", "pyarrow", "pandas", "jsonschema_rs", "s3fs", "httpx2", f"{OURS}.emulator"]

# What a DAG file, the dag-processor and the triggerer import.
EDGE = ["operators", "decorators.batch", "triggers", "sensors"]
CORE = [
    "models", "exceptions", "clock", "storage", "schemas", "pricing", "sources", "results", "hub", "client", "ledger",
    "stages", "stages.generate", "stages.embed", "stages.runner", "testing", "loop", "providers", "providers.base",
    "providers.codec",
]  # fmt: skip

# Where a module may read a clock or sleep by itself, and why.
MAY_TELL_TIME = {
    "clock.py": "the one source of both",
    "demo": "a program at a terminal, which waits for real processes",
    "emulator/endpoint.py": "a fault that holds a reply back does so in the caller's time",
}
CLOCKS = {
    "datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.time", "time.time_ns", "time.monotonic",
    "time.perf_counter", "time.sleep", "asyncio.sleep", "utc_now",
}  # fmt: skip


def sources() -> dict[str, ast.Module]:
    """Every module of the package, parsed, by its path below the package."""
    files = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
    return {name: ast.parse(path.read_text()) for name, path in files.items()}


SOURCES = sources()


def imports(tree: ast.Module) -> set[str]:
    """Dotted names of everything that a module imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def below(name: str, roots) -> set[str]:
    """Those roots which this is or lies below."""
    return {root for root in roots if name == root or name.startswith(f"{root}.")}


def fresh(code: str) -> list[str]:
    """What the code, run in a new interpreter, leaves in `told`."""
    program = f"import sys, importlib, json\n{code}\nprint(json.dumps(sorted(told)))"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=PACKAGE.parent
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def importing(names, before: str = "") -> list[str]:
    """The modules that these of ours bring in, beyond what was there before."""
    return fresh(f"""
{before}
there = set(sys.modules)
for name in {[f"{OURS}.{name}" for name in names]!r}:
    importlib.import_module(name)
told = set(sys.modules) - there
""")


NO_AIRFLOW = """
class NoAirflow:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "airflow":
            raise ImportError(f"{name} is not installed here")
sys.meta_path.insert(0, NoAirflow())
"""


def test_only_one_place_makes_temporary_files():
    """Whoever makes them elsewhere does not tell a full disk from another fault."""
    apart = {"demo", "emulator", "testing"}
    files = [
        path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if "tempfile" in path.read_text(encoding="utf-8")
    ]

    assert [str(path) for path in files if path.parts[0] not in apart] == ["scratch.py"]


def test_imports_go_one_way():
    """Airflow edge → stages → ledger → providers, storage, pricing → values, as pyproject.toml draws it."""
    lint = Path(sys.executable).with_name("lint-imports")
    run = subprocess.run([lint, "--no-cache"], capture_output=True, text=True, check=False, cwd=PACKAGE.parent)

    assert run.returncode == 0, run.stdout + run.stderr


def test_a_dag_file_imports_no_sdk():
    """A dag-processor imports the operators for every DAG file; SDKs, Arrow and schemas are for the worker."""
    brought = importing(EDGE, before="from airflow.sdk import dag, task")

    assert f"{OURS}.operators.generate" in brought
    assert [name for name in brought if below(name, HEAVY)] == []


def test_provider_info_imports_neither_airflow_nor_an_sdk():
    """Airflow's providers manager reads it in every process."""
    brought = importing(["get_provider_info"])

    assert [name for name in brought if below(name, [*HEAVY, "airflow", "pydantic", f"{OURS}.hooks"])] == []


def test_the_core_is_imported_where_there_is_no_airflow():
    """And without what only some of its work needs."""
    brought = importing(CORE, before=NO_AIRFLOW)

    assert {f"{OURS}.{name}" for name in CORE} <= set(brought)
    assert [name for name in brought if below(name, [*HEAVY, "airflow"])] == []


@pytest.mark.parametrize("provider", SDKS.values())
def test_a_provider_is_imported_where_there_is_no_airflow_and_brings_only_its_own_sdk(provider):
    """Two others would cost seconds and 100 MB in each triggerer."""
    brought = importing([f"providers.{provider}.provider"], before=NO_AIRFLOW)

    own = {sdk for sdk, name in SDKS.items() if name == provider}
    assert {sdk for name in brought for sdk in below(name, SDKS)} == own


def test_only_its_provider_file_names_an_sdk():
    """`providers/openai/` for openai, and so on; an SDK's shapes stop at that edge."""
    named = {(name, sdk) for name, tree in SOURCES.items() for one in imports(tree) for sdk in below(one, SDKS)}

    assert {sdk for _, sdk in named} == set(SDKS)
    assert [(name, sdk) for name, sdk in named if not name.startswith(f"providers/{SDKS[sdk]}/")] == []


def test_the_emulator_imports_nothing_of_ours():
    """It meets the package on the wire, so that one wrong idea cannot be in both."""
    known = {(name, one) for name, tree in SOURCES.items() if name.startswith("emulator/") for one in imports(tree)}
    foreign = {(name, one) for name, one in known if below(one, [OURS, "airflow"]) and one != OURS}

    assert foreign
    assert [(name, one) for name, one in foreign if not below(one, [f"{OURS}.emulator"])] == []


def test_nothing_of_ours_imports_the_emulator():
    """Nobody who pays can reach it by accident; only the demo starts it, which is not part of a deployment."""
    others = {name: imports(tree) for name, tree in SOURCES.items() if not name.startswith(("emulator/", "demo/"))}

    assert [name for name, known in others.items() if any(below(one, [f"{OURS}.emulator"]) for one in known)] == []


def told_time(tree: ast.Module) -> list[str]:
    """The calls of a module that read a clock or sleep, and imports that would hide such a call."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    called = [".".join(ast.unparse(call.func).split(".")[-2:]) for call in calls]
    return [name for name in [*called, *imports(tree)] if name in CLOCKS]


def test_no_module_reads_a_clock_or_sleeps():
    """`now` and `sleep` come in as arguments, whose defaults are named and never called."""
    tell = {name: told for name, tree in SOURCES.items() if (told := told_time(tree))}

    assert {name: told for name, told in tell.items() if not excused(name)} == {}
    assert {place for place in MAY_TELL_TIME if not any(excused(name) == place for name in tell)} == set()


def excused(name: str) -> str | None:
    """The entry of the list that lets this module tell the time."""
    return next((place for place in MAY_TELL_TIME if name == place or name.startswith(f"{place}/")), None)


@pytest.mark.parametrize(
    "code",
    [
        "import time\ntime.sleep(1)",
        "from time import sleep\nsleep(1)",
        "import asyncio\nasync def wait(): await asyncio.sleep(1)",
        "import datetime\ndatetime.datetime.now()",
        "from datetime import UTC, datetime\nwhen = datetime.now(UTC)",
        "from airflow_batch_provider.clock import utc_now\nwhen = utc_now()",
    ],
)
def test_every_way_to_tell_the_time_is_seen(code):
    """The check above is only worth what it sees."""
    assert told_time(ast.parse(code))
    assert not told_time(ast.parse("import asyncio\nasync def wait(sleep=asyncio.sleep): await sleep(1)"))
