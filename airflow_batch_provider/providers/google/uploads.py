"""The files of batches at Gemini: sent once under our tag, found again by their name and size, deleted."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from google.genai import types  # noqa: TID253  # the one folder that names this SDK is imported when it is first used

from airflow_batch_provider.exceptions import Denied, NotFound, Rejected, Unavailable
from airflow_batch_provider.providers.untrusted import as_text, checked_id

if TYPE_CHECKING:
    from airflow_batch_provider.providers.base import Payload
    from airflow_batch_provider.providers.google.sdk import Sdk

log = logging.getLogger(__name__)


class Uploads:
    """The files of one Google Cloud project."""

    def __init__(self, sdk: Sdk) -> None:
        self._sdk = sdk

    async def send(self, payload: Payload) -> str:
        """Return the name of the payload's file; upload it unless an earlier attempt has."""
        return (payload.resumed and await self._find(payload)) or await self._send(payload)

    async def delete(self, name: str) -> None:
        """Delete a file; a refusal is ignored."""
        try:
            async with self._sdk.asking(f"Deleting {name}"):
                await self._sdk.files.delete(name=name)
        except (NotFound, Rejected) as error:
            log.debug("%s was not deleted: %s", name, error)

    async def _send(self, payload: Payload) -> str:
        """Send the file in blocks of 8 MiB; when that fails, an earlier try may have sent it already (409).

        The SDK sends a block again when no answer came; an upload that is complete by then is gone for it (404).
        """
        try:
            async with self._sdk.asking(f"Uploading {payload.tag}"):
                file = await self._sdk.files.upload(file=str(payload.path), config=self._config(payload))
        except (Unavailable, NotFound) as error:
            if name := await self._find(payload):
                return name
            if isinstance(error, NotFound):
                raise Unavailable(str(error)) from error
            raise
        return _ready(file, payload)

    def _config(self, payload: Payload) -> types.UploadFileConfig:
        return types.UploadFileConfig(
            name=_name(payload),
            display_name=payload.tag,
            mime_type="application/jsonl",
            # Named again, the base URL also holds for the address that the provider tells for the blocks.
            http_options=self._sdk.options(times=5),
        )

    async def _find(self, payload: Payload) -> str | None:
        """Return the file of an earlier try at the payload, by its name and size; delete another one of that name."""
        name = _name(payload)
        try:
            async with self._sdk.asking(f"Looking for the upload of {payload.tag}"):
                file = await self._sdk.files.get(name=name)
        except (NotFound, Denied):
            # A file that is not there is a 403 (https://github.com/googleapis/python-genai/issues/1218).
            return None
        if file.size_bytes == payload.bytes and file.state != types.FileState.FAILED:
            return _ready(file, payload)
        await self.delete(name)
        return None


def _name(payload: Payload) -> str:
    return f"files/{payload.tag}"


def _ready(file: types.File, payload: Payload) -> str:
    """Return the name of a file that a batch can read."""
    if file.state == types.FileState.PROCESSING:
        raise Unavailable(f"Gemini is still processing the upload of {payload.tag}.", retry_after=5.0, ambiguous=False)
    bare = as_text(file.name).removeprefix("files/")
    return f"files/{checked_id(bare, 'file')}"
