"""One question, one answer: each provider says the same in its own shape, and the row reads the same."""

from __future__ import annotations

import base64
import json
import math
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_batch_provider.ledger.landing import row_of
from airflow_batch_provider.models import BatchRequest, Spec
from airflow_batch_provider.providers.anthropic.codec import AnthropicCodec
from airflow_batch_provider.providers.anthropic.replies import ANSWER_TOOL
from airflow_batch_provider.providers.google.codec import GoogleCodec
from airflow_batch_provider.providers.openai.codec import OpenAICodec
from airflow_batch_provider.schemas import AnswerSchema

CHAT, RESPONSES, ANTHROPIC, GOOGLE = OpenAICodec("chat"), OpenAICodec("responses"), AnthropicCodec(), GoogleCodec()
CODECS = {"anthropic": ANTHROPIC, "chat": CHAT, "responses": RESPONSES, "google": GOOGLE}
CUT = {"anthropic": "max_tokens", "chat": "length", "responses": "max_output_tokens", "google": "MAX_TOKENS"}
STOP = {"anthropic": "end_turn", "chat": "stop", "responses": None, "google": "STOP"}
CALL = {"anthropic": "tool_use", "chat": "tool_calls", "responses": None, "google": "STOP"}


def openai_line(body, status=200) -> bytes:
    return json.dumps({"custom_id": "k", "response": {"status_code": status, "body": body}, "error": None}).encode()


def chat(message, word="stop") -> bytes:
    return openai_line({"choices": [{"finish_reason": word, "message": message}]})


def responses(*items, word=None, **fields) -> bytes:
    status = {"status": "incomplete", "incomplete_details": {"reason": word}} if word else {"status": "completed"}
    return openai_line({**status, "output": list(items), **fields})


def message(text) -> dict:
    return {"type": "message", "content": [{"type": "output_text", "text": text}]}


def anthropic(*blocks, word="end_turn") -> bytes:
    result = {"type": "succeeded", "message": {"content": list(blocks), "stop_reason": word}}
    return json.dumps({"custom_id": "k", "result": result}).encode()


def google(*parts, word="STOP") -> bytes:
    candidate = {"content": {"parts": list(parts)}, "finishReason": word}
    return json.dumps({"key": "k", "response": {"candidates": [candidate]}}).encode()


def said(name, text, words=STOP) -> bytes:
    """The line of a provider whose model wrote this."""
    word = words[name]
    return {
        "anthropic": lambda: anthropic({"type": "text", "text": text}, word=word),
        "chat": lambda: chat({"content": text}, word),
        "responses": lambda: responses(message(text), word=word),
        "google": lambda: google({"text": text}, word=word),
    }[name]()


def called(name, arguments, text="") -> bytes:
    """The line of a provider whose model called a tool."""
    packed = json.dumps(arguments)
    return {
        "anthropic": lambda: anthropic(
            {"type": "text", "text": text},
            {"type": "tool_use", "id": "c", "name": "f", "input": arguments},
            word="tool_use",
        ),
        "chat": lambda: chat(
            {"content": text, "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": packed}}]}, "tool_calls"
        ),
        "responses": lambda: responses(
            message(text), {"type": "function_call", "call_id": "c", "name": "f", "arguments": packed}
        ),
        "google": lambda: google({"text": text}, {"functionCall": {"id": "c", "name": "f", "args": arguments}}),
    }[name]()


def decode(name, line, kind="generate"):
    return CODECS[name].decode(line, kind)


everywhere = pytest.mark.parametrize("name", CODECS)


@everywhere
def test_a_text_is_the_output(name):
    """With our word for why it ended."""
    reply = decode(name, said(name, "yes"))
    assert (reply.status, reply.output, reply.finish_reason, reply.error) == ("succeeded", "yes", "stop", None)


@everywhere
@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_text_is_not_an_answer(name, text):
    """It may be asked again."""
    reply = decode(name, said(name, text))
    assert (reply.status, reply.error.code, reply.error.retryable) == ("failed", "empty_answer", True)


