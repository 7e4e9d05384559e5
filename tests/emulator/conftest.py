"""Clients of the three SDKs, unmodified and strict, against a real port."""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from airflow_batch_provider.emulator.pytest_plugin import batch_emulator, batch_emulator_settings

__all__ = ["batch_emulator", "batch_emulator_settings"]


@pytest.fixture(scope="session")
def tls():
    """Half of a client's cost is its TLS context, which no test uses."""
    return ssl.create_default_context()


@pytest_asyncio.fixture
async def anthropic(batch_emulator, tls):
    """The Anthropic SDK; it refuses every body that does not fit its types."""
    from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient

    async with AsyncAnthropic(
        base_url=batch_emulator.anthropic_url,
        api_key="any",
        max_retries=0,
        _strict_response_validation=True,
        http_client=DefaultAsyncHttpxClient(verify=tls),
    ) as client:
        yield client


@pytest_asyncio.fixture
async def openai(batch_emulator, tls):
    """The OpenAI SDK; it refuses every body that does not fit its types."""
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient

    async with AsyncOpenAI(
        base_url=batch_emulator.openai_url,
        api_key="any",
        max_retries=0,
        _strict_response_validation=True,
        http_client=DefaultAsyncHttpxClient(verify=tls),
    ) as client:
        yield client


@pytest_asyncio.fixture
async def google(batch_emulator, tls):
    """The Gemini SDK over an injected httpx2 client."""
    from google import genai
    from google.genai import types

    async with httpx2.AsyncClient(verify=tls) as http:
        options = types.HttpOptions(
            base_url=batch_emulator.google_url,
            httpx_async_client=http,
            client_args={"verify": tls},
            async_client_args={"ssl": tls},
        )
        client = genai.Client(api_key="any", http_options=options).aio
        yield client
        await client.aclose()


@dataclass
class Asker:
    """Buys one batch of each provider, and reads its results by key."""

    anthropic: Any
    openai: Any
    google: Any

    async def anthropic_batch(self, prompts: dict[str, str], **params: Any) -> Any:
        body = {"model": "claude-haiku-4-5", "max_tokens": 900, **params}
        requests = [
            {"custom_id": key, "params": {**body, "messages": [{"role": "user", "content": prompt}]}}
            for key, prompt in prompts.items()
        ]
        return await self.anthropic.messages.batches.create(requests=requests)

    async def anthropic_results(self, batch_id: str) -> dict[str, Any]:
        while (await self.anthropic.messages.batches.retrieve(batch_id)).processing_status != "ended":
            pass
        return {row.custom_id: row.result async for row in await self.anthropic.messages.batches.results(batch_id)}

    @staticmethod
    def chat(prompt: str, **more: Any) -> dict[str, Any]:
        """The body of a chat completion."""
        return {"messages": [{"role": "user", "content": prompt}], **more}

    async def openai_batch(
        self, bodies: dict[str, dict[str, Any]], url: str = "/v1/chat/completions", **more: Any
    ) -> Any:
        model = "text-embedding-3-small" if url == "/v1/embeddings" else "gpt-4.1-mini"
        lines = [
            json.dumps({"custom_id": key, "method": "POST", "url": url, "body": {"model": model, **body}})
            for key, body in bodies.items()
        ]
        file = await self.openai.files.create(file=("rows.jsonl", "\n".join(lines).encode()), purpose="batch")
        return await self.openai.batches.create(input_file_id=file.id, endpoint=url, completion_window="24h", **more)

    async def openai_chat(self, prompts: dict[str, str], **more: Any) -> Any:
        return await self.openai_batch({key: self.chat(prompt) for key, prompt in prompts.items()}, **more)

    async def openai_end(self, batch_id: str) -> Any:
        ended = ("completed", "failed", "expired", "cancelled")
        while (batch := await self.openai.batches.retrieve(batch_id)).status not in ended:
            pass
        return batch

    async def openai_lines(self, file_id: str | None) -> dict[str, Any]:
        if file_id is None:
            return {}
        raw = (await self.openai.files.content(file_id)).content
        return {line["custom_id"]: line for line in map(json.loads, raw.strip().split(b"\n"))}

    async def google_batch(self, prompts: dict[str, str], **config: Any) -> Any:
        from google.genai import types

        rows = [types.InlinedRequest(contents=prompt, metadata={"key": key}) for key, prompt in prompts.items()]
        return await self.google.batches.create(model="gemini-2.5-flash", src=rows, config=config)

    async def google_end(self, name: str) -> Any:
        while not (batch := await self.google.batches.get(name=name)).done:
            pass
        return batch

    async def openai_error(self, body: dict[str, Any], url: str = "/v1/chat/completions") -> Any:
        """The error of one row with this body; None when it is answered."""
        asked = self.chat("x") if url.endswith("completions") else {"input": "x"}
        ended = await self.openai_end((await self.openai_batch({"a": asked | body}, url)).id)
        line = (await self.openai_lines(ended.error_file_id)).get("a")
        return line and line["response"]["body"]["error"]

    async def anthropic_error(self, **params: Any) -> Any:
        """The error of one row with these params; None when it is answered."""
        result = (await self.anthropic_results((await self.anthropic_batch({"a": "x"}, **params)).id))["a"]
        return result.error.error if result.type == "errored" else None

    async def google_error(self, request: dict[str, Any]) -> Any:
        """The error of one row of a file; None when it is answered."""
        line = {"key": "a", "request": {"contents": [{"parts": [{"text": "x"}]}], **request}}
        file = await self.google_file(json.dumps(line).encode())
        batch = await self.google.batches.create(model="gemini-2.5-flash", src=file.name)
        ended = await self.google_end(batch.name)
        return json.loads(await self.google.files.download(file=ended.dest.file_name)).get("error")

    async def google_file(self, lines: bytes) -> Any:
        import io

        return await self.google.files.upload(file=io.BytesIO(lines), config={"mime_type": "application/jsonl"})


@pytest.fixture
def ask(anthropic, openai, google) -> Asker:
    return Asker(anthropic, openai, google)


@pytest_asyncio.fixture
async def http(batch_emulator, tls):
    """A plain client for what no SDK says."""
    async with httpx2.AsyncClient(base_url=batch_emulator.url, verify=tls) as client:
        yield client
