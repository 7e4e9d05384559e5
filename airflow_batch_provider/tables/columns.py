"""The names of a result table's columns, and what a source's columns must not be named beside them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.output_types import inner_schema, is_wrapped, resolved

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_batch_provider.models import Spec

# The answer as JSON, where the columns made for it would not give it back exactly.
RAW = "raw_output"
# What became of a row, beside the columns of its answer.
ADDED = (
    "status",
    "error_code",
    "error",
    "retryable",
    "finish_reason",
    "input_tokens",
    "output_tokens",
    "model",
    "wave",
    "batch_id",
    "same_as",
    "cached_at",
    RAW,
)
# The one column of answers without fields.
OUTPUT = "output"
# A schema that nests deeper refers to itself.
_MOST_STEPS = 16

FieldKind = Literal["text", "json"]


@dataclass(frozen=True)
class KeptColumns:
    """Which columns of the source go into the result, and how the others of the table are named.

    Attributes:
        columns: names, the key among them; None keeps all.
        key: column of the `custom_id`; None where the rows are numbered.
        prefix: stands before the names of all columns that are not the source's.
    """

    columns: tuple[str, ...] | None
    key: str | None
    prefix: str = ""

    @classmethod
    def of(cls, wanted: bool | tuple[str, ...], key: str | None, prefix: str) -> KeptColumns | None:
        """Return what a user asked for, None for no table; the key is always kept."""
        if wanted is False:
            return None
        if wanted is True:
            return cls(None, key, prefix)
        own = (key,) if key is not None and key not in wanted else ()
        return cls((*own, *dict.fromkeys(wanted)), key, prefix)

    @property
    def digest(self) -> str:
        """Return 8 hex digits that tell these columns from others of the same source."""
        return hashlib.blake2b(msgspec.json.encode(self.columns), digest_size=4).hexdigest()

    def check(self, names: Iterable[str], spec: Spec) -> None:
        """Refuse columns of a source that are named as the result's own.

        Raises:
            UsageError: one is; names it, with the remedy.
        """
        taken = {f"{self.prefix}{name}" for name in (*ADDED, *(answer_fields(spec) or (OUTPUT,)))}
        if clash := [name for name in names if name in taken]:
            raise UsageError(
                f"Column {clash[0]!r} of the source has the name of a column that the result adds. Give column_prefix, such "
                "as 'llm_', or name the columns to keep without it in keep_columns."
            )


def answer_fields(spec: Spec) -> dict[str, FieldKind] | None:
    """Return the fields of the answers, each a column; None where one column holds the whole answer.

    `text` is a field that only holds texts, which CSV writes as they are; others are JSON there.
    """
    schema = spec.output_schema
    if schema is None or is_wrapped(schema):
        return None
    node = resolved(inner_schema(schema), schema.get("$defs", {}))
    fields = node.get("properties") if node.get("type") == "object" else None
    if not isinstance(fields, dict) or not fields:
        return None
    return {name: "text" if _is_text(field, schema.get("$defs", {})) else "json" for name, field in fields.items()}


def check_fields(spec: Spec) -> None:
    """Refuse answers with a field that is named as a column of every table.

    Raises:
        ValueError: one is; names it.
    """
    if clash := sorted({*ADDED} & {*(answer_fields(spec) or ())}):
        raise ValueError(
            f"the field {clash[0]!r} of output_type has the name of a column that every table has; rename the field"
        )


def _is_text(schema: Any, defs: dict[str, Any], steps: int = 0) -> bool:
    node = resolved(schema, defs)
    if steps > _MOST_STEPS:
        return False
    if "anyOf" in node:
        some = [option for option in node["anyOf"] if resolved(option, defs).get("type") != "null"]
        return bool(some) and all(_is_text(option, defs, steps + 1) for option in some)
    if "enum" in node or "const" in node:
        values = node.get("enum", [node.get("const")])
        return all(isinstance(value, str) for value in values if value is not None)
    return node.get("type") == "string" or node.get("type") == ["string", "null"]