@everywhere
def test_a_text_that_was_cut_before_it_began_is_truncated(name):
    """A model that thinks may think all its tokens away; more room helps."""
    reply = decode(name, said(name, "", CUT))
    assert (reply.status, reply.error.code, reply.error.retryable) == ("failed", "truncated", True)
    assert reply.finish_reason == "max_tokens"


@everywhere
def test_a_text_that_was_cut_is_kept(name):
    """Landing decides whether it will do."""
    reply = decode(name, said(name, "half an ans", CUT))
    assert (reply.status, reply.output, reply.finish_reason) == ("succeeded", "half an ans", "max_tokens")


@everywhere
@pytest.mark.parametrize("text", ["", "I look it up."])
def test_a_call_of_a_tool_is_the_output_with_the_text_beside_it(name, text):
    """Under the same names everywhere."""
    reply = decode(name, called(name, {"q": 1}, text))
    assert reply.output == {"tool_calls": [{"id": "c", "name": "f", "arguments": {"q": 1}}], "text": text or None}
    assert (reply.status, reply.finish_reason) == ("succeeded", "tool_use")


@pytest.mark.parametrize("levels", [120, 200, 255])
@everywhere
def test_arguments_nested_deeper_than_a_reader_takes_are_given_as_their_text(name, levels):
    """pydantic stops at 255 levels, and so would whoever reads the results."""
    deep = json.loads('{"a":' * levels + "1" + "}" * levels)
    (call,) = decode(name, called(name, deep)).output["tool_calls"]
    assert json.loads(call["arguments"]) == deep


@everywhere
def test_a_number_too_large_for_a_reader_makes_the_arguments_a_text(name):
    """msgspec and Parquet hold 64 bits."""
    (call,) = decode(name, called(name, {"n": 10**30})).output["tool_calls"]
    assert json.loads(call["arguments"]) == {"n": 10**30}


@everywhere
def test_arguments_nested_a_hundred_thousand_levels_keep_their_row(name):
    """Paid and there: the row is not missing, and not bought again."""
    deep = '{"a":' * 100_000 + "1" + "}" * 100_000
    packed = json.dumps(deep) if name in {"chat", "responses"} else deep
    line = called(name, "ARGUMENTS").replace(json.dumps(json.dumps("ARGUMENTS")).encode(), b'"ARGUMENTS"')
    reply = decode(name, line.replace(b'"ARGUMENTS"', packed.encode()))
    assert reply.status == "succeeded"
    assert reply.output["tool_calls"] == [{"id": "c", "name": "f", "arguments": deep}]


@everywhere
@pytest.mark.parametrize("depth", range(960, 1000, 3))
def test_no_depth_raises(name, depth):
    """Just below the interpreter's limit one library may read what another cannot write."""
    line = called(name, "X").replace(b'"X"', b'{"a":' * depth + b"1" + b"}" * depth)
    assert decode(name, line).key == "k"


@pytest.mark.parametrize(("given", "expected"), [(None, "task"), ("row", "row"), ("", None)])
@everywhere
def test_an_empty_system_text_of_a_row_drops_the_tasks(name, given, expected):
    """Not given, it is the task's."""
    body = CODECS[name].encode(BatchRequest(prompt="?", system=given), Spec(model="m", system="task"))
    body.pop("contents", None)
    assert (expected is None) == ("task" not in json.dumps(body) and "row" not in json.dumps(body))
    assert expected is None or expected in json.dumps(body)


# several messages and parts: whole without a schema, chosen by one

