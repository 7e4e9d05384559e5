"""A misspelt parameter is refused before anything is paid; one that is only unknown is sent."""

from __future__ import annotations

import re

import pytest
from anthropic import types as anthropic_types
from anthropic.types import message_create_params
from google.genai import types as google_types
from openai.types import embedding_create_params, shared_params
from openai.types.chat import ChatCompletionStreamOptionsParam, completion_create_params
from openai.types.responses import ResponseTextConfigParam, response_create_params
from openai.types.shared_params import response_format_json_schema

from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.models import BatchRequest, Spec
from airflow_batch_provider.operators import BatchGenerateOperator
from airflow_batch_provider.providers.anthropic.codec import AnthropicCodec
from airflow_batch_provider.providers.google.codec import GoogleCodec
from airflow_batch_provider.providers.openai.codec import OpenAICodec
from airflow_batch_provider.providers.parameters import ANTHROPIC, GOOGLE_WITHIN, OPENAI, WITHIN, camel

CODECS = {
    "anthropic": AnthropicCodec(),
    "chat": OpenAICodec("chat"),
    "responses": OpenAICodec("responses"),
    "google": GoogleCodec(),
}
MISSPELT = {
    "temprature": "temperature",
    "Temperature": "temperature",
    "tool_choise": "tool_choice",
    "metadatas": "metadata",
    "tool": "tools",
}
codecs = pytest.mark.parametrize("codec", [CODECS[name] for name in ("anthropic", "chat", "responses")])


@codecs
@pytest.mark.parametrize(("name", "meant"), MISSPELT.items())
def test_a_misspelt_parameter_is_refused_with_the_name_that_was_meant(codec, name, meant):
    """Of the task and of a row."""
    with pytest.raises(UsageError, match=rf"'{name}', which no model knows\. Did you mean '{meant}'\?"):
        codec.check_spec(Spec(model="m", request_params={name: 1}))
    with pytest.raises(UsageError, match=name):
        codec.encode(BatchRequest(prompt="?", request_params={name: 1}), Spec(model="m"))


NESTED = [
    ("anthropic", {"thinking": {"type": "enabled", "budget_token": 2000}}, "thinking.budget_token", "budget_tokens"),
    ("anthropic", {"output_config": {"efort": "low"}}, "output_config.efort", "effort"),
    ("chat", {"response_format": {"type": "x", "json_shema": {}}}, "response_format.json_shema", "json_schema"),
    ("chat", {"response_format": {"json_schema": {"stric": True}}}, "response_format.json_schema.stric", "strict"),
    ("responses", {"reasoning": {"efforts": "low"}}, "reasoning.efforts", "effort"),
    ("responses", {"text": {"verbositiy": "low"}}, "text.verbositiy", "verbosity"),
    ("google", {"temprature": 1}, "temprature", "temperature"),
    ("google", {"max_output_token": 1}, "max_output_token", "maxOutputTokens"),
    ("google", {"generationConfig": {"topk": 1}}, "generationConfig.topk", "topK"),
    ("google", {"thinkingConfig": {"thinkingBudgets": 1}}, "thinkingConfig.thinkingBudgets", "thinkingBudget"),
    ("google", {"thinking_config": {"thinking_budgt": 1}}, "thinkingConfig.thinking_budgt", "thinkingBudget"),
    (
        "google",
        {"generation_config": {"thinking_config": {"include_thought": True}}},
        "include_thought",
        "includeThoughts",
    ),
    ("google", {"toolConfig": {"functionCallingConfig": {"mod": "ANY"}}}, "functionCallingConfig.mod", "mode"),
]


@pytest.mark.parametrize(("provider", "params", "place", "meant"), NESTED, ids=[case[2] for case in NESTED])
def test_a_misspelt_field_is_refused_with_its_path(provider, params, place, meant):
    """In any parameter that is an object, of the task and of a row."""
    codec, said = CODECS[provider], rf"request_params has '.*{re.escape(place)}', .* Did you mean '{meant}'\?"
    with pytest.raises(UsageError, match=said):
        codec.check_spec(Spec(model="m", request_params=params))
    with pytest.raises(UsageError, match=said):
        codec.encode(BatchRequest(prompt="?", request_params=params), Spec(model="m"))


def test_a_misspelt_parameter_of_an_embedding_is_refused():
    """Gemini's, in either spelling."""
    for name in ("outputDimensionalty", "output_dimensionalty"):
        with pytest.raises(UsageError, match=rf"'{camel(name)}'.* Did you mean 'outputDimensionality'"):
            CODECS["google"].check_spec(Spec(model="m", kind="embed", request_params={name: 8}))


def test_the_sdks_word_for_geminis_parameters_is_told_the_wires():
    """`config` is an argument of the SDK, not a field."""
    with pytest.raises(UsageError, match=r"'config' does not belong in request_params\. Give it as generationConfig"):
        CODECS["google"].check_spec(Spec(model="m", request_params={"config": {"temperature": 1}}))


@pytest.mark.parametrize("params", [{"thinkingConfig": {"new": 1}}, {"imageConfig": {"imageSize": "1K"}}, {"top_k": 3}])
def test_a_field_that_is_only_unknown_is_sent_to_gemini(params):
    """Or known in its other spelling."""
    CODECS["google"].check_spec(Spec(model="m", request_params=params))


@codecs
@pytest.mark.parametrize("name", ["guided_json", "top_k", "min_p", "chat_template_kwargs", "x"])
def test_a_parameter_that_is_only_unknown_is_sent(codec, name):
    """It may be new, or of a server that speaks the same language."""
    assert codec.encode(BatchRequest(prompt="?"), Spec(model="m", request_params={name: 1}))[name] == 1


def test_a_misspelt_parameter_is_refused_when_the_dag_is_parsed():
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


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("thinking", anthropic_types.ThinkingConfigEnabledParam),
        ("output_config", anthropic_types.OutputConfigParam),
        ("cache_control", anthropic_types.CacheControlEphemeralParam),
        ("reasoning", shared_params.Reasoning),
        ("response_format", shared_params.ResponseFormatJSONSchema),
        ("response_format.json_schema", response_format_json_schema.JSONSchema),
        ("text", ResponseTextConfigParam),
        ("stream_options", ChatCompletionStreamOptionsParam),
        ("web_search_options", completion_create_params.WebSearchOptions),
    ],
)
def test_every_field_of_the_sdks_parameters_is_known(path, params):
    """As above, for what stands inside of them."""
    assert (params.__required_keys__ | params.__optional_keys__) - WITHIN[path] == set()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("generationConfig", "GenerationConfig"),
        ("thinkingConfig", "ThinkingConfig"),
        ("imageConfig", "ImageConfig"),
        ("toolConfig", "ToolConfig"),
        ("toolConfig.functionCallingConfig", "FunctionCallingConfig"),
    ],
)
def test_every_field_of_geminis_sdk_is_known(path, name):
    """Flat, or nested."""
    fields = {field.alias or name for name, field in getattr(google_types, name).model_fields.items()}

    assert fields - GOOGLE_WITHIN[path] == set()
