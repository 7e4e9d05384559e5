"""`python -m airflow_batch_provider batches …`: the commands of `airflow batches`, also where Airflow has no place for them."""

from __future__ import annotations

from airflow_batch_provider.cli.definition import parser, run


def main() -> None:
    """Parse and carry out; exits with the command's code."""
    arguments = parser().parse_args()
    run(arguments, arguments.command)


if __name__ == "__main__":
    main()
