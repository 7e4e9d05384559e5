"""Settings and connections, from what Airflow itself reads of them."""

from __future__ import annotations

import json
from typing import Any

from airflow_batch_provider.connection_forms import FIELDS
from airflow_batch_provider.get_provider_info import get_provider_info


def settings() -> str:
    """Every option of `[batch_provider]`."""
    options = get_provider_info()["config"]["batch_provider"]["options"]
    return "\n".join(_setting(name, option) for name, option in options.items())


def _setting(name: str, option: dict[str, Any]) -> str:
    lines = [
        f"### `{name}`\n",
        f"{option['description']}\n",
        "| | |",
        "|---|---|",
        f"| type | {option['type']} |",
        f"| default | {_code(option['default'])} |",
        f"| environment variable | `AIRFLOW__BATCH_PROVIDER__{name.upper()}` |",
        f"| since version | {option['version_added']} |\n",
    ]
    if option.get("example"):
        lines += ["```ini", "[batch_provider]", f"{name} = {option['example']}", "```\n"]
    return "\n".join(lines)


def connections() -> str:
    """Every connection type with its form."""
    return "\n".join(_connection(one) for one in get_provider_info()["connection-types"])


def _connection(one: dict[str, Any]) -> str:
    behaviour, name = one["ui-field-behaviour"], one["connection-type"]
    relabelled = behaviour["relabeling"]
    lines = [
        f"### {one['hook-name']}: `{name}`\n",
        "| in the form | field | |",
        "|---|---|---|",
        f"| {relabelled['password']} | `password` | the provider's key; kept encrypted and masked by Airflow |",
        f"| {relabelled['host']} | `host` | `{behaviour['placeholders']['host']}` when empty |",
    ]
    lines += [f"| {field['label']} | `extra.{key}` | {_about(field)} |" for key, field in FIELDS[name].items()]
    return "\n".join(lines) + "\n"


def _about(field: Any) -> str:
    text = str(field["description"]).replace("|", "\\|").replace("{", "&#123;")
    choices = field["schema"].get("enum")
    return text + (f" One of {', '.join(f'`{choice}`' for choice in choices)}." if choices else "")


def _code(value: Any) -> str:
    return f"`{value if isinstance(value, str) else json.dumps(value)}`" if value not in ("", None) else "empty"
