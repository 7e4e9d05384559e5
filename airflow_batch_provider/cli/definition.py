"""The commands and their arguments, once, for Airflow's command line and for argparse; imports nothing heavy."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from airflow.cli.cli_config import CLICommand

_MODULES = "airflow_batch_provider.cli"
GROUP = "batches"
HELP = "Batches at LLM providers: what is open, what nobody waits for, what a person must decide"
CODES = "Exit code: 0 all is well, 1 a person must decide, 2 the command cannot be carried out as given."


class Argument(NamedTuple):
    """One argument, as argparse takes it."""

    flags: tuple[str, ...]
    options: dict[str, Any]


class Command(NamedTuple):
    """One command; `name` is also the name of its function, in one of the modules beside this one."""

    name: str
    help: str
    arguments: tuple[Argument, ...]
    description: str = ""
    module: str = "commands"


def number_above_zero(text: str) -> float:
    """A number as argparse reads it."""
    if not (number := float(text)) > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not above zero")
    return number


# Days of a span that any date can be before.
_LONGEST = 365.0 * 1000


def moment(text: str) -> datetime | timedelta:
    """A date, `2026-11-01`, aware and in UTC, or a number of days until now, `30d`, as argparse reads it."""
    days = text.removesuffix("d")
    try:
        if days != text:
            return timedelta(days=min(float(days), _LONGEST))
        return date(text)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a date such as 2026-11-01 nor days such as 30d"
        ) from None


def date(text: str) -> datetime:
    """A date, `2026-11-01`, as argparse reads it; aware, in UTC where it names no zone."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _option(*flags: str, **options: Any) -> Argument:
    return Argument(flags, options)


_STORAGE = _option(
    "--storage-path", metavar="URI", help="Root of stage storage; the configured storage_path by default"
)
_CONNECTIONS = _option(
    "--conn-id",
    action="append",
    metavar="CONN_ID",
    help="Airflow connection to search, may be given again; by default all that this package can use",
)
_OUTPUT = _option(
    "-o",
    "--output",
    choices=("table", "json", "yaml", "plain"),
    default="table",
    help="table (default), json, yaml or plain",
)
_APPLY = _option("--apply", action="store_true", help="Act; without it nothing is changed")
_TAG = _option("tag", help="Our name of the batch, as the task's message or 'batches list' shows it")

GROUPS = ("dag", "run", "task", "tag", "team", "model", "provider", "connection", "month", "budget")

