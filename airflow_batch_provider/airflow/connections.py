"""Airflow connections in the providers' terms: who is asked, under which key, at which address."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from pydantic import SecretStr

from airflow_batch_provider.airflow import supervisor
from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.hub import Hub
from airflow_batch_provider.models import Account
from airflow_batch_provider.pricing import CONFIGURED
from airflow_batch_provider.providers import PROVIDERS
from airflow_batch_provider.signals import SILENT

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from airflow.sdk import Connection

    from airflow_batch_provider.models import ConnectionRef
    from airflow_batch_provider.signals import Signals

# Connection type → provider. The types below ours belong to other Airflow providers, which keep a key in `password`
# (`anthropic`, `openai`), or need one in `extra` (Google's Gemini hook takes it as an argument, its connection has none).
OWN_TYPES = {"anthropic_batch": "anthropic", "openai_batch": "openai", "gemini_batch": "google"}
_TYPES = {
    **OWN_TYPES,
    "anthropic": "anthropic",
    "openai": "openai",
    "google_genai": "google",
    "google_cloud_platform": "google",
}

# Words that common.ai's `pydanticai` connection puts before the colon of `extra["model"]`.
_PREFIXES = {"google-gla": "google", "gemini": "google", "openai-chat": "openai", "openai-responses": "openai"}

_KEYS = ("api_key", "gemini_api_key")
_NOT_OPTIONS = {*_KEYS, CONFIGURED, "model", "embed_model", "provider", "base_url", "host"}
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_KEYLESS = "python -m airflow_batch_provider.emulator"


def account(connection: Connection, provider: str | None = None) -> Account:
    """Return the account that an Airflow connection stands for.

    Args:
        connection: `password` is the key, `host` (a URL, or with `schema` and `port`) the base URL, `extra` holds options.
        provider: the provider that the model's name points to; needed for connections whose type names none.

    Raises:
        UsageError: the connection names no provider, another one than the model does, or has no key.
    """
    extra = _extra(connection)
    name = _provider(connection, extra, provider)
    url = base_url(connection, extra)
    return Account(
        provider=name,
        api_key=SecretStr(_key(connection, extra, name, url)),
        base_url=url,
        options=_configured_prices()
        | _configured_limits()
        | {key: value for key, value in extra.items() if key not in _NOT_OPTIONS and value not in (None, "")},
    )


def _configured_limits() -> dict[str, str]:
    """Return the limits of the deployment as options of the account; those of the connection win."""
    from airflow.configuration import conf  # noqa: PLC0415 — as above

    told = {name: conf.get("batch_provider", name, fallback="") for name in ("max_in_flight", "max_enqueued_tokens")}
    return {name: limit for name, limit in told.items() if limit}


def _configured_prices() -> dict[str, str]:
    """Return the deployment's own prices as an option of the account, which is read when something is priced."""
    from airflow.configuration import conf  # noqa: PLC0415 — the function is called in a running task only

    prices: str = conf.get("batch_provider", "prices", fallback="")
    return {CONFIGURED: prices} if prices else {}


def worker_hub(signals: Signals = SILENT) -> AbstractAsyncContextManager[Hub]:
    """Return connections for one `async with` in a process that may wait for Airflow (worker, API server, notebook)."""
    return aclosing(Hub(open_account_in_worker, signals=signals))


def open_account(ref: ConnectionRef) -> Account:
    """Return the account of a connection, read in a process that may wait for it.

    Raises:
        UsageError: there is no such connection, or it cannot be used.
    """
    from airflow.sdk import BaseHook  # noqa: PLC0415 — the function is called in a running task only
    from airflow.sdk.log import mask_secret  # noqa: PLC0415

    from airflow_batch_provider.airflow.exceptions import AirflowNotFoundException  # noqa: PLC0415

    try:
        connection = BaseHook.get_connection(ref.conn_id)
    except AirflowNotFoundException as error:
        raise _missing(ref) from error
    found = account(connection, ref.provider)
    mask_secret(found.api_key.get_secret_value())
    return found


async def open_account_in_worker(ref: ConnectionRef) -> Account:
    """Run `open_account` in a thread, for the event loop of a worker."""
    return await asyncio.to_thread(open_account, ref)


