"""What Arrow holds, as Python has it; nothing that a cell holds keeps the others from being read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

# What pyarrow 26 raises for a value that Python has none of; a time zone that nobody knows is a KeyError.
UNREADABLE = (ValueError, OverflowError, TypeError, KeyError)


def records(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return the rows of a batch; a value that Python has none of, such as a date after the year 9999, is its text."""
    columns = {name: _values(column) for name, column in zip(batch.schema.names, batch.columns, strict=True)}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _values(column: pa.Array) -> list[Any]:
    """Return a column as Python has it; as text where Python has no such value, such as a date after the year 9999."""
    import pyarrow as pa

    try:
        return column.to_pylist()  # type: ignore[no-any-return]
    except UNREADABLE:
        pass
    try:
        return column.cast(pa.string()).to_pylist()  # type: ignore[no-any-return]
    except (pa.ArrowException, *UNREADABLE):
        return list(map(_value, column))


def _value(cell: pa.Scalar) -> Any:
    """Return one cell: as Python has it, or what is in it each by itself, as text, or at last as the number or bytes it is."""
    import pyarrow as pa

    try:
        return cell.as_py()
    except UNREADABLE:
        pass
    if isinstance(cell, pa.StructScalar):
        return {field.name: _value(cell[place]) for place, field in enumerate(cell.type)}
    if isinstance(cell, pa.ListScalar):
        return list(map(_value, cell.values))
    if hasattr(cell, "as_buffer"):
        return cell.as_buffer().to_pybytes()
    try:
        return cell.cast(pa.string()).as_py()
    except (pa.ArrowException, *UNREADABLE):
        return str(getattr(cell, "value", cell.type))
