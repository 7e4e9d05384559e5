"""The description of this package for Airflow; imported by every Airflow process, so it imports nothing heavy."""

from __future__ import annotations

from typing import Any

from airflow_batch_provider.connection_forms import FIELDS, field_behaviour

_NAME = "LLM batches"
_HOOKS = {
    "anthropic_batch": ("AnthropicBatchHook", "Anthropic (batch)"),
    "openai_batch": ("OpenAIBatchHook", "OpenAI (batch)"),
    "gemini_batch": ("GeminiBatchHook", "Google Gemini (batch)"),
}


def get_provider_info() -> dict[str, Any]:
    """The provider's record, as `provider_info.schema.json` of Airflow 3 wants it."""
    return {
        "package-name": "airflow-batch-provider",
        "name": "Airflow Batch Provider",
        "description": "Ask a language model millions of things, in batch: half price, no worker held, paid once.",
        "integrations": [
            {
                "integration-name": _NAME,
                "external-doc-url": "https://platform.claude.com/docs/en/build-with-claude/batch-processing",
                "tags": ["service"],
            }
        ],
        "hooks": _modules("hooks.batch"),
        "operators": _modules("operators.stage", "operators.generate", "operators.embed", "operators.reconcile"),
        "sensors": _modules("sensors.batch"),
        "triggers": _modules("triggers.stage"),
        "extra-links": [f"airflow_batch_provider.links.batch.{link}" for link in ("BatchLink", "ConsoleLink")],
        "connection-types": [_connection_type(conn_type) for conn_type in _HOOKS],
        "task-decorators": [
            {"name": f"batch_{kind}", "class-name": f"airflow_batch_provider.decorators.batch.batch_{kind}_task"}
            for kind in ("generate", "embed")
        ],
        "cli": ["airflow_batch_provider.cli.definition.get_batches_commands"],
        "config": {"batch_provider": {"description": _SECTION, "options": _OPTIONS}},
    }


def _modules(*names: str) -> list[dict[str, Any]]:
    return [{"integration-name": _NAME, "python-modules": [f"airflow_batch_provider.{name}" for name in names]}]


def _connection_type(conn_type: str) -> dict[str, Any]:
    hook, label = _HOOKS[conn_type]
    return {
        "connection-type": conn_type,
        "hook-class-name": f"airflow_batch_provider.hooks.batch.{hook}",
        "hook-name": label,
        "ui-field-behaviour": field_behaviour(conn_type),
        "conn-fields": FIELDS[conn_type],
    }


_SECTION = "How batches of language-model requests are kept and watched."
_OPTIONS = {
    "storage_path": {
        "description": (
            "Where tasks keep what they asked, bought and got back; any URI that ObjectStoragePath takes, e.g. "
            "s3://aws_default@bucket/batches. Workers and triggerers must both reach it. Empty: the folder "
            "batch_provider below AIRFLOW_HOME, with the LocalExecutor only; others refuse it before anything is paid."
        ),
        "version_added": "0.1.0",
        "type": "string",
        "example": "s3://aws_default@my-bucket/batches",
        "default": "",
    },
    "poll": {
        "description": (
            "How often tasks poll their batches, and how long, unless they say so themselves: quick (15 s, 10 min), "
            "medium (1 min, 1 h) or long (5 min, 24 h)."
        ),
        "version_added": "0.1.0",
        "type": "string",
        "example": "medium",
        "default": "long",
    },
    "run_budgets": {
        "description": (
            "The most that all tasks of one DAG run may cost, in US dollars: JSON, by DAG id, * for any other; or one "
            "amount for all. A batch that might cost more than is left is not bought."
        ),
        "version_added": "0.1.0",
        "type": "string",
        "example": '{"*": 50, "my_dag": 200}',
        "default": "",
    },
    "monthly_budgets": {
        "description": (
            "The most that a connection may cost in a calendar month (UTC), in US dollars, over all tasks with the same "
            "storage_path: JSON, by connection id, * for any other; or one amount for each. A batch that might cost "
            "more than is left is not bought."
        ),
        "version_added": "0.1.0",
        "type": "string",
        "example": '{"*": 500, "anthropic_default": 2000}',
        "default": "",
    },
    "row_cache": {
        "description": (
            "Folder of good answers of all tasks, by what was asked, any URI that ObjectStoragePath takes; what was answered "
            "before is not bought again. Empty: none, unless a task names one."
        ),
        "version_added": "0.1.0",
        "type": "string",
        "example": "s3://aws_default@my-bucket/answers",
        "default": "",
    },
    "row_cache_days": {
        "description": "How old an answer from the row cache may be, in days.",
        "version_added": "0.1.0",
        "type": "float",
        "example": "7",
        "default": "30",
    },
    "max_in_flight": {
        "description": (
            "Most batches that all tasks together have at the provider at once, for each connection and model; a task that finds "
            "no place waits, deferred, in the order of asking. A connection's option `max_in_flight` wins. Empty: no limit."
        ),
        "version_added": "0.1.0",
        "type": "string",
        "example": "20",
        "default": "",
    },
    "max_enqueued_tokens": {
        "description": (
            "Most estimated input tokens of those batches; a larger batch is let in alone. A connection's option "
            "`max_enqueued_tokens` wins, a number or one by model. Empty: no limit."
        ),
        "version_added": "0.1.0",
        "type": "string",
        "example": "5000000",
        "default": "",
    },
    "prices": {
        "description": (
            "Custom prices, for models that nobody lists or that cost less by contract: JSON, by model, in US "
            "dollars per million tokens in a batch: input, output, cached, cache_write, long_cache_write, audio_input, "
            "audio_output; web_search and file_search per thousand. A connection's option `prices` wins."
        ),
        "version_added": "0.1.0",
        "type": "string",
        "example": '{"my-model": {"input": 0.25, "output": 1.5}}',
        "default": "",
    },
}
