"""What a suspended stage leaves for the next process, and what is refused before it is kept."""

from __future__ import annotations

import traceback
from datetime import UTC, datetime

import pytest
from pydantic import BaseModel
from upath import UPath

from airflow_batch_provider.exceptions import Unavailable, UsageError
from airflow_batch_provider.stages.files import StageFiles
from airflow_batch_provider.stages.loading import load_stage
from airflow_batch_provider.stages.shapes import parse, to_json
from airflow_batch_provider.stages.wait import WaitForBatch
from airflow_batch_provider.storage import Directory


class Inner(BaseModel):
    a: int
    b: int


class At(BaseModel):
    time: datetime


class Outer(BaseModel):
    inner: Inner
    many: list[int] = []


@pytest.fixture
def files(tmp_path):
    return StageFiles(Directory(UPath(tmp_path / "task")))


def test_a_value_is_read_in_the_shape_of_its_schema():
    """One that has it already stays as it is, and anything passes where there is none."""
    read = parse(Outer, {"inner": {"a": "1", "b": 2}}, "The config")

    assert read == Outer(inner=Inner(a=1, b=2))
    assert parse(Outer, read, "The config") is read
    assert parse(None, {"any": "thing"}, "The config") == {"any": "thing"}


def test_a_value_that_does_not_fit_is_refused_with_where_and_why():
    """Without the value itself, which may be a prompt; a few faults are enough to go on."""
    with pytest.raises(UsageError) as caught:
        parse(Outer, {"inner": {"b": "secret"}, "many": ["secret"] * 9}, "The config")

    said = str(caught.value)
    assert said.startswith("The config does not fit Outer: inner.a: Field required; inner.b: ")
    assert said.count("; ") == 4
    assert "secret" not in "".join(traceback.format_exception(caught.value)).replace('"secret"', "")  # the call itself


def test_a_value_that_is_not_an_object_at_all_is_refused_too():
    """There is no place to name."""
    with pytest.raises(UsageError, match="The config does not fit Outer: Input should be"):
        parse(Outer, "secret", "The config")


def test_a_model_is_kept_as_json():
    """Its times as text; anything else as it is."""
    assert to_json(At(time=datetime(2026, 11, 23, tzinfo=UTC))) == {"time": "2026-11-23T00:00:00Z"}
    assert to_json([1]) == [1]


def test_an_output_belongs_to_one_wait(files):
    """A later wait of the same task does not take the answer of an earlier one for its own."""
    assert files.output("t") == {}
    files.save_output("t", {"output": 1})

    assert files.output("t") == {"token": "t", "output": 1}
    assert files.output("u") == {}


def test_what_is_not_a_json_is_refused_and_keeps_what_was_there(files):
    """The file is named, and what may be given."""
    files.save_output("t", {"output": 1})

    with pytest.raises(UsageError, match=r"goes into output\.json is not JSON: .*Give dicts, lists or pydantic models"):
        files.save_output("u", {"output": object()})
    assert files.output("t")["output"] == 1


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("no_such_module.Stage", r"cannot be imported here: No module named .*PYTHONPATH or Airflow's plugins folder"),
        ("json.NoSuchStage", "cannot be imported here: .*NoSuchStage"),
        ("Stage", "cannot be imported here"),
        ("json.dumps", "is not a subclass of AsyncBatchStage"),
        ("json.JSONDecoder", "is not a subclass of AsyncBatchStage"),
    ],
)
def test_a_stage_that_is_none_is_refused(path, said):
    """With where its class has to lie."""
    with pytest.raises(UsageError, match=said):
        load_stage(path)


def test_a_module_that_breaks_on_import_is_told_like_one_that_is_not_there(tmp_path, monkeypatch):
    """It may raise anything, and a trigger that raised would be lost."""
    (tmp_path / "breaks_on_import.py").write_text("raise RuntimeError('no licence')")
    monkeypatch.syspath_prepend(str(tmp_path))

    with pytest.raises(UsageError, match="cannot be imported here: no licence"):
        load_stage("breaks_on_import.Stage")


def test_a_stage_is_found_in_any_module():
    """By its whole path."""
    assert isinstance(load_stage("airflow_batch_provider.stages.wait.WaitForBatch"), WaitForBatch)


@pytest.mark.parametrize(
    ("fault", "error", "said"),
    [
        (PermissionError("no"), UsageError, r"cannot be written: no\. Change storage_path\."),
        (NotADirectoryError("no"), UsageError, "cannot be written"),
        (OSError(28, "No space left"), Unavailable, "cannot be written now"),
        (TimeoutError(), Unavailable, "cannot be written now"),
    ],
)
def test_a_storage_that_takes_no_configuration_is_told_before_anything_is_paid(files, monkeypatch, fault, error, said):
    """It is the first file of a stage: a wrong place is the DAG's fault, a full disk may pass."""

    def write(_self, _name, _data):
        raise fault

    monkeypatch.setattr(Directory, "write", write)

    with pytest.raises(error, match=said):
        files.save_config({"a": 1})