LABEL = AnswerSchema({"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]})
ANY_OBJECT = AnswerSchema({"type": "object"})


def landed(name, line, schema=None):
    """The row of a line: its status and its answer."""
    row = row_of(decode(name, line), schema, index=0)
    return row.status, row.value


def blocks(*texts):
    """Texts between which Anthropic searched, so that each stands by itself."""
    searched = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    return [block for text in texts for block in ({"type": "text", "text": text}, searched)]


def ran(*texts):
    """Texts between which Gemini ran code."""
    return [part for text in texts for part in ({"text": text}, {"executableCode": {"code": "1"}})]


SEVERAL = {
    "responses": ("responses", lambda *texts: responses(*map(message, texts))),
    "anthropic": ("anthropic", lambda *texts: anthropic(*blocks(*texts))),
    "google": ("google", lambda *texts: google(*ran(*texts))),
}
PARTED = {
    "anthropic": ("anthropic", lambda *texts: anthropic(*({"type": "text", "text": text} for text in texts))),
    "chat": ("chat", lambda *texts: chat({"content": [{"type": "text", "text": text} for text in texts]})),
    "responses": (
        "responses",
        lambda *texts: responses(
            {"type": "message", "content": [{"type": "output_text", "text": text} for text in texts]}
        ),
    ),
    "google": ("google", lambda *texts: google(*({"text": text} for text in texts))),
}
ALL = {**{f"{name} messages": made for name, made in SEVERAL.items()}, **PARTED}
in_pieces = pytest.mark.parametrize(("name", "made"), ALL.values(), ids=list(ALL))


@in_pieces
@settings(suppress_health_check=list(HealthCheck), deadline=None)
@given(
    texts=st.lists(
        st.sampled_from(["Here: ", '{"label": "fine"}', "{}", "[1]", '{"a":', " 1}"]) | st.text(), min_size=1
    )
)
def test_without_a_schema_a_text_in_pieces_is_whole_and_in_order(name, made, texts):
    """Nothing says that JSON among them is the answer: all was written, and all was paid."""
    whole = "".join(texts)
    status, answer = landed(name, made(*texts))
    assert (status, answer) == (("succeeded", whole) if whole.strip() else ("failed", None))


@in_pieces
@pytest.mark.parametrize(
    "texts",
    [
        ["Here it is:", '{"label": "fine"}'],
        ['{"label": "fine"}', "Anything else?"],
        ['{"label": "fi', '{"label": "fine"}'],
        ['{"label": "fine"}', '{"lab'],
        ['{"label": "fine"}', "{}"],
        ["{}", '{"label": "fine"}'],
        ['{"label": "fine"}', '{"other": 1}'],
        ['{"label":', ' "fine"}'],
        ['{"label": "first"}', '{"label": "fine"}'],
    ],
)
def test_under_a_schema_the_last_piece_that_fits_is_the_answer(name, made, texts):
    """A fragment and then the whole, or a preamble and then the JSON: 557 of 233,124 lines of one job (mira#70)."""
    assert landed(name, made(*texts), LABEL) == ("succeeded", {"label": "fine"})


@in_pieces
def test_an_empty_object_answers_only_where_nothing_else_does(name, made):
    """It fits where every field is optional, and would hide the answer beside it."""
    for texts in (['{"label": "fine"}', "{}"], ["{}", '{"label": "fine"}', "{ }"]):
        assert landed(name, made(*texts), ANY_OBJECT) == ("succeeded", {"label": "fine"})
    assert landed(name, made("{}", "Done."), ANY_OBJECT) == ("succeeded", {})


@in_pieces
def test_where_no_piece_fits_the_likeliest_is_told_with_what_is_wrong(name, made):
    """The model is shown it when it is asked again."""
    row = row_of(decode(name, made("Sure:", '{"label": 1}')), LABEL, index=0)
    assert (row.status, row.value, row.error.code) == ("invalid", '{"label": 1}', "invalid_output")
    assert "label" in row.error.message


@pytest.mark.parametrize(("name", "made"), PARTED.values(), ids=list(PARTED))
def test_the_mark_of_a_source_is_not_an_answer(name, made):
    """Parts of one message follow each other without a break."""
    numbers = AnswerSchema({"type": "array"})
    assert landed(name, made("Paris is the capital. ", "[1]"), numbers)[0] == "invalid"


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ([{"label": "fine"}], {"label": "fine"}),
        ([{"label": "fine"}, {}], {"label": "fine"}),
        ([{}, {"label": "fine"}], {"label": "fine"}),
        ([{"label": "fine"}, {"label": "second"}], {"label": "fine"}),
        ([{"label": 1}, {"label": "fine"}], {"label": "fine"}),
        ([None, "", {"label": "fine"}], {"label": "fine"}),
        (['{"label": "fine"}', "null"], {"label": "fine"}),
    ],
)
def test_of_several_calls_of_our_answer_tool_the_first_that_fits_is_the_answer(inputs, expected):
    """Calls of one turn are made side by side; a second, empty one made the row invalid, and it was bought again."""
    calls = [{"type": "tool_use", "id": "t", "name": ANSWER_TOOL, "input": one} for one in inputs]
    line = anthropic({"type": "text", "text": "I answer."}, *calls, word="tool_use")
    assert landed("anthropic", line, LABEL) == ("succeeded", expected)


