"""The job by the batch methods of pydantic-ai's model for Anthropic; what they return is written as JSON lines here."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from given import ADDRESS, KIND, MODEL, SCRATCH, Label, prompts
from pydantic_ai.messages import ModelRequest, UserPromptPart
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.batch import BatchRequest
from pydantic_ai.output import OutputObjectDefinition
from pydantic_ai.providers.anthropic import AnthropicProvider

if TYPE_CHECKING:
    from pathlib import Path


class Job:
    """A list in, which is read from the file, and a list out, which is written to one."""

    def __init__(self) -> None:
        self._model = AnthropicModel(MODEL, provider=AnthropicProvider(api_key="any", base_url=ADDRESS))
        self._parameters = ModelRequestParameters()
        if KIND == "schema":
            label = OutputObjectDefinition(json_schema=Label.model_json_schema(), name="label")
            self._parameters = ModelRequestParameters(output_mode="native", output_object=label)

    def submit(self) -> None:
        asyncio.run(self._submit())

    async def _submit(self) -> None:
        self._requests = {f"row-{number}": self._request(number, prompt) for number, prompt in enumerate(prompts())}
        encoded = [await self._model.batch_encode(request) for request in self._requests.values()]
        self._batch = await self._model.batch_create(encoded)

    def _request(self, number: int, prompt: str) -> BatchRequest:
        return BatchRequest(
            custom_id=f"row-{number}",
            messages=[ModelRequest(parts=[UserPromptPart(content=prompt)])],
            model_request_parameters=self._parameters,
        )

    def land(self) -> Path:
        return asyncio.run(self._land())

    async def _land(self) -> Path:
        batch = await self._model.batch_status(self._batch)
        path = SCRATCH / "results.jsonl"
        with path.open("w") as file:
            for result in await self._model.batch_results(batch):
                response = self._model.batch_decode(result, self._requests[result.custom_id])
                text = "".join(part.content for part in response.parts if part.part_kind == "text")
                output = text if KIND == "text" else Label.model_validate_json(text).model_dump()
                file.write(json.dumps({"custom_id": result.custom_id, "output": output}) + "\n")
        return path
