"""What is asked: one row, or how every row of a task is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

import msgspec
from pydantic import Field, field_validator, model_validator

from airflow_batch_provider.frozen import FrozenModel
from airflow_batch_provider.output_types import json_schema

Kind = Literal["generate", "embed"]

# Characters of a `custom_id`.
LONGEST_ID = 512


class BatchRequest(FrozenModel):
    """One row that is asked.

    Attributes:
        custom_id: the user's key, unique within the task; None lets the task number the rows (`request-0` …).
        prompt: the text to ask or to embed; exactly one of `prompt` and `messages` is given.
        messages: the provider's own list of messages (Anthropic, OpenAI) or contents (Gemini), passed through as is.
        system: overrides the task's system text.
        output_type: overrides the task's; any type that pydantic knows, or a JSON schema; kept as JSON schema.
        max_tokens: overrides the task's; tokens of the answer.
        request_params: further fields of the provider's request body; they win over the task's.
    """

    custom_id: str | None = Field(default=None, min_length=1, max_length=LONGEST_ID)
    prompt: str | None = Field(default=None, min_length=1)
    messages: list[dict[str, Any]] | None = Field(default=None, min_length=1)
    system: str | None = None
    output_type: dict[str, Any] | None = None
    max_tokens: int | None = Field(default=None, gt=0)
    request_params: dict[str, Any] = Field(default_factory=dict)

    @field_validator("output_type", mode="before")
    @classmethod
    def _model_to_schema(cls, value: Any) -> Any:
        return json_schema(value)

    @model_validator(mode="after")
    def _asks_once(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give exactly one of 'prompt' and 'messages'")
        return self


class PlainRequest(msgspec.Struct, frozen=True, gc=False):
    """A row of nothing but a prompt, as most are: made many times quicker than a `BatchRequest`, and not checked.

    Attributes:
        prompt: at least one character.
        custom_id: 1 to `LONGEST_ID` characters; None lets the task number the rows.
    """

    prompt: str
    custom_id: str | None = None


@dataclass(frozen=True)
class BadRow:
    """A row of a source that cannot be asked.

    Attributes:
        problem: for people: which row, what is wrong with it, and the remedy; nothing of its text.
        custom_id: the row's key, None where it has none that can be used.
    """

    problem: str
    custom_id: str | None = None


class Spec(FrozenModel):
    """How every row of a task is asked, unless the row says otherwise.

    Attributes:
        kind: text (`generate`) or vectors (`embed`).
        model: the provider's name of the model, without any `provider:` prefix.
        max_tokens: tokens of one answer.
        output_schema: JSON schema that each answer must fit; None for plain text.
        request_params: further fields of the provider's request body, in the provider's own words.
    """

    kind: Kind = "generate"
    model: str = Field(min_length=1)
    system: str | None = None
    max_tokens: int = Field(default=1024, gt=0)
    output_schema: dict[str, Any] | None = None
    request_params: dict[str, Any] = Field(default_factory=dict)
