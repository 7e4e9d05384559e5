"""Rows as Parquet, in row groups, with an `output` column typed by the JSON schema."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.models import Usage
from airflow_batch_provider.rows import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from airflow_batch_provider.models import Spec

_GROUP = 10_000
# Rows as Python objects weigh many times what Arrow makes of them, so only this many are at a time.
_CHUNK = 500
# File metadata that holds the JSON schema of the answers, or null.
SCHEMA_KEY = b"airflow_batch_provider.output_schema"


def write_parquet(file: BinaryIO, rows: Iterator[Row], spec: Spec) -> None:
    """Write rows in groups of 10,000; at most one group is in memory, and that in Arrow's form.

    The output is a string for plain text, list<float32> for embeddings, and for a JSON schema the Arrow type it maps
    to; a schema with no Arrow type (open dicts, unions) and an answer that did not fit become JSON text in
    `output` or `output_text`.

    Raises:
        UsageError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UsageError(
            "result_format='parquet' needs pyarrow. Install it with: pip install 'airflow-batch-provider[parquet]'."
        ) from error
    output = output_type(pa, spec)
    schema = _schema(pa, output).with_metadata({SCHEMA_KEY: msgspec.json.encode(spec.output_schema)})
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        batches = _batches(pa, rows, schema)
        while group := list(islice(batches, _GROUP // _CHUNK)):
            writer.write_table(pa.Table.from_batches(group))


def _batches(pa: Any, rows: Iterator[Row], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    textual = schema.field("output").type == pa.string()
    while chunk := list(islice(rows, _CHUNK)):
        records = [_record(row, textual=textual) for row in chunk]
        try:
            yield pa.RecordBatch.from_pylist(records, schema=schema)
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            output = schema.field("output").type
            yield pa.RecordBatch.from_pylist([_held(pa, record, output) for record in records], schema=schema)


def _held(pa: Any, record: dict[str, Any], output: pa.DataType) -> dict[str, Any]:
    """Return a row whose output the column can hold; any other output goes to `output_text`, as JSON."""
    try:
        pa.array([record["output"]], output)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return {**record, "output": None, "output_text": _json(record["output"])}
    return record


def output_type(pa: Any, spec: Spec) -> pa.DataType:
    """The Arrow type of the answers."""
    if spec.kind == "embed":
        return pa.list_(pa.float32())
    if spec.output_schema is None:
        return pa.string()
    return _arrow(pa, spec.output_schema, spec.output_schema.get("$defs", {})) or pa.string()


def _arrow(pa: Any, schema: dict[str, Any], defs: dict[str, Any], depth: int = 0) -> pa.DataType | None:
    """The Arrow type of a JSON schema, None where there is none."""
    if depth > 16:
        return None
    if "$ref" in schema:
        name = str(schema["$ref"]).removeprefix("#/$defs/")
        return _arrow(pa, defs[name], defs, depth + 1) if name in defs else None
    if "anyOf" in schema:
        options = [option for option in schema["anyOf"] if option.get("type") != "null"]
        return _arrow(pa, options[0], defs, depth + 1) if len(options) == 1 else None
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return pa.string() if all(isinstance(value, str) for value in values) else None
    kind = schema.get("type")
    if kind == "array":
        item = _arrow(pa, schema.get("items", {}), defs, depth + 1)
        return pa.list_(item) if item is not None else None
    if kind == "object":
        return _struct(pa, schema, defs, depth)
    scalars = {"string": pa.string, "integer": pa.int64, "number": pa.float64, "boolean": pa.bool_}
    return scalars[kind]() if isinstance(kind, str) and kind in scalars else None


def _plain(schema: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    """The schema that a reference points to, or the one option besides null."""
    for _ in range(16):
        options = [option for option in schema.get("anyOf", []) if option.get("type") != "null"]
        name = str(schema.get("$ref", "")).removeprefix("#/$defs/")
        if name in defs:
            schema = defs[name]
        elif len(options) == 1:
            schema = options[0]
        else:
            break
    return schema


def without_absent(value: Any, schema: dict[str, Any] | None, defs: dict[str, Any] | None = None) -> Any:
    """An answer as it was before Parquet gave every field of a struct a null: optional fields without a value go."""
    if schema is None:
        return value
    defs = schema.get("$defs", {}) if defs is None else defs
    schema = _plain(schema, defs)
    if isinstance(value, list):
        return [without_absent(item, schema.get("items", {}), defs) for item in value]
    if not isinstance(value, dict):
        return value
    required, properties = schema.get("required", []), schema.get("properties", {})
    return {
        name: without_absent(item, properties.get(name, {}), defs)
        for name, item in value.items()
        if item is not None or name in required
    }


def _struct(pa: Any, schema: dict[str, Any], defs: dict[str, Any], depth: int) -> pa.DataType | None:
    fields = []
    for name, property_schema in schema.get("properties", {}).items():
        inner = _arrow(pa, property_schema, defs, depth + 1)
        if inner is None:
            return None
        fields.append(pa.field(name, inner))
    return pa.struct(fields) if fields else None


def _schema(pa: Any, output: pa.DataType) -> pa.Schema:
    text, number = pa.string(), pa.int64()
    usage = pa.struct([pa.field(name, number) for name in Usage.__struct_fields__])
    error = pa.struct([pa.field("code", text), pa.field("message", text), pa.field("retryable", pa.bool_())])
    return pa.schema(
        [
            pa.field("custom_id", text, nullable=False),
            pa.field("index", number, nullable=False),
            pa.field("status", text, nullable=False),
            pa.field("output", output),
            pa.field("output_text", text),
            pa.field("error", error),
            pa.field("usage", usage),
            pa.field("model", text),
            pa.field("finish_reason", text),
            pa.field("wave", number),
            pa.field("batch_id", text),
        ]
    )


def _record(row: Row, *, textual: bool) -> dict[str, Any]:
    """A row as Arrow takes it: an output of another type than the column goes to `output_text`."""
    output = row.value
    record = {name: getattr(row, name) for name in Row.__struct_fields__} | {"output": output, "output_text": None}
    record["usage"] = {name: getattr(row.usage, name) for name in Usage.__struct_fields__}
    record["error"] = row.error and row.error.as_json()
    if textual:
        record["output"] = output if isinstance(output, str) or output is None else _json(output)
    elif row.status != "succeeded" or isinstance(output, str) or _is_tool_call(output):
        record["output"] = None
        record["output_text"] = output if isinstance(output, str) or output is None else _json(output)
    return record


def _is_tool_call(output: Any) -> bool:
    return isinstance(output, dict) and "tool_calls" in output


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
