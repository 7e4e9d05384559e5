"""The table of providers that keep the contract, and one of them to try, over the emulator."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_batch_provider.models import Account, BatchRequest, Spec
from airflow_batch_provider.providers.base import BatchQuery, Payload

if TYPE_CHECKING:
    from airflow_batch_provider.emulator.core import Emulator
    from airflow_batch_provider.providers.base import BatchProvider

KEY = "sk-contract-0123456789abcdef"
PREFIX = "5eed5eed5eed-"


@dataclass(frozen=True)
class Backend:
    """One way to ask one provider.

    `in_process` is True when the class takes a second argument `transport`, so that no port is needed; `keeps_tag`,
    when the provider keeps our name at a batch. `routes` names create, list, retrieve, cancel and results as the
    emulator's fault plan does.
    """

    provider: str
    model: str
    path: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    embedder: str | None = None
    in_process: bool = True
    keeps_tag: bool = True
    routes: dict[str, str] = field(default_factory=dict)

    def account(self, url: str, **options: Any) -> Account:
        return Account(
            provider=self.provider, api_key=KEY, base_url=url + self.path, options={**self.options, **options}
        )


_ANTHROPIC = {name: f"anthropic.{name}" for name in ("create", "list", "retrieve", "cancel", "results")}
_OPENAI = {name: f"openai.batches.{name}" for name in ("create", "list", "retrieve", "cancel")}
_OPENAI["results"] = "openai.files.content"
_GOOGLE = {name: f"google.{name}" for name in ("create", "list", "cancel")}
_GOOGLE |= {"retrieve": "google.get", "results": "google.download"}

BACKENDS = {
    "anthropic": Backend("anthropic", "claude-emulated-1", keeps_tag=False, routes=_ANTHROPIC),
    "openai-chat": Backend("openai", "gpt-emulated-1", "/v1", embedder="text-embedding-3-small", routes=_OPENAI),
    "openai-responses": Backend("openai", "gpt-emulated-1", "/v1", {"api": "responses"}, routes=_OPENAI),
    "google": Backend("google", "gemini-emulated-1", embedder="gemini-embedding-001", routes=_GOOGLE),
}
"""Another provider joins here; every test of `test_contract.py` then runs for it."""


async def submitted(provider: BatchProvider, payload: Payload) -> str:
    """Prepare and create, as a worker does whose claim stands."""
    return await provider.create(await provider.prepare(payload))


@dataclass
class Bench:
    """A provider under test, its emulator, and the few steps that most tests begin with."""

    backend: Backend
    provider: BatchProvider
    emulator: Emulator
    directory: Any
    url: str
    sent: int = 0

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self.emulator.clock.now(), UTC)

    def spec(self, **changes: Any) -> Spec:
        return Spec(model=self.backend.model, **changes)

    def payload(self, *prompts: str, spec: Spec | None = None, **changes: Any) -> Payload:
        """The prompts as a file of wire lines, under keys with our prefix."""
        spec = spec or self.spec()
        self.sent += 1
        tag = f"abp-test-{self.sent}"
        requests = [BatchRequest(prompt=prompt) for prompt in prompts]
        bodies = [msgspec.json.encode(self.provider.codec.encode(request, spec)) for request in requests]
        lines = [self.provider.codec.line(f"{PREFIX}{index}", body, spec) for index, body in enumerate(bodies)]
        path = self.directory / f"{tag}.jsonl"
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        given = {"label": "dag/run/task", "requests": len(lines), **changes}
        return Payload(tag=tag, path=path, bytes=path.stat().st_size, spec=spec, **given)

    async def submit(self, payload: Payload) -> str:
        return await submitted(self.provider, payload)

    def claim(self, payload: Payload) -> BatchQuery:
        return BatchQuery(tag=payload.tag, claimed_at=self.now, requests=payload.requests, key_prefix=PREFIX)

    def fault(self, route: str, kind: str, **fields: Any) -> None:
        """Add a fault on one of the backend's routes."""
        self.emulator.faults.add(self.backend.routes[route], kind, **fields)

    def finish(self) -> None:
        """Move the emulator's clock to where every batch has run."""
        self.emulator.clock.advance(600)

    async def replies(self, batch_id: str, kind: str = "generate") -> dict[str, Any]:
        return {reply.key.removeprefix(PREFIX): reply async for reply in self.provider.results(batch_id, kind)}

    async def ask(self, *prompts: str, spec: Spec | None = None) -> dict[str, Any]:
        """Submit, let it run, read the replies by the number of the prompt."""
        spec = spec or self.spec()
        batch_id = await self.submit(self.payload(*prompts, spec=spec))
        self.finish()
        return await self.replies(batch_id, spec.kind)
