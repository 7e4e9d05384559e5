"""The commands `airflow batches …`, from the definitions that make them."""

from __future__ import annotations

from airflow_batch_provider.cli.definition import CODES, COMMANDS, Argument, Command


def commands() -> str:
    """Every command with its arguments."""
    return "\n".join([f"{CODES}\n", *map(_command, COMMANDS)])


def _command(command: Command) -> str:
    positional = [argument for argument in command.arguments if not argument.flags[0].startswith("-")]
    names = [str(argument.options.get("metavar", argument.flags[0].upper())) for argument in positional]
    call = " ".join(["airflow batches", command.name, *names, "[options]"])
    rows = [f"| {_shown(argument)} | {argument.options.get('help', '')} |" for argument in command.arguments]
    text = [f"### {command.name}\n", f"{command.help}. {command.description}".strip() + "\n", f"```text\n{call}\n```\n"]
    return "\n".join([*text, "| argument | |", "|---|---|", *rows, ""])


def _shown(argument: Argument) -> str:
    metavar = argument.options.get("metavar", "")
    if not argument.flags[0].startswith("-"):
        return f"`{metavar or argument.flags[0].upper()}`"
    return ", ".join(f"`{flag} {metavar}`" if metavar else f"`{flag}`" for flag in argument.flags)
