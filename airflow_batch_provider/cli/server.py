"""What a command asks of Airflow, in a process that reaches Airflow's database: tasks, connections, configuration."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from airflow.models.connection import Connection
from airflow.models.dag import DagModel
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import select

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.fleet.deployment import Deployment, task_of
from airflow_batch_provider.hooks.accounts import OWN_TYPES, account
from airflow_batch_provider.hooks.airflow_errors import AirflowNotFoundException
from airflow_batch_provider.operators import settings
from airflow_batch_provider.paths import open_path
from airflow_batch_provider.providers import split_account_ref
from airflow_batch_provider.registry import distinct
from airflow_batch_provider.storage import Directory
from airflow_batch_provider.triggers.supervisor import TERMINAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow_batch_provider.fleet.deployment import TaskState
    from airflow_batch_provider.models import Account, TaskKey
    from airflow_batch_provider.registry import Entry

log = logging.getLogger(__name__)

_USUAL = ("anthropic_default", "openai_default", "gemini_default")


def open_deployment(storage_path: str | None) -> Deployment:
    """The deployment below a storage root, the configured one by default."""
    return Deployment(Directory(open_path(storage_path or settings.storage_path())))


def ask_database(task: TaskKey) -> TaskState:
    """What Airflow's database says of a task instance; `unknown` where it has no such DAG at all."""
    with create_session() as session:
        query = select(TaskInstance.state).where(
            TaskInstance.dag_id == task.dag_id,
            TaskInstance.run_id == task.run_id,
            TaskInstance.task_id == task.task_id,
            TaskInstance.map_index == task.map_index,
        )
        for (state,) in session.execute(query):
            return "over" if state is not None and str(getattr(state, "value", state)) in TERMINAL else "waiting"
        known = session.scalar(select(DagModel.dag_id).where(DagModel.dag_id == task.dag_id))
    return "unknown" if known is None else "gone"


def ask_about(entry: Entry) -> TaskState:
    """As `ask_database`; `unknown` for an entry that names no task."""
    try:
        return ask_database(task_of(entry))
    except UsageError:
        return "unknown"


def accounts(given: Iterable[str] | None, deployment: Deployment) -> list[Account]:
    """The accounts of these connections; by default of all that can be found, one for each account.

    Raises:
        UsageError: one that was given does not exist or cannot be used.
    """
    if given:
        return distinct(_account(ref) for ref in given)
    return distinct(_usable(_known(deployment)))


def _known(deployment: Deployment) -> Iterator[str]:
    """Connections of our own types, those with the usual names, and those that tasks with open batches were told."""
    yield from _USUAL
    with create_session() as session:
        yield from session.scalars(select(Connection.conn_id).where(Connection.conn_type.in_(OWN_TYPES)))
    for entry in deployment.registry.entries():
        try:
            config = deployment.slot(entry).root.read("config.json")
        except UsageError:
            continue  # the reconciler reports it
        told: Any = json.loads(config) if config else None
        if isinstance(told, dict) and isinstance(told.get("conn_id"), str):
            yield told["conn_id"]


def _usable(refs: Iterable[str]) -> Iterator[Account]:
    for ref in dict.fromkeys(refs):
        try:
            yield _account(ref)
        except UsageError as error:
            log.debug("Not looked through: %s", error)


def _account(ref: str) -> Account:
    provider, conn_id = split_account_ref(ref)
    try:
        # The SDK's connections are for tasks, which have no database.
        connection: Any = Connection.get_connection_from_secrets(conn_id)
    except AirflowNotFoundException as error:
        raise UsageError(
            f"There is no Airflow connection {conn_id!r}; `airflow connections list` shows all."
        ) from error
    return account(connection, provider)