COMMANDS = (
    Command("list", "List the batches that are claimed or running, with what Airflow says of their tasks", (_STORAGE, _OUTPUT)),
    Command("show", "Show one batch: its task, its claim, and what the provider says of it now", (_TAG, _STORAGE, _CONNECTIONS, _OUTPUT)),
    Command(
        "check",
        "Ask a connection's provider whether its key works; costs nothing",
        (_option("connection", metavar="CONN_ID", help="Airflow connection to check"), _STORAGE),
        "The same call as the Test button of the connection's form.",
    ),
    Command(
        "reconcile",
        "Find batches that nobody waits for; with --apply, cancel or forget them and adopt lost ones",
        (
            _STORAGE,
            _CONNECTIONS,
            _OUTPUT,
            _APPLY,
            _option("--cancel-orphans", action="store_true", help="Also cancel batches with tags like ours that are not known here"),
            _option(
                "--grace",
                type=float,
                default=0.0,
                metavar="MINUTES",
                help="Cancel only what earlier runs with --apply saw without a waiting task so long ago; default 0",
            ),
        ),
        "A batch is cancelled when its task instance ended or was deleted; never while a task still waits for it.",
    ),
    Command(
        "adopt",
        "Say that a batch at the provider is the claimed one",
        (_TAG, _option("batch_id", help="The batch's id at the provider"), _STORAGE, _CONNECTIONS),
        "For a task that ended as 'Unresolved'. Clear the task afterwards: it goes on with that batch and pays nothing more.",
    ),
    Command(
        "absent",
        "Say that no batch at the provider is the claimed one",
        (_TAG, _STORAGE, _CONNECTIONS),
        "For a task that ended as 'Unresolved'. Clear the task afterwards: it buys the batch.",
    ),
    Command(
        "cost",
        "Sum what batches have cost that have landed, whoever bought them",
        (
            _option("--since", type=moment, metavar="DATE", help="Only batches submitted from then on: a date, 2026-11-01, or days until now, 30d"),
            _option("--by", choices=GROUPS, default="dag", help="What to sum by; default dag. tag, team: of the DAG, as Airflow has them now. budget: what is spent, open and left of each that is set"),
            _STORAGE,
            _OUTPUT,
        ),
        "Amounts are in US dollars, each row at its own price; a batch counts for the month in which it was submitted, and for each tag of "
        "its DAG.",
        module="money",
    ),
    Command(
        "estimate",
        "Price what a task of a DAG would ask; nothing is bought",
        (
            _option("dag_id", help="Id of the DAG"),
            _option("task_id", help="Id of a BatchGenerateOperator or BatchEmbedOperator in it"),
            _option("--date", type=date, metavar="DATE", help="Fill templates as for a run of this date; today by default"),
            _OUTPUT,
        ),
        "All input of the first wave, and the longest answers that it may have. Rows that other tasks make are known in a run only.",
        module="estimate",
    ),
    Command(
        "cancel",
        "Cancel the open batches of a run, or of one task in it",
        (
            _option("dag_id", help="Id of the DAG"),
            _option("run_id", help="Id of the run"),
            _option("task_id", nargs="?", help="Id of the task; all tasks of the run by default"),
            _option("--map-index", type=int, metavar="N", help="One instance of a mapped task; all by default"),
            _option("-y", "--yes", action="store_true", help="Do not ask before cancelling"),
            _option("--even-if-waiting", action="store_true", help="Also batches whose task waits, and may ask their rows again"),
            _STORAGE,
            _CONNECTIONS,
            _OUTPUT,
        ),
        "What a batch has finished by then is paid; a clear of the task lands it and buys the rest.",
        module="money",
    ),
    Command(
        "prune",
        "List old stage storage and old answers of the row cache; with --apply, delete them, with the results in the storage",
        (
            _option("--older-than", type=number_above_zero, required=True, metavar="DAYS", help="Days since the task was finished"),
            _option(
                "--unfinished",
                action="store_true",
                help="Also storage of tasks that never finished, and of custom stages",
            ),
            _option("--row-cache", metavar="URI", help="Row cache whose answers of that age go, too; the configured one by default"),
            _APPLY,
            _STORAGE,
            _OUTPUT,
        ),
        "Storage with an open batch, or of a task that is not over, is never deleted.",
    ),
)  # fmt: skip


def run(arguments: argparse.Namespace, name: str) -> None:
    """Carry a command out; exits with its code."""
    (module,) = (command.module for command in COMMANDS if command.name == name)
    code: int = getattr(import_module(f"{_MODULES}.{module}"), f"{name}_batches")(arguments)
    raise SystemExit(code)


def get_batches_commands() -> list[CLICommand]:
    """The group as Airflow 3.2 and later takes it from a provider."""
    from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand  # noqa: PLC0415 — only Airflow's CLI asks

    made = [
        ActionCommand(
            name=command.name,
            help=command.help,
            func=_function(command.name),
            args=[Arg(flags=argument.flags, **argument.options) for argument in command.arguments],
            description=f"{command.help}. {command.description}".strip(),
            epilog=CODES,
        )
        for command in COMMANDS
    ]
    return [GroupCommand(name=GROUP, help=HELP, subcommands=made)]


def _function(name: str) -> Any:
    def command(arguments: argparse.Namespace) -> None:
        run(arguments, name)

    return command


def parser() -> argparse.ArgumentParser:
    """The same commands without Airflow's command line."""
    made = argparse.ArgumentParser(prog="python -m airflow_batch_provider")
    group = made.add_subparsers(metavar=GROUP, required=True).add_parser(GROUP, help=HELP, description=HELP)
    actions = group.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        text = f"{command.help}. {command.description}".strip()
        one = actions.add_parser(command.name, help=command.help, description=text, epilog=CODES)
        for argument in command.arguments:
            one.add_argument(*argument.flags, **argument.options)
    return made