def test_calls_of_our_answer_tool_without_any_input_are_an_empty_answer_that_fits_or_not():
    """As one call without input is."""
    line = anthropic(*[{"type": "tool_use", "id": "t", "name": ANSWER_TOOL, "input": {}}] * 2, word="tool_use")
    assert landed("anthropic", line, ANY_OBJECT) == ("succeeded", {})
    assert landed("anthropic", line, LABEL)[0] == "invalid"


# servers that speak OpenAI's API


def test_commentary_before_a_final_answer_is_not_the_answer():
    """`phase` of a message, openai 3.54; without it every message counts."""
    said = {**message("I look."), "phase": "commentary"}
    final = {**message("Yes."), "phase": "final_answer"}
    assert decode("responses", responses(said, final)).output == "Yes."
    assert decode("responses", responses(said)).output == "I look."


def test_the_limit_of_the_model_itself_cuts_an_answer_too():
    """Mistral calls it `model_length`."""
    assert decode("chat", chat({"content": ""}, "model_length")).error.code == "truncated"


def test_content_in_parts_is_read():
    """Mistral's models send their thoughts beside the text (integration_openai#408)."""
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "yes"}]
    assert CHAT.decode(chat({"content": parts}), "generate").output == "yes"


def test_a_refusal_in_a_part_is_a_refusal():
    """As one in its own field."""
    reply = CHAT.decode(chat({"content": [{"type": "refusal", "refusal": "No."}]}), "generate")
    assert (reply.error.code, reply.error.retryable, reply.finish_reason) == ("refusal", False, "refusal")


def test_parts_without_text_are_named():
    """A row holds text; asking again brings the same."""
    reply = CHAT.decode(chat({"content": [{"type": "image_url", "image_url": {}}]}), "generate")
    assert (reply.error.code, reply.error.retryable) == ("unsupported_output", False)
    assert "image_url" in reply.error.message


def test_an_item_that_is_an_image_is_named():
    """The same in a response."""
    reply = RESPONSES.decode(responses({"type": "image_generation_call", "result": "AAAA"}), "generate")
    assert (reply.error.code, reply.error.retryable) == ("unsupported_output", False)


def test_a_custom_tool_is_called_with_a_text():
    """Which is not JSON and must not be read as such."""
    custom = {"id": "c", "type": "custom", "custom": {"name": "f", "input": "1 + 1"}}
    item = {"type": "custom_tool_call", "call_id": "c", "name": "f", "input": "1 + 1"}
    for reply in (
        CHAT.decode(chat({"content": None, "tool_calls": [custom]}, "tool_calls"), "generate"),
        RESPONSES.decode(responses(item), "generate"),
    ):
        assert reply.output["tool_calls"] == [{"id": "c", "name": "f", "arguments": "1 + 1"}]
        assert reply.finish_reason == "tool_use"


