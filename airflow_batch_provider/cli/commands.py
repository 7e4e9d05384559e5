"""What `airflow batches …` does; each function returns the exit code."""

from __future__ import annotations

import functools
import json
import logging
import sys
from contextlib import contextmanager, redirect_stdout
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.utils.cli import action_cli
from airflow.utils.providers_configuration_loader import providers_configuration_loaded

from airflow_batch_provider import loop
from airflow_batch_provider.airflow import database
from airflow_batch_provider.airflow.deployment import open_deployment
from airflow_batch_provider.airflow.task_state import ask_database
from airflow_batch_provider.clock import Clock
from airflow_batch_provider.exceptions import BatchError, UsageError
from airflow_batch_provider.fleet.prune import Pruner
from airflow_batch_provider.fleet.reconcile import Reconciler, Rules
from airflow_batch_provider.fleet.resolve import Resolver
from airflow_batch_provider.providers import connected
from airflow_batch_provider.registry import account_digest

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator, Sequence

    from airflow_batch_provider.fleet.deployment import Deployment
    from airflow_batch_provider.fleet.findings import Finding
    from airflow_batch_provider.models import Account
    from airflow_batch_provider.registry import Entry

FINE, DECIDE, USAGE = 0, 1, 2

_DONE = {"cancel": "cancelled", "adopt": "adopted", "forget": "forgotten"}


class Answer(NamedTuple):
    """What a command leaves: its exit code and what it says on standard output."""

    code: int
    text: str


def _command(function: Callable[[Namespace], Answer]) -> Callable[[Namespace], int]:
    """Airflow's audit log around it; our errors as one line and a code."""

    @functools.wraps(function)
    def carried_out(arguments: Namespace) -> int:
        try:
            with _logs_on_stderr():
                answer = function(arguments)
        except BatchError as error:
            print(f"error: {_clean(error)}", file=sys.stderr)
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


@_command
def list_batches(arguments: Namespace) -> Answer:
    """Show the registry."""
    deployment = open_deployment(arguments.storage_path)
    rows = [_entry_row(entry) for entry in deployment.registry.entries()]
    return Answer(FINE, _table(rows, arguments.output, "No batch is open."))


def _entry_row(entry: Entry) -> dict[str, Any]:
    return {
        "tag": entry.tag,
        "provider": entry.provider,
        "batch_id": entry.batch_id,
        "requests": entry.requests,
        "claimed_at": f"{entry.claimed_at:%Y-%m-%d %H:%M}",
        "task": entry.label,
        "task_is": database.ask_about(entry),
    }


@_command
def reconcile_batches(arguments: Namespace) -> Answer:
    """Show what to do about each batch, and do it with `--apply`."""
    deployment = open_deployment(arguments.storage_path)
    accounts = database.accounts(arguments.conn_id, deployment)
    rules = Rules(timedelta(minutes=arguments.grace), arguments.cancel_orphans)
    reconciler = Reconciler(deployment, ask_database, Clock(), rules)
    findings = loop.run(reconciler.run(accounts, act=arguments.apply))
    waiting = [finding for finding in findings if finding.action in _DONE and not finding.done]
    asks = any(finding.action == "report" for finding in findings)
    code = DECIDE if asks or any(finding.action != "forget" for finding in waiting) else FINE
    text = _table([_finding_row(finding) for finding in findings], arguments.output, "No batch is open.")
    return Answer(code, text + _to_do(len(waiting), arguments, "act"))


def _finding_row(finding: Finding) -> dict[str, Any]:
    return {
        "action": _DONE[finding.action] if finding.done else finding.action,
        "tag": finding.tag,
        "provider": finding.provider,
        "batch_id": finding.batch_id,
        "status": finding.status,
        "task": finding.label,
        "task_is": finding.task,
        "why": finding.why,
    }


@_command
def adopt_batches(arguments: Namespace) -> Answer:
    """Write a receipt by hand."""
    deployment = open_deployment(arguments.storage_path)
    resolver = Resolver(deployment, ask_database, Clock())
    entry = resolver.entry(arguments.tag)
    receipt = loop.run(_adopt(resolver, entry, arguments.batch_id, _account(entry, deployment, arguments)))
    text = f"Batch {receipt.batch_id} is {entry.tag} of {entry.label} from now on. Clear the task: it goes on with it."
    return Answer(FINE, text)


async def _adopt(resolver: Resolver, entry: Entry, batch_id: str, account: Account) -> Any:
    async with connected([account]) as (provider,):
        return await resolver.adopt(entry.tag, batch_id, provider)


@_command
def absent_batches(arguments: Namespace) -> Answer:
    """Withdraw a claim by hand."""
    deployment = open_deployment(arguments.storage_path)
    resolver = Resolver(deployment, ask_database, Clock())
    entry = resolver.entry(arguments.tag)
    loop.run(_absent(resolver, entry, _account(entry, deployment, arguments)))
    text = (
        f"The claim {entry.tag} of {entry.label} is withdrawn. Clear the task: it buys these {entry.requests} requests."
    )
    return Answer(FINE, text)


async def _absent(resolver: Resolver, entry: Entry, account: Account) -> None:
    async with connected([account]) as (provider,):
        await resolver.absent(entry.tag, provider)


def _account(entry: Entry, deployment: Deployment, arguments: Namespace) -> Account:
    """The account that the batch was bought with, or another that a person names."""
    found = [one for one in database.accounts(arguments.conn_id, deployment) if one.provider == entry.provider]
    same = [one for one in found if account_digest(one) == entry.account]
    if same or (arguments.conn_id and len(found) == 1):
        return (same or found)[0]
    raise UsageError(
        f"No connection to {entry.provider} has the key that batch {entry.tag!r} was claimed with. Name the connection whose "
        "account it is: --conn-id CONN_ID."
    )


@_command
def prune_batches(arguments: Namespace) -> Answer:
    """List old stage storage, and delete it with `--apply`."""
    deployment = open_deployment(arguments.storage_path)
    pruner = Pruner(deployment, ask_database)
    before = Clock().now() - timedelta(days=arguments.older_than)
    rows = []
    for old in pruner.stale(before, unfinished=arguments.unfinished):
        deleted = arguments.apply and pruner.delete(old)
        rows.append(
            {
                "action": "deleted" if deleted else "delete",
                "state": old.state,
                "touched_at": f"{old.touched_at:%Y-%m-%d %H:%M}",
                "storage": old.uri,
            }
        )
    left = sum(row["action"] == "delete" for row in rows)
    text = _table(rows, arguments.output, "No stage storage is that old.")
    return Answer(FINE, text + _to_do(left, arguments, "delete"))


def _to_do(number: int, arguments: Namespace, verb: str) -> str:
    """A last line for people that says how to go on."""
    if not number or arguments.apply or arguments.output == "json":
        return ""
    return f"\n\n{number} to do. Nothing was changed: add --apply to {verb}."


def _table(rows: Sequence[dict[str, Any]], output: str, nothing: str) -> str:
    """Rows as JSON for programs, or as columns for people."""
    if output == "json":
        return json.dumps(rows, indent=2)
    if not rows:
        return nothing
    cells = [[name.upper() for name in rows[0]]]
    cells += [["-" if value is None else _clean(value) for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]
    return "\n".join(map(str.rstrip, lines))


def _clean(value: object) -> str:
    """Text that comes from a provider or from files may not steer the terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in str(value))
