"""The SDK's client as this package uses it: on our connections, with our time-outs, its errors as ours."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from google import genai  # noqa: TID253  # the one folder that names this SDK is imported when the provider is first used
from google.genai import client as genai_client  # noqa: TID253
from google.genai import errors, types  # noqa: TID253

from airflow_batch_provider.providers import faults, http
from airflow_batch_provider.providers.google import operations
from airflow_batch_provider.providers.google.rest import talking

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import httpx2
    from google.genai.batches import AsyncBatches
    from google.genai.files import AsyncFiles

    from airflow_batch_provider.models import Account

VERSION = "v1"


class Sdk:
    """Batches and files of one account.

    Args:
        address: the base URL, without a version.
    """

    def __init__(self, account: Account, address: str, connections: httpx2.AsyncClient) -> None:
        self._account = account
        self._address = address
        self._key = http.api_key(account)
        self._client = _client(self._key, connections, self.options())

    @property
    def batches(self) -> AsyncBatches:
        """The SDK's calls about batches."""
        return self._client.aio.batches

    @property
    def files(self) -> AsyncFiles:
        """The SDK's calls about files."""
        return self._client.aio.files

    def options(self, times: int = 1) -> types.HttpOptions:
        """Return the time-outs in milliseconds; None would mean for ever."""
        seconds = http.timeouts(self._account, times).read or 0
        return types.HttpOptions(base_url=self._address, api_version=VERSION, timeout=max(1, int(seconds * 1000)))

    @asynccontextmanager
    async def asking(self, what: str) -> AsyncIterator[None]:
        """Raise the SDK's errors during `what` as ours."""
        try:
            async with talking(what):
                yield
        except errors.APIError as error:
            # The SDK's error quotes the whole reply, which may quote a prompt.
            headers = getattr(error.response, "headers", {})
            raise operations.refused(error.code, error.details, headers, self._key) from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            # What the SDK raises over replies that lack what it looks for, an upload without its status among them.
            raise faults.Unreadable(f"{what} got a reply that cannot be read: {type(error).__name__}.") from None

    def close(self) -> None:
        """Let the SDK go; the connections stay open."""
        self._client.close()


def _client(key: str, connections: httpx2.AsyncClient, options: types.HttpOptions) -> genai.Client:
    """Return the SDK's client, on our connections, and deaf to the environment (google-genai 3.4, `_api_client.py`)."""
    options.httpx_async_client = connections
    # It also makes a client for calls that block and one for web sockets, and would read the trusted CAs for each.
    options.client_args, options.async_client_args = {"verify": http.certificates()}, {"ssl": http.certificates()}
    recording = genai_client.DebugConfig(client_mode=None, replays_directory=None, replay_id=None)
    with _without_advice_on_keys():
        return genai.Client(api_key=key, vertexai=False, debug_config=recording, http_options=options)


@contextmanager
def _without_advice_on_keys() -> Iterator[None]:
    """The SDK logs which key of the environment it takes, while it takes ours."""
    logger = logging.getLogger("google_genai._api_client")

    def keep(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("Both GOOGLE_API_KEY")

    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