async def open_account_in_triggerer(ref: ConnectionRef) -> Account:
    """Do as `open_account` on the triggerer's loop.

    A thread that asks for a connection ends the whole triggerer of Airflow 3.1, so the asynchronous way is taken
    wherever the process has one; `dag.test` has none.
    """
    from airflow.sdk import BaseHook  # noqa: PLC0415 — the trigger module stays light
    from airflow.sdk.execution_time import task_runner  # noqa: PLC0415

    from airflow_batch_provider.airflow.exceptions import AirflowNotFoundException  # noqa: PLC0415

    comms = getattr(task_runner, "SUPERVISOR_COMMS", None)
    if comms is not None and not hasattr(comms, "asend"):
        return await open_account_in_worker(ref)
    try:
        connection = await supervisor.replied(BaseHook.aget_connection(ref.conn_id))
    except AirflowNotFoundException as error:
        raise _missing(ref) from error
    found = account(connection, ref.provider)
    await _mask(found.api_key.get_secret_value())
    return found


async def _mask(key: str) -> None:
    from airflow.sdk import log  # noqa: PLC0415

    # Airflow before 3.3 masks a connection's own fields only, and has no way to ask for more from a trigger.
    if hasattr(log, "amask_secret"):
        await supervisor.replied(log.amask_secret(key))


def base_url(connection: Connection, extra: dict[str, Any]) -> str | None:
    """Return the address that a connection names, None for the provider's own; loopback hosts without a scheme are `http`."""
    host = connection.host or extra.get("base_url") or extra.get("host")
    if not host:
        return None
    text = str(host).strip()
    if "://" not in text:
        bare = urlsplit(f"//{text}").hostname
        scheme = (connection.schema or "").lower()
        default = "http" if bare in _LOOPBACK else "https"
        text = f"{scheme if scheme in {'http', 'https'} else default}://{text}"
    parts = urlsplit(text)
    if connection.port and not parts.netloc.rpartition("]")[2].rpartition(":")[1]:
        parts = parts._replace(netloc=f"{parts.netloc}:{connection.port}")
    return urlunsplit(parts).rstrip("/")


def _extra(connection: Connection) -> dict[str, Any]:
    extra: Any = connection.extra
    if not extra:
        return {}
    try:
        # Airflow 3.2.2 makes a dict of it in `Connection(uri=…)`.
        extra = json.loads(extra) if isinstance(extra, str) else extra
    except ValueError as error:
        # The text itself may hold a key, so it is not quoted.
        raise UsageError(f"The extra of connection {connection.conn_id!r} is not valid JSON. Fix it.") from error
    if not isinstance(extra, dict):
        raise UsageError(f"The extra of connection {connection.conn_id!r} is not a JSON object. Fix it.")
    return extra


def _provider(connection: Connection, extra: dict[str, Any], wanted: str | None) -> str:
    named = _TYPES.get(connection.conn_type or "") or _named_by_extra(extra)
    if named is None and wanted is None:
        raise UsageError(
            f"Connection {connection.conn_id!r} of type {connection.conn_type!r} names no provider. Write the model with "
            f"its provider ('openai:gpt-…'), or use a connection of type {', '.join(OWN_TYPES)}."
        )
    # A `pydanticai` connection keeps a default model; the model of the task may be another provider's behind one gateway.
    typed = _TYPES.get(connection.conn_type or "")
    if wanted is not None and typed is not None and wanted != typed:
        raise UsageError(
            f"Connection {connection.conn_id!r} of type {connection.conn_type!r} reaches {typed!r}, but the model is one of "
            f"{wanted!r}. Give the conn_id of a connection to {wanted!r}, or write the model as '{typed}:<model>'."
        )
    return wanted or str(named)


def _named_by_extra(extra: dict[str, Any]) -> str | None:
    for word in (str(extra.get("provider") or ""), str(extra.get("model") or "").partition(":")[0]):
        name = _PREFIXES.get(word, word)
        if name in PROVIDERS:
            return name
    return None


def _key(connection: Connection, extra: dict[str, Any], provider: str, url: str | None) -> str:
    key = connection.password or next((str(extra[name]) for name in _KEYS if extra.get(name)), "")
    if key:
        return key
    if url and urlsplit(url).hostname in _LOOPBACK:
        return "no-key"  # the emulator takes any, and nothing else listens on a developer's own machine
    raise UsageError(
        f"Connection {connection.conn_id!r} has no API key for {provider!r}. Put it into the connection's password, or try "
        f"without a key: {_KEYLESS}, and set the connection's host to the address it prints."
    )


def _missing(ref: ConnectionRef) -> UsageError:
    conn_id = ref.conn_id
    own = {name: conn_type for conn_type, name in OWN_TYPES.items()}
    conn_type = own.get(ref.provider or "", "anthropic_batch")
    variable = f"AIRFLOW_CONN_{conn_id.upper()}"
    return UsageError(
        f"There is no Airflow connection {conn_id!r}. Make one: airflow connections add {conn_id} --conn-type {conn_type} "
        f'--conn-password <key>, or set {variable}=\'{{"conn_type": "{conn_type}", "password": "<key>"}}\'; without a '
        f"key, try {_KEYLESS}."
    )
