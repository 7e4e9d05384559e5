"""A misspelt parameter is refused before anything is paid; one that is only unknown is sent."""

from __future__ import annotations

import pytest
from anthropic.types import message_create_params
from openai.types import embedding_create_params
from openai.types.chat import completion_create_params
from openai.types.responses import response_create_params

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.models import BatchRequest, Spec
from airflow_batch_provider.operators import BatchGenerateOperator
from airflow_batch_provider.providers.anthropic.codec import AnthropicCodec
from airflow_batch_provider.providers.openai.codec import OpenAICodec
from airflow_batch_provider.providers.parameters import ANTHROPIC, OPENAI

CODECS = {"anthropic": AnthropicCodec(), "chat": OpenAICodec("chat"), "responses": OpenAICodec("responses")}
MISSPELT = {
    "temprature": "temperature",
    "Temperature": "temperature",
    "tool_choise": "tool_choice",
    "metadatas": "metadata",
    "tool": "tools",
}
codecs = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)


@codecs
@pytest.mark.parametrize(("name", "meant"), MISSPELT.items())
def test_3_a_misspelt_parameter_is_refused_with_the_name_that_was_meant(codec, name, meant):
    """Of the task and of a row."""
    with pytest.raises(UsageError, match=rf"'{name}', which no model knows\. Did you mean '{meant}'\?"):
        codec.check_spec(Spec(model="m", request_params={name: 1}))
    with pytest.raises(UsageError, match=name):
        codec.encode(BatchRequest(prompt="?", request_params={name: 1}), Spec(model="m"))


@codecs
@pytest.mark.parametrize("name", ["guided_json", "top_k", "min_p", "chat_template_kwargs", "x"])
def test_3_a_parameter_that_is_only_unknown_is_sent(codec, name):
    """It may be new, or of a server that speaks the same language."""
    assert codec.encode(BatchRequest(prompt="?"), Spec(model="m", request_params={name: 1}))[name] == 1


def test_3_a_misspelt_parameter_is_refused_when_the_dag_is_parsed():
    """With the task."""
    with pytest.raises(UsageError, match="'ask': request_params has 'temprature'"):
        BatchGenerateOperator(task_id="ask", model="gpt-5-mini", requests=["a"], request_params={"temprature": 1})


@pytest.mark.parametrize(
    ("known", "params"),
    [
        (ANTHROPIC, message_create_params.MessageCreateParamsBase),
        (OPENAI, completion_create_params.CompletionCreateParamsBase),
        (OPENAI, response_create_params.ResponseCreateParamsBase),
        (OPENAI, embedding_create_params.EmbeddingCreateParams),
    ],
)
def test_every_parameter_of_the_sdks_is_known(known, params):
    """A new version of an SDK with new parameters shows here."""
    assert (params.__required_keys__ | params.__optional_keys__) - known == set()