def test_the_old_way_to_call_a_function_is_read():
    """`function_call`, which some servers still send."""
    line = chat({"content": None, "function_call": {"name": "f", "arguments": '{"q": 1}'}}, "function_call")
    assert CHAT.decode(line, "generate").output["tool_calls"] == [{"id": None, "name": "f", "arguments": {"q": 1}}]


def test_spoken_words_are_text():
    """An audio model writes what it said."""
    line = chat({"content": None, "audio": {"id": "a", "data": "AAAA", "transcript": "hello"}})
    assert CHAT.decode(line, "generate").output == "hello"


def test_a_body_in_a_text_is_read():
    """ogx writes the body as a JSON string; every row was an empty answer, bought again."""
    body = json.dumps({"choices": [{"finish_reason": "stop", "message": {"content": "yes"}}]})
    assert CHAT.decode(openai_line(body), "generate").output == "yes"


def test_a_response_in_a_text_is_read():
    """The same mistake, one level up."""
    line = json.loads(chat({"content": "yes"}))
    line["response"] = json.dumps(line["response"])
    assert decode("chat", json.dumps(line).encode()).output == "yes"


@pytest.mark.parametrize("status", [None, 0, "200", "ok"])
def test_an_answer_whose_status_is_not_told_is_an_answer(status):
    """It was an error that may pass, and the paid answer was bought again."""
    reply = decode(
        "chat",
        chat({"content": "yes"}).replace(b'"status_code": 200', b'"status_code": %s' % json.dumps(status).encode()),
    )
    assert (reply.status, reply.output) == ("succeeded", "yes")


@pytest.mark.parametrize("response", [{}, {"status_code": 0, "body": None}, None, ""])
def test_an_error_beside_an_empty_response_is_the_reason(response):
    """Some servers write an empty response where others write null."""
    error = {"code": "batch_expired", "message": "late"}
    reply = decode("chat", json.dumps({"custom_id": "k", "response": response, "error": error}).encode())
    assert (reply.status, reply.error.code) == ("expired", "batch_expired")


def test_a_response_without_a_status_word_that_has_an_answer_is_complete():
    """Not every server of `responses` says so."""
    assert decode("responses", openai_line({"output": [message("yes")]})).output == "yes"


def test_a_gemini_response_of_another_shape_is_not_bought_again():
    """As at the others: it was answered, so it may have been paid."""
    reply = decode("google", b'{"key": "k", "response": "yes"}')
    assert (reply.error.code, reply.error.retryable) == ("unreadable_result", False)


@pytest.mark.parametrize("code", [{"code": 3}, {"code": "3"}, {"code": "400"}, {"status": "INVALID_ARGUMENT"}])
def test_a_gemini_refusal_is_for_good_however_its_code_is_written(code):
    """A number, its text, or the word beside it; also beside an empty response."""
    for line in ({"error": code}, {"error": code, "response": {}}):
        reply = decode("google", json.dumps({"key": "k", **line}).encode())
        assert (reply.status, reply.error.retryable) == ("failed", False)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("anthropic", {"custom_id": "k", "result": {"type": "errored", "error": "no room"}}),
        ("chat", {"custom_id": "k", "response": {"status_code": 400, "body": {"error": "no room"}}}),
        ("chat", {"custom_id": "k", "response": None, "error": "no room"}),
        ("google", {"key": "k", "error": "no room"}),
    ],
)
def test_an_error_that_is_a_text_is_shown(name, line):
    """Gateways write it so."""
    assert decode(name, json.dumps(line).encode()).error.message == "no room"


@pytest.mark.parametrize("body", ["not json", "[]", {}, {"object": "something"}, None, 7, {"choices": "x"}])
def test_a_body_of_another_shape_is_not_bought_again(body):
    """It was answered, so it may have been paid; asking again would bring the same."""
    reply = CHAT.decode(openai_line(body), "generate")
    assert (reply.status, reply.error.code, reply.error.retryable) == ("failed", "unreadable_result", False)


