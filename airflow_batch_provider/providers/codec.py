"""What a provider writes and reads: pure, without a connection and without its SDK."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_batch_provider.models import BatchRequest
from airflow_batch_provider.providers.answers import unreadable
from airflow_batch_provider.providers.untrusted import read_line

if TYPE_CHECKING:
    from airflow_batch_provider.models import Kind, Reply, Spec


class Codec(ABC):
    """How one provider writes requests and results."""

    key_name: ClassVar[str]
    """Name of the key in a result line."""
    levels: ClassVar[int]
    """Levels of a result line that have a meaning; what nests deeper is the model's own, or useless."""

    @abstractmethod
    def encode(self, request: BatchRequest, spec: Spec) -> dict[str, Any]:
        """Return the request body for one row, as it would be sent without a batch.

        Raises:
            UsageError: the provider does not take such a row or schema.
        """

    def check_spec(self, spec: Spec) -> None:
        """Raise `UsageError` if the provider cannot do what is asked of every row, also while a DAG is parsed."""
        self.encode(BatchRequest(prompt="?"), spec)

    @abstractmethod
    def line(self, key: str, body: bytes, spec: Spec) -> bytes:
        """Return one wire line, without newline: the JSON `body`, as it is, in the provider's batch envelope under `key`.

        Nothing but the two differs from line to line of one spec.
        """

    @abstractmethod
    def result_line(self, key: str, answer: bytes) -> bytes:
        """Return the line of a batch's results that would say under `key` what `answer`, to a single call, says."""

    @abstractmethod
    def reask(self, body: dict[str, Any], answer: str, problem: str) -> dict[str, Any]:
        """Return the body that shows the model its own `answer` and the `problem` with it, and asks again."""

    @abstractmethod
    def room(self, body: dict[str, Any]) -> int | None:
        """Return how many tokens the answer to this body may have, None where it sets no limit."""

    @abstractmethod
    def with_room(self, body: dict[str, Any], tokens: int) -> dict[str, Any]:
        """Return the body with another limit of its answer, under the name that it has there."""

    def wants_variety(self, body: dict[str, Any]) -> bool:
        """Tell whether a body asks for answers that differ from each other: it sets a temperature above 0."""
        return _is_positive(body.get("temperature"))

    def decode(self, line: bytes, kind: Kind) -> Reply:
        """Return what one result line says; a line of which only the key can be read is a failed row.

        Raises:
            Rejected: the line has no key that can be read.
        """
        if (plain := self.plain_reply(line, kind)) is not None:
            return plain
        key, record = read_line(line, self.key_name, self.levels)
        try:
            return self.reply(key, record, kind) if record else unreadable(key)
        except RecursionError:
            return unreadable(key)

    def plain_reply(self, line: bytes, kind: Kind) -> Reply | None:  # noqa: ARG002
        """Return what a line of the usual shape says, read quickly; None for `reply` to read it, which says the same."""
        return None

    @abstractmethod
    def reply(self, key: str, record: dict[str, Any], kind: Kind) -> Reply:
        """Return what the object of a result line says about the row of this key."""


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and value > 0


def system_text(request: BatchRequest, spec: Spec) -> str | None:
    """Return the row's system text, or the task's where the row has none; an empty one of the row drops the task's."""
    return spec.system if request.system is None else request.system
