"""What a suspended stage leaves for the next process: in the trigger's arguments, and as files in stage storage."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pydantic import AwareDatetime, BaseModel, ValidationError

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.fleet.deployment import REGISTRY
from airflow_batch_provider.folders import task_folders
from airflow_batch_provider.ledger import Registry
from airflow_batch_provider.models import FrozenModel
from airflow_batch_provider.paths import open_path
from airflow_batch_provider.stages import AsyncBatchStage, PollConfig, SuspendedState, TaskKey
from airflow_batch_provider.storage import Directory

if TYPE_CHECKING:
    from airflow_batch_provider.stages import Suspended

# Trigger arguments lie in Airflow's database in plain text, and are read by every component.
LARGEST = 8 * 1024

_CONFIG, _SUSPENDED, _OUTPUT = "config.json", "suspended.json", "output.json"


class Suspension(FrozenModel):
    """One wait of one stage: all that a trigger is given, plain JSON without prompts, keys or configuration.

    Attributes:
        stage: `module.Class`.
        storage: root of all stage storage, a URI.
        conn_id: the connection that `ctx.batch` uses when none is named.
        suspended_at: the first look counts from here, the deadline from `state.submitted_at`.
        token: tells this wait from earlier ones of the same task.
        lost: how often its trigger was lost.
    """

    stage: str
    task: TaskKey
    storage: str
    conn_id: str | None
    state: SuspendedState
    poll: PollConfig
    suspended_at: AwareDatetime
    token: str
    lost: int = 0

    @property
    def deadline(self) -> datetime:
        """When waiting ends, whatever was restarted meanwhile."""
        return self.state.submitted_at + self.poll.max_wait

    @property
    def first_look(self) -> datetime:
        """When the batch is looked at first."""
        wait = self.poll.interval if self.poll.first_poll is None else self.poll.first_poll
        return min(self.suspended_at + wait, self.deadline)

    def kwargs(self) -> dict[str, Any]:
        """The trigger's arguments.

        Raises:
            UsageError: they are too large.
        """
        kwargs = self.model_dump(mode="json")
        size = len(json.dumps(kwargs))
        if size > LARGEST:
            raise UsageError(
                f"The suspended state of {str(self.task)!r} makes {size} bytes of trigger arguments, above {LARGEST}. "
                "Keep only ids in Suspended.state.metadata and save the rest with ctx.storage.save."
            )
        return kwargs


@dataclass(frozen=True)
class Place:
    """Whose stage storage: which stage, which task instance, below which root."""

    stage: str
    task: TaskKey
    storage: str
    conn_id: str | None

    def suspension(self, suspended: Suspended, poll: PollConfig | None, now: datetime) -> Suspension:
        """A new wait; `poll` of the operator wins over the stage's own."""
        return Suspension(
            **asdict(self),
            state=suspended.state,
            poll=poll or suspended.poll,
            suspended_at=now,
            token=uuid4().hex,
        )

    def directory(self) -> Directory:
        """Stage storage of the task instance; blocking, and may ask Airflow for the storage's connection."""
        return Directory(open_path(self.storage)).sub("/".join(task_folders(self.task)))

    def registry(self) -> Registry:
        """What all tasks with this root have at the providers; blocking, as `directory`."""
        return Registry(Directory(open_path(self.storage)).sub(REGISTRY))


def place_of(suspension: Suspension) -> Place:
    """Where a wait keeps its files."""
    return Place(suspension.stage, suspension.task, suspension.storage, suspension.conn_id)


def load_stage(path: str) -> AsyncBatchStage[Any, Any]:
    """An instance of the stage class `module.Class`; imports its module.

    Raises:
        UsageError: there is no such stage.
    """
    module, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"Stage {path!r} cannot be imported here: {error}. {IMPORTABLE}") from error
    if not (isinstance(found, type) and issubclass(found, AsyncBatchStage)):
        raise UsageError(f"{path!r} is no subclass of AsyncBatchStage.")
    return found()


IMPORTABLE = (
    "Put the class into an installed package, a folder on PYTHONPATH or Airflow's plugins folder: workers and triggerers "
    "import it, and a triggerer does not see the DAGs folder."
)


def parse(schema: type[BaseModel] | None, value: Any, what: str) -> Any:
    """A value in the shape of its schema; anything passes where there is none.

    Raises:
        UsageError: it does not fit; says where.
    """
    if schema is None or isinstance(value, schema):
        return value
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        raise UsageError(f"{what} does not fit {schema.__name__}: {describe(error)}.") from error


def describe(error: ValidationError) -> str:
    """Where and why, without the input itself, which may be a prompt."""
    found = [f"{'.'.join(map(str, one['loc'])) or 'it'}: {one['msg']}" for one in error.errors()[:5]]
    return "; ".join(found)


def to_json(value: Any) -> Any:
    """A pydantic model as JSON values; anything else as it is."""
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


class StageFiles:
    """The files that the Airflow edge keeps in stage storage; every method blocks.

    `config.json` is what the stage was told when it started, `suspended.json` the wait it is in, `output.json` what a
    check in the triggerer gave as output.
    """

    def __init__(self, directory: Directory) -> None:
        self.directory = directory

    def save_config(self, config: Any) -> None:
        """Keep the configuration for all later processes: templates would be rendered anew there."""
        self._write(_CONFIG, to_json(config))

    def config(self, stage: AsyncBatchStage[Any, Any]) -> Any:
        """What the stage was told, in its own schema."""
        return parse(stage.config_schema, self._read(_CONFIG), f"The saved config of stage {stage.id!r}")

    def save_suspension(self, suspension: Suspension) -> None:
        """Keep the wait for the process that resumes it; Airflow's `dag.test` hands over nothing else."""
        self._write(_SUSPENDED, suspension.model_dump(mode="json"))

    def suspension(self) -> Suspension:
        """The wait that the task is in.

        Raises:
            UsageError: there is none; stage storage was removed meanwhile.
        """
        found = self._read(_SUSPENDED)
        if found is None:
            raise UsageError(
                f"{self.directory} holds no {_SUSPENDED}: stage storage is gone. Clear the task to start over."
            )
        return Suspension.model_validate(found)

    def save_output(self, token: str, output: dict[str, Any]) -> None:
        """Keep what a completion check returned."""
        self._write(_OUTPUT, {"token": token, **output})

    def output(self, token: str) -> dict[str, Any]:
        """What the completion check of this wait returned; empty when it returned nothing."""
        found = self._read(_OUTPUT)
        return found if isinstance(found, dict) and found.get("token") == token else {}

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


def seconds_until(moment: datetime, now: datetime) -> float:
    """Seconds, not below zero."""
    return max((moment - now) / timedelta(seconds=1), 0.0)
