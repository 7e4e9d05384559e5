"""How every command answers: our errors as one line and an exit code, Airflow's logs on standard error."""

from __future__ import annotations

import functools
import logging
import sys
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, NamedTuple

from airflow.utils.cli import action_cli
from airflow.utils.providers_configuration_loader import providers_configuration_loaded

from airflow_batch_provider.airflow import database
from airflow_batch_provider.cli.output import clean
from airflow_batch_provider.exceptions import BatchError, UsageError
from airflow_batch_provider.registry import account_digest

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator

    from airflow_batch_provider.fleet.deployment import Deployment
    from airflow_batch_provider.models import Account
    from airflow_batch_provider.registry import Entry

FINE, DECIDE, USAGE = 0, 1, 2


class Answer(NamedTuple):
    """The result of a command: its exit code and its standard output."""

    code: int
    text: str


def command(function: Callable[[Namespace], Answer]) -> Callable[[Namespace], int]:
    """Airflow's audit log around it; our errors as one line and a code."""

    @functools.wraps(function)
    def carried_out(arguments: Namespace) -> int:
        try:
            with _logs_on_stderr():
                answer = function(arguments)
        except BatchError as error:
            print(f"error: {clean(error)}", file=sys.stderr)
            return USAGE if isinstance(error, UsageError) else DECIDE
        print(answer.text)
        return answer.code

    wrapped: Callable[[Namespace], int] = action_cli(check_db=False)(providers_configuration_loaded(carried_out))
    return wrapped


@contextmanager
def _logs_on_stderr() -> Iterator[None]:
    """Airflow logs to standard output, which here belongs to the answer; Airflow 3.3 does so by itself."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stdout:
            handler.setStream(sys.stderr)
    with redirect_stdout(sys.stderr):
        yield


def account_of(entry: Entry, deployment: Deployment, arguments: Namespace) -> Account:
    """The account that the batch was bought with, or another that a person names."""
    found = [one for one in database.accounts(arguments.conn_id, deployment) if one.provider == entry.provider]
    same = [one for one in found if account_digest(one) == entry.account]
    if same or (arguments.conn_id and len(found) == 1):
        return (same or found)[0]
    raise UsageError(
        f"No connection to {entry.provider} has the key that batch {entry.tag!r} was claimed with. Name the connection whose "
        "account it is: --conn-id CONN_ID."
    )
