"""Accounts and tasks, for a command in a process that reaches Airflow's database."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow.models.connection import Connection
from airflow.utils.session import create_session
from sqlalchemy import select

from airflow_batch_provider.airflow.connections import OWN_TYPES, account
from airflow_batch_provider.airflow.exceptions import AirflowNotFoundException
from airflow_batch_provider.airflow.task_state import ask_database
from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.fleet.deployment import task_of
from airflow_batch_provider.models import ConnectionRef
from airflow_batch_provider.registry import distinct

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow_batch_provider.fleet.deployment import Deployment, TaskState
    from airflow_batch_provider.models import Account
    from airflow_batch_provider.registry import Entry

log = logging.getLogger(__name__)

_USUAL = ("anthropic_default", "openai_default", "gemini_default")


def ask_about(entry: Entry) -> TaskState:
    """Ask for the state of the task that bought a batch; `unknown` for an entry that names no task."""
    try:
        return ask_database(task_of(entry))
    except UsageError:
        return "unknown"


def accounts(conn_ids: Iterable[str] | None, deployment: Deployment) -> list[Account]:
    """Return the accounts of these connections; by default of all that can be found, one for each account.

    Raises:
        UsageError: one that was given does not exist or cannot be used.
    """
    if conn_ids:
        return distinct(account_of(ConnectionRef(conn_id=conn_id)) for conn_id in conn_ids)
    return distinct(_usable(_known(deployment)))


def _known(deployment: Deployment) -> Iterator[ConnectionRef]:
    """Connections of our own types, those with the usual names, and those of open batches."""
    for conn_id in _USUAL:
        yield ConnectionRef(conn_id=conn_id)
    with create_session() as session:
        for conn_id in session.scalars(select(Connection.conn_id).where(Connection.conn_type.in_(OWN_TYPES))):
            yield ConnectionRef(conn_id=conn_id)
    for entry in deployment.registry.entries():
        if entry.connection is not None:
            yield entry.connection


def _usable(connections: Iterable[ConnectionRef]) -> Iterator[Account]:
    for connection in dict.fromkeys(connections):
        try:
            yield account_of(connection)
        except UsageError as error:
            log.debug("Left out: %s", error)


def account_of(ref: ConnectionRef) -> Account:
    """Return the account of one connection.

    Raises:
        UsageError: there is no such connection, or it cannot be used.
    """
    try:
        # The SDK's connections are for tasks, which have no database.
        connection: Any = Connection.get_connection_from_secrets(ref.conn_id)
    except AirflowNotFoundException as error:
        raise UsageError(
            f"There is no Airflow connection {ref.conn_id!r}; `airflow connections list` shows all."
        ) from error
    return account(connection, ref.provider)
