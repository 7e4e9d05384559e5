"""A body is what the provider's codec makes of a request, however quickly it was made."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.ledger.bodies import Bodies
from airflow_batch_provider.models import Account, BatchRequest, Spec
from airflow_batch_provider.providers import provider_class

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
SPECS = {
    "plain": Spec(model="m"),
    "all": Spec(model="m", system="Be brief.", output_schema=SCHEMA, request_params={"temperature": 0}),
}
CODECS = {
    name: provider_class(name)(Account(provider=name, api_key="k")).codec for name in ("anthropic", "openai", "google")
}
prompts = st.text(min_size=1) | st.sampled_from(['"', "\\", "\ue000 the prompt \ue001", "}{", "\x00", "\u2028"])


@pytest.mark.parametrize("name", list(CODECS))
@pytest.mark.parametrize("spec", SPECS.values(), ids=list(SPECS))
@given(prompt=prompts, more=st.sampled_from([{}, {"system": ""}, {"max_tokens": 7}, {"request_params": {"top_p": 1}}]))
def test_a_body_is_what_the_codec_makes_of_the_request(name, spec, prompt, more):
    """Of a plain prompt, which is put into the one body that all share, and of a row with settings of its own."""
    request = BatchRequest(prompt=prompt, custom_id="row", **more)

    body = Bodies(CODECS[name], spec).encode(request)

    assert json.loads(bytes(body)) == CODECS[name].encode(request, spec)


def test_a_prompt_is_encoded_once_and_a_plain_one_without_the_codec(monkeypatch):
    """What is the same in every body is made once."""
    bodies = Bodies(CODECS["openai"], Spec(model="m"))
    monkeypatch.setattr(type(CODECS["openai"]), "encode", lambda *_: pytest.fail("the codec was asked again"))

    bodies.encode(BatchRequest(prompt="one", custom_id="a"))


def test_a_spec_that_the_provider_does_not_take_is_refused_before_any_row():
    """It would be wrong in every body."""
    with pytest.raises(UsageError, match="stream"):
        Bodies(CODECS["openai"], Spec(model="m", request_params={"stream": True}))


NAN, INFINITY = float("nan"), float("-inf")


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"request_params": {"temperature": NAN}}, "temperature is nan, which JSON does not have"),
        ({"request_params": {"logit_bias": {"7": np.float32("inf")}}}, "logit_bias.7 is inf"),
        ({"request_params": {"weights": np.array([1.0, NAN])}}, "weights.1 is nan"),
        ({"messages": [{"role": "user", "content": "x", "score": INFINITY}]}, "messages.0.score is -inf"),
    ],
)
def test_a_number_that_json_does_not_have_is_refused_by_its_path(request_, said):
    """It would be sent as null, which the provider takes for something else."""
    request = BatchRequest(**({} if "messages" in request_ else {"prompt": "a"}) | request_)
    with pytest.raises(ValueError, match=said):
        Bodies(CODECS["openai"], Spec(model="m")).encode(request)


def test_a_number_of_the_whole_task_that_json_does_not_have_is_refused_with_each_row():
    """And null itself is what a person may have meant."""
    with pytest.raises(ValueError, match="top_p is nan"):
        Bodies(CODECS["openai"], Spec(model="m", request_params={"top_p": NAN})).encode(BatchRequest(prompt="a"))
    body = Bodies(CODECS["openai"], Spec(model="m", request_params={"stop": None})).encode(BatchRequest(prompt="null"))
    assert json.loads(bytes(body))["stop"] is None
