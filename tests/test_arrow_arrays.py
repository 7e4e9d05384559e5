"""Arrays are those that pyarrow makes, without pandas."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_batch_provider.arrow_arrays import arrow_array, whole_numbers

_VALUES = {
    pa.string(): st.text(st.characters(exclude_categories=["Cs"])),
    pa.bool_(): st.booleans(),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float64(): st.floats(allow_nan=False) | st.integers(-(2**53), 2**53),
    pa.float32(): st.floats(width=32, allow_nan=False),
    pa.timestamp("us", "UTC"): st.datetimes(timezones=st.just(UTC)),
}


def _lists(inner):
    kind, values = inner
    return pa.list_(kind), st.lists(st.none() | values, max_size=3)


def _structs(fields):
    kind = pa.struct([(f"f{place}", inner) for place, (inner, _) in enumerate(fields)])
    return kind, st.fixed_dictionaries(
        {}, optional={f"f{n}": st.none() | values for n, (_, values) in enumerate(fields)}
    )


KINDS = st.recursive(
    st.sampled_from(list(_VALUES.items())),
    lambda inner: inner.map(_lists) | st.lists(inner, min_size=1, max_size=3).map(_structs),
    max_leaves=4,
)


@settings(deadline=None)  # pyarrow imports pandas for the first one
@given(st.data())
def test_an_array_is_the_one_that_pyarrow_makes(data):
    """Of any type that results have, with nulls anywhere, also none or nothing but nulls."""
    kind, values = data.draw(KINDS)
    column = data.draw(st.lists(st.none() | values, max_size=20))

    made = arrow_array(column, kind)

    made.validate(full=True)
    assert made.equals(pa.array(column, kind))


@given(st.lists(_VALUES[pa.int64()], max_size=20))
def test_whole_numbers_without_nulls_are_the_same_array(numbers):
    """Which is quicker to make: nobody asks what they are."""
    made = whole_numbers(numbers)

    made.validate(full=True)
    assert made.equals(arrow_array(numbers, pa.int64()))


def test_a_whole_number_that_has_no_place_in_its_type_is_refused():
    """As any other array refuses it."""
    with pytest.raises(OverflowError):
        whole_numbers([2**63])


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("x", pa.int64()),
        (True, pa.int64()),
        (1.5, pa.int64()),
        (2**63, pa.int64()),
        ("1", pa.float64()),
        (1, pa.bool_()),
        (1, pa.string()),
        ("\ud800", pa.string()),
        ("xy", pa.list_(pa.string())),
        ([1], pa.struct([("a", pa.int64())])),
        ("2026-11-27", pa.timestamp("us", "UTC")),
    ],
    ids=range(11),
)
def test_a_value_of_another_type_is_refused(value, kind):
    """No value becomes another one."""
    with pytest.raises((TypeError, ValueError, OverflowError)):
        arrow_array([None, value], kind)


def test_a_struct_takes_what_it_has_fields_for():
    """As pyarrow does: an answer may have more fields than its schema names."""
    kind = pa.struct([("a", pa.int64())])

    assert arrow_array([{"a": 1, "b": 2}], kind).to_pylist() == [{"a": 1}]


def test_a_moment_of_another_zone_stays_that_moment():
    """Arrow counts from the epoch in UTC."""
    moment = datetime.fromisoformat("2026-11-27T23:00:00.000001+02:00")

    assert arrow_array([moment], pa.timestamp("us", "UTC")).to_pylist() == [moment]
