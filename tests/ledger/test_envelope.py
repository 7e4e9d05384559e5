"""A line is sent as the provider's codec writes it, though nobody reads what is in it."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_batch_provider.ledger.envelope import Envelope
from airflow_batch_provider.ledger.records import PlannedRow, encoded, planned_lines
from airflow_batch_provider.models import Account, Spec
from airflow_batch_provider.providers import provider_class

SPECS = [Spec(model="m"), Spec(kind="embed", model="m")]
CODECS = {
    name: provider_class(name)(Account(provider=name, api_key="k")).codec for name in ("anthropic", "openai", "google")
}
TAG = "0123456789ab-2-00017"
texts = st.text(min_size=1, max_size=20) | st.sampled_from([',"body":', '"schema":', '{"index":', "\\", '"', ","])
bodies = st.dictionaries(texts, texts | st.dictionaries(texts, texts, max_size=2), max_size=3)
schemas = st.none() | st.dictionaries(st.sampled_from(["body", "schema", "index", "x"]), st.integers(), min_size=1)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
@pytest.mark.parametrize("codec", CODECS.values(), ids=list(CODECS))
@given(index=st.integers(0, 10**9), key=texts, body=bodies, schema=schemas)
def test_the_tag_goes_around_the_body_as_it_was_stored(codec, spec, index, key, body, schema):
    """Whatever the user's key, the body and the row's own schema hold."""
    stored = msgspec.json.encode(body)
    row = PlannedRow(index=index, custom_id=key, body=msgspec.Raw(stored), schema=encoded(schema))

    sent = Envelope(codec, spec).packing(TAG)([planned_lines([row])])

    assert sent == codec.line(f"{TAG}-{index}", stored, spec) + b"\n"


@pytest.mark.parametrize(
    "line",
    [
        json.dumps({"index": 7, "custom_id": "a", "body": {"x": 1}}),
        json.dumps({"body": {"x": 1}, "index": 7, "custom_id": "a"}, separators=(",", ":")),
        '{"custom_id":"a","index":7,"body":{"x":1}}',
    ],
)
def test_a_request_file_that_a_person_wrote_again_is_read(line):
    """With other spaces and another order."""
    codec, spec = CODECS["openai"], SPECS[0]

    sent = json.loads(Envelope(codec, spec).packing(TAG)([line.encode()]))

    assert (sent["custom_id"], sent["body"]) == (f"{TAG}-7", {"x": 1})


@pytest.mark.parametrize("codec", CODECS.values(), ids=list(CODECS))
def test_no_line_of_a_batch_is_longer_than_the_one_it_was_measured_by(codec):
    """Its tag is not known when the rows are cut into batches."""
    spec, body = SPECS[0], msgspec.Raw(b'{"x":1}')
    row = PlannedRow(index=10**10 - 1, custom_id="a", body=body)

    sent = Envelope(codec, spec).packing("0" * 12 + "-999-99999")([planned_lines([row])])

    assert len(sent) == len(Envelope(codec, spec).longest(body))
