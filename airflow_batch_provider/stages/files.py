"""The files that a stage's runner keeps in stage storage, for the next process."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from pydantic import ValidationError

from airflow_batch_provider.exceptions import DiskFull, Unavailable, UsageError
from airflow_batch_provider.frozen import FrozenModel
from airflow_batch_provider.layout import CONFIG, OUTPUT, RECORD, SUSPENDED
from airflow_batch_provider.stages.faults import is_passing
from airflow_batch_provider.stages.shapes import parse, to_json
from airflow_batch_provider.stages.suspension import Suspension

if TYPE_CHECKING:
    from airflow_batch_provider.stages.base import AsyncBatchStage
    from airflow_batch_provider.stages.host import Record
    from airflow_batch_provider.storage import Directory

# A storage answers so that takes no file at this place, whenever it is asked; other faults may pass.
_PERMANENT = (PermissionError, FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, ValueError)


# Mapped tasks, and runs of one DAG, wait by the hundred with one and the same configuration.
_CONFIGS: WeakValueDictionary[tuple[type[FrozenModel], bytes], FrozenModel] = WeakValueDictionary()


def _shared_config(stage: AsyncBatchStage[Any, Any], data: bytes) -> Any:
    """Parse a saved configuration, one object for all that are equal where nobody can change it."""
    schema = stage.config_schema
    what = f"The saved config of stage {stage.id!r}"
    if schema is None or not issubclass(schema, FrozenModel):
        return parse(schema, json.loads(data), what)
    found = _CONFIGS.get((schema, data))
    if found is None:
        found = _CONFIGS[schema, data] = parse(schema, json.loads(data), what)
    return found


class StageFiles:
    """`config.json`, `suspended.json`, `output.json` and `progress.json` of one stage; every method blocks.

    They hold the configuration that the stage started with, the wait it is in, the output that a completion check
    returned in the triggerer, and the last record of a wait that the triggerer has not shown.
    """

    def __init__(self, directory: Directory) -> None:
        self.directory = directory

    def save_config(self, config: Any) -> None:
        """Keep the configuration for all later processes: templates would be rendered again there.

        Raises:
            UsageError: it is not JSON, or stage storage can never be written; nothing was paid yet.
            DiskFull: stage storage has no room.
            Unavailable: it cannot be written now.
        """
        try:
            self._write(CONFIG, to_json(config))
        except _PERMANENT as error:
            raise UsageError(f"{self.directory} cannot be written: {error}. Change storage_path.") from error
        except DiskFull:
            raise
        except Exception as error:
            if not is_passing(error):
                raise
            raise Unavailable(f"{self.directory} cannot be written now: {error}", ambiguous=False) from error

    def config(self, stage: AsyncBatchStage[Any, Any]) -> Any:
        """Return the configuration in the stage's own schema.

        Raises:
            Unavailable: it is not there, as on a machine whose shared disk is not mounted yet.
            UsageError: it does not fit the schema.
        """
        data = self.directory.read(CONFIG)
        if data is None:
            raise Unavailable(f"{self.directory} holds no {CONFIG}: is stage storage mounted here?", ambiguous=False)
        return _shared_config(stage, data)

    def save_suspension(self, suspension: Suspension) -> None:
        """Keep the wait for the process that resumes it; Airflow's `dag.test` hands over nothing else."""
        self._write(SUSPENDED, suspension.model_dump(mode="json"))

    def suspension(self) -> Suspension:
        """Return the wait that the task is in.

        Raises:
            UsageError: there is none; stage storage was removed meanwhile.
        """
        found = self._read(SUSPENDED)
        if found is None:
            raise UsageError(
                f"{self.directory} holds no {SUSPENDED}: stage storage is gone. Clear the task to start over."
            )
        return Suspension.model_validate(found)

    def last_suspension(self) -> Suspension | None:
        """Return the wait that the task was in last, None where it has not waited or that cannot be read any more."""
        found = self._read(SUSPENDED)
        try:
            return None if found is None else Suspension.model_validate(found)
        except (ValidationError, UsageError):
            return None

    def whole(self, suspension: Suspension) -> Suspension:
        """Return a wait with its state, which a trigger may not have been given.

        Raises:
            UsageError: stage storage holds another wait.
        """
        if not suspension.is_bare:
            return suspension
        found = self.suspension()
        if found.token != suspension.token:
            raise UsageError(f"{self.directory} holds a later wait of {suspension.task}, which another trigger polls.")
        return found.model_copy(update={"lost": suspension.lost, "suspended_at": suspension.suspended_at})

    def save_output(self, token: str, output: dict[str, Any]) -> None:
        """Keep what a completion check returned."""
        self._write(OUTPUT, {"token": token, **output})

    def output(self, token: str) -> dict[str, Any]:
        """Return what the completion check of this wait returned; empty when it returned nothing."""
        found = self._read(OUTPUT)
        return found if isinstance(found, dict) and found.get("token") == token else {}

    def save_record(self, token: str, record: Record) -> None:
        """Keep what people have not seen yet of this wait."""
        key, value = record
        self._write(RECORD, {"token": token, "key": key, "value": value})

    def record(self, token: str) -> Record | None:
        """Return what people have not seen yet of this wait."""
        found = self._read(RECORD)
        return (found["key"], found["value"]) if isinstance(found, dict) and found.get("token") == token else None

    def _read(self, name: str) -> Any:
        data = self.directory.read(name)
        return None if data is None else json.loads(data)

    def _write(self, name: str, value: Any) -> None:
        try:
            data = json.dumps(value).encode()
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"What goes into {name} is not JSON: {error}. Give dicts, lists or pydantic models."
            ) from error
        self.directory.write(name, data)