def test_an_error_in_the_place_of_an_answer_is_that_error():
    """Some gateways say 200 to everything."""
    reply = CHAT.decode(openai_line({"error": {"code": "model_down", "message": "later"}}), "generate")
    assert (reply.error.code, reply.error.message, reply.error.retryable) == ("model_down", "later", True)


# vectors


def vector(name, numbers: str) -> bytes:
    if name == "google":
        return b'{"key":"k","response":{"embedding":{"values":%b}}}' % numbers.encode()
    return b'{"custom_id":"k","response":{"status_code":200,"body":{"data":[{"embedding":%b}]}}}' % numbers.encode()


@pytest.mark.parametrize("name", ["chat", "google"])
@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "-3.5e38", "9" * 5000, "null", "true", '"1"', "[1]"])
def test_a_vector_with_what_is_not_a_number_is_failed_and_told(name, number):
    """It was `missing`, and bought three times (ollama#14657). What single precision does not hold is infinite in Parquet."""
    reply = decode(name, vector(name, f"[0.5, {number}]"), "embed")
    assert (reply.status, reply.error.code, reply.error.retryable) == ("failed", "unusable_vector", False)


@pytest.mark.parametrize("name", ["chat", "google"])
@pytest.mark.parametrize("note", [{}, {"note": math.nan}], ids=["plain", "odd"])
def test_a_vector_of_large_numbers_is_a_vector(name, note):
    """Each is one of single precision, though the length of the vector is none; also where the line holds something odd."""
    numbers = [3e38, -3e38, 0.5]
    line = json.loads(vector(name, json.dumps(numbers))) | note
    assert decode(name, json.dumps(line).encode(), "embed").output == numbers


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_packed_vector_with_nan_is_failed_and_told(number):
    """It was `succeeded`, with null."""
    packed = base64.b64encode(struct.pack("<2f", 0.5, number)).decode()
    assert CHAT.decode(vector("chat", json.dumps(packed)), "embed").error.code == "unusable_vector"


# what is not needed is read leniently


@everywhere
@pytest.mark.parametrize("odd", [b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"[" * 5000 + b"]" * 5000, b'"\t\x00"'])
def test_what_is_not_needed_does_not_cost_the_answer(name, odd):
    """`NaN` in a logprob threw a paid answer away, and bought it again."""
    line = said(name, "yes")
    for place in (b'{"odd":' + odd + b"," + line[1:], line[:-1] + b',"odd":' + odd + b"}"):
        assert decode(name, place).output == "yes"


@everywhere
@pytest.mark.parametrize("spoiled", [lambda line: line[:-1], lambda line: line[:-3] + b"undefined" + line[-3:]])
def test_a_line_of_which_only_the_key_can_be_read_is_that_rows_line(name, spoiled):
    """Failed and told, and not bought again; the row is not missing."""
    reply = decode(name, spoiled(said(name, "yes")))
    assert (reply.key, reply.status, reply.error.code) == ("k", "failed", "unreadable_result")
    assert not reply.error.retryable


@everywhere
def test_a_key_inside_an_answer_is_not_a_key(name):
    """Only the outermost object says whose line it is."""
    inner = {"custom_id": "other", "key": "other"}
    assert decode(name, called(name, inner)[:-1]).key == "k"


@everywhere
def test_a_providers_words_cannot_forge_a_line_of_the_log(name):
    """Raw escapes and newlines are neither kept nor shown."""
    forged = "bad\x1b[2J\nERROR all is lost\u2028\u202e" + "x" * 1000
    error = {"error": {"code": forged, "type": forged, "message": forged, "status": forged}}
    line = {
        "anthropic": json.dumps({"custom_id": "k", "result": {"type": "errored", **error}}),
        "google": json.dumps({"key": "k", **error}),
    }.get(name, json.dumps({"custom_id": "k", "response": None, **error}))
    told = decode(name, line.encode()).error
    for words in (told.code, told.message):
        assert words.isprintable()
        assert len(words) <= 300
