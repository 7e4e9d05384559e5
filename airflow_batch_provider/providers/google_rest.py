"""The two things that google-genai 3.4 cannot do: a look that tells why a batch failed, and a download line by line."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx2

from airflow_batch_provider.exceptions import NotFound, Rejected, Unavailable
from airflow_batch_provider.providers import google_operations as operations
from airflow_batch_provider.providers import wire

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

PAGE = 100
_HOPS = 4


class Rest:
    """GET requests with the key in a header; `root` is the address with the version."""

    def __init__(self, root: str, key: str, http: httpx2.AsyncClient) -> None:
        self._root = root
        self._key = key
        self._http = http

    async def get(self, path: str, what: str, **query: Any) -> dict[str, Any]:
        """The JSON object at a path."""
        async with talking(what):
            response = await self._http.get(
                f"{self._root}/{path}",
                params={name: value for name, value in query.items() if value != ""},
                headers=self._authority(),
            )
            if response.status_code != 200:
                raise operations.refused(response.status_code, _body(response), response.headers, self._key)
            body = response.json()
        if not isinstance(body, dict):
            raise Unavailable(f"{what} got a {type(body).__name__} where a JSON object belongs.")
        return body

    async def batch(self, name: str) -> dict[str, Any]:
        """The operation of that name."""
        what = f"Looking at {name}"
        operation = await self.get(name, what)
        if operation.get("name") != name or not isinstance(operation.get("metadata"), dict):
            raise Unavailable(f"{what} got an object that is not this batch.")
        return operation

    async def batches(self, pages: int, size: int = PAGE) -> AsyncGenerator[list[dict[str, Any]], None]:
        """At most so many pages of the project's batches."""
        token = ""
        for _ in range(pages):
            page = await self.get("batches", "Listing batches", pageSize=size, pageToken=token)
            if page and not page.keys() & {"operations", "nextPageToken"}:
                raise Unavailable("Listing batches got an object where a list belongs.")
            yield wire.as_objects(page.get("operations"))
            if not (token := wire.as_text(page.get("nextPageToken"))):
                return

    async def lines(self, file: str, what: str) -> AsyncGenerator[bytes, None]:
        """The lines of a file of results."""
        async with talking(what), self._download(file) as response:
            async for line in wire.jsonl(response.aiter_bytes(wire.CHUNK)):
                yield line

    @asynccontextmanager
    async def _download(self, file: str) -> AsyncIterator[httpx2.Response]:
        """The open reply with a file; where it redirects, as Google's media do, the key goes to our own host only."""
        home = url = httpx2.URL(f"{self._root}/files/{file}:download?alt=media")
        for _ in range(_HOPS):
            at_home = (url.scheme, url.host, url.port) == (home.scheme, home.host, home.port)
            if not at_home and url.scheme != "https":
                break
            async with self._http.stream("GET", url, headers=self._authority() if at_home else {}) as response:
                if not response.has_redirect_location:
                    await self._check_file(response)
                    yield response
                    return
                url = url.join(response.headers["location"])
        raise Rejected(f"The results redirect to {wire.clip(str(url.copy_with(query=None)))!r}, which is not followed.")

    async def _check_file(self, response: httpx2.Response) -> None:
        if response.status_code == 200:
            return
        await response.aread()
        error = operations.refused(response.status_code, _body(response), response.headers, self._key)
        if response.status_code in {403, 404}:
            # A file that is not there is a 403 (https://github.com/googleapis/python-genai/issues/1218).
            raise NotFound(f"The file of results is gone; Gemini keeps it six weeks. {error}")
        raise error

    def _authority(self) -> dict[str, str]:
        return {"x-goog-api-key": self._key}


@asynccontextmanager
async def talking(what: str) -> AsyncIterator[None]:
    """Turn faults of the network in the middle of `what` into our errors."""
    try:
        yield
    except (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL) as error:
        raise wire.unreachable(error, what) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise Unavailable(f"{what} got a reply that cannot be read: {type(error).__name__}.") from None


def _body(response: httpx2.Response) -> object:
    """The JSON of a refusal, or its text, as from a proxy."""
    try:
        return response.json()
    except ValueError:
        return {"message": response.text}
