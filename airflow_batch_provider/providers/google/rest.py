"""What google-genai 3.4 cannot do: a poll that tells why a batch failed, a download line by line, a body as it was planned."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx2

from airflow_batch_provider.exceptions import NotFound, Rejected
from airflow_batch_provider.providers.faults import Unreadable, read_reply, unreachable
from airflow_batch_provider.providers.google import operations
from airflow_batch_provider.providers.lines import CHUNK
from airflow_batch_provider.providers.listing import PAGE
from airflow_batch_provider.providers.untrusted import as_objects, as_text, one_line, read_object, without_key

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

_HOPS = 4


class Rest:
    """Requests with the key in a header; `root` is the address with the version."""

    def __init__(self, root: str, key: str, http: httpx2.AsyncClient) -> None:
        self._root = root
        self._key = key
        self._http = http

    async def get(self, path: str, what: str, **query: Any) -> dict[str, Any]:
        """Return the JSON object at a path."""
        async with talking(what):
            response = await self._http.get(
                f"{self._root}/{path}",
                params={name: value for name, value in query.items() if value != ""},
                headers=self._authority(),
            )
        return read_reply(self._content(response), what)

    async def post(self, path: str, body: bytes, timeouts: httpx2.Timeout) -> bytes:
        """Return the JSON object that answers one row's body."""
        what = "Asking one row"
        async with talking(what):
            headers = {**self._authority(), "content-type": "application/json"}
            response = await self._http.post(f"{self._root}/{path}", content=body, headers=headers, timeout=timeouts)
        answer = self._content(response)
        read_reply(answer, what)
        return answer

    def _content(self, response: httpx2.Response) -> bytes:
        """Return the body of a reply, unless it refuses."""
        if response.status_code != 200:
            raise operations.refused(response.status_code, _body(response), response.headers, self._key)
        return without_key(response.content, self._key)

    async def batch(self, name: str) -> dict[str, Any]:
        """Return the operation of that name."""
        what = f"Polling {name}"
        operation = await self.get(name, what)
        if operation.get("name") != name or not isinstance(operation.get("metadata"), dict):
            raise Unreadable(f"{what} got an object that is not this batch.")
        return operation

    async def batches(self, pages: int, size: int = PAGE) -> AsyncGenerator[list[dict[str, Any]]]:
        """Yield at most so many pages of the project's batches."""
        token = ""
        for _ in range(pages):
            page = await self.get("batches", "Listing batches", pageSize=size, pageToken=token)
            if page and not page.keys() & {"operations", "nextPageToken"}:
                raise Unreadable("Listing batches got an object where a list belongs.")
            yield as_objects(page.get("operations"))
            if not (token := as_text(page.get("nextPageToken"))):
                return

    async def chunks(self, file: str, what: str) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a file of results."""
        async with talking(what), self._download(file) as response:
            async for chunk in response.aiter_bytes(CHUNK):
                yield chunk

    @asynccontextmanager
    async def _download(self, file: str) -> AsyncIterator[httpx2.Response]:
        """Return the open reply with a file; where it redirects, as Google's media do, the key goes to our own host only."""
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
        raise Rejected(f"The results redirect to {one_line(str(url.copy_with(query=None)))!r}, which is not followed.")

    async def _check_file(self, response: httpx2.Response) -> None:
        if response.status_code == 200:
            return
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
        raise unreachable(error, what) from error


def _body(response: httpx2.Response) -> object:
    """Return the JSON of a refusal, or its text, as from a proxy."""
    try:
        return read_object(response.content.strip().removeprefix(b"[").removesuffix(b"]"))
    except Rejected:
        return {"message": response.text[:1000]}
