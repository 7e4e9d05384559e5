"""The commands of `airflow batches …`; each function returns the exit code."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_batch_provider import loop
from airflow_batch_provider.airflow import database, settings
from airflow_batch_provider.airflow.deployment import open_deployment
from airflow_batch_provider.airflow.task_state import ask_database
from airflow_batch_provider.cli.answer import DECIDE, FINE, Answer, account_of, command
from airflow_batch_provider.cli.output import clean, rendered
from airflow_batch_provider.clock import Clock
from airflow_batch_provider.fleet.prune import Pruner
from airflow_batch_provider.fleet.reconcile import Reconciler, Rules
from airflow_batch_provider.fleet.resolve import Resolver
from airflow_batch_provider.models import RequestCounts
from airflow_batch_provider.paths import open_path
from airflow_batch_provider.providers import connected
from airflow_batch_provider.providers.consoles import console_url
from airflow_batch_provider.storage import Directory

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator
    from datetime import datetime

    from airflow_batch_provider.fleet.findings import Finding
    from airflow_batch_provider.models import Account, BatchStatus
    from airflow_batch_provider.registry import Entry

_DONE = {"cancel": "cancelled", "adopt": "adopted", "forget": "forgotten"}


@command
def list_batches(arguments: Namespace) -> Answer:
    """Show the registry."""
    deployment = open_deployment(arguments.storage_path)
    print(f"Stage storage: {deployment.storage}", file=sys.stderr)
    rows = [_entry_row(entry) for entry in deployment.registry.entries()]
    return Answer(FINE, rendered(rows, arguments.output, "No batch is open."))


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


@command
def show_batches(arguments: Namespace) -> Answer:
    """Show all that is known of one batch, here and at its provider."""
    deployment = open_deployment(arguments.storage_path)
    entry = Resolver(deployment, ask_database, Clock()).entry(arguments.tag)
    account = account_of(entry, deployment, arguments)
    status = loop.run(_status(entry, account)) if entry.batch_id else None
    facts: dict[str, Any] = _entry_row(entry) | {
        "connection": str(entry.connection) if entry.connection else None,
        "claim": entry.claim,
        "tentative": entry.tentative,
        "leave_running": entry.leave_running,
        "console": console_url(account, entry.batch_id) if entry.batch_id else None,
        **(_status_row(status) if status else {"status": "claimed, and no receipt"}),
    }
    rows = [facts] if arguments.output in ("json", "yaml") else [{"fact": name, "is": facts[name]} for name in facts]
    return Answer(FINE, rendered(rows, arguments.output, ""))


async def _status(entry: Entry, account: Account) -> BatchStatus:
    async with connected([account]) as (provider,):
        return await provider.status(str(entry.batch_id))


def _status_row(status: BatchStatus) -> dict[str, Any]:
    counts = status.counts or RequestCounts()
    return {
        "status": status.status,
        "succeeded": counts.succeeded,
        "failed": counts.failed,
        "error": status.error,
        "expires_at": None if status.expires_at is None else f"{status.expires_at:%Y-%m-%d %H:%M}",
    }


@command
def check_batches(arguments: Namespace) -> Answer:
    """Make one call over a connection that costs nothing."""
    deployment = open_deployment(arguments.storage_path)
    (account,) = database.accounts([arguments.connection], deployment)
    return Answer(FINE, clean(loop.run(_check(account))))


async def _check(account: Account) -> str:
    async with connected([account]) as (provider,):
        return await provider.check()


@command
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
    text = rendered([_finding_row(finding) for finding in findings], arguments.output, "No batch is open.")
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


@command
def adopt_batches(arguments: Namespace) -> Answer:
    """Write a receipt by hand."""
    deployment = open_deployment(arguments.storage_path)
    resolver = Resolver(deployment, ask_database, Clock())
    entry = resolver.entry(arguments.tag)
    receipt = loop.run(_adopt(resolver, entry, arguments.batch_id, account_of(entry, deployment, arguments)))
    text = f"Batch {receipt.batch_id} is {entry.tag} of {entry.label} from now on. Clear the task: it goes on with it."
    return Answer(FINE, text)


async def _adopt(resolver: Resolver, entry: Entry, batch_id: str, account: Account) -> Any:
    async with connected([account]) as (provider,):
        return await resolver.adopt(entry.tag, batch_id, provider)


@command
def absent_batches(arguments: Namespace) -> Answer:
    """Withdraw a claim by hand."""
    deployment = open_deployment(arguments.storage_path)
    resolver = Resolver(deployment, ask_database, Clock())
    entry = resolver.entry(arguments.tag)
    loop.run(_absent(resolver, entry, account_of(entry, deployment, arguments)))
    text = (
        f"The claim {entry.tag} of {entry.label} is withdrawn. Clear the task: it buys these {entry.requests} requests."
    )
    return Answer(FINE, text)


async def _absent(resolver: Resolver, entry: Entry, account: Account) -> None:
    async with connected([account]) as (provider,):
        await resolver.absent(entry.tag, provider)


@command
def prune_batches(arguments: Namespace) -> Answer:
    """List old stage storage, and delete it with `--apply`."""
    deployment = open_deployment(arguments.storage_path)
    pruner = Pruner(deployment, ask_database)
    before = Clock().now() - timedelta(days=arguments.older_than)
    rows = list(_pruned_answers(pruner, before, arguments))
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
    text = rendered(rows, arguments.output, "No stage storage is that old.")
    return Answer(FINE, text + _to_do(left, arguments, "delete"))


def _pruned_answers(pruner: Pruner, before: datetime, arguments: Namespace) -> Iterator[dict[str, Any]]:
    """Yield a row for each folder of the row cache with old answers; delete those with `--apply`."""
    uri = arguments.row_cache or settings.row_cache().get("row_cache")
    for old in pruner.stale_answers(Directory(open_path(uri)), before) if uri else ():
        if arguments.apply:
            old.delete()
        yield {
            "action": "deleted" if arguments.apply else "delete",
            "state": f"{len(old.names)} objects of the row cache",
            "touched_at": f"{old.touched_at:%Y-%m-%d %H:%M}",
            "storage": str(old.directory),
        }


def _to_do(number: int, arguments: Namespace, verb: str) -> str:
    """A last line for people that says how to go on."""
    if not number or arguments.apply or arguments.output in ("json", "yaml"):
        return ""
    return f"\n\n{number} to do. Nothing was changed: add --apply to {verb}."
