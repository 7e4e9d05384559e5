"""Control routes, books, page, command line, plugin."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import httpx2
import pytest

from airflow_batch_provider.emulator import Clock, Settings
from airflow_batch_provider.emulator.__main__ import build, connections, main, parser


async def test_the_books_prove_what_was_paid(ask, http):
    """The same prompt bought twice is seen, whatever its keys; a failed row was asked and not bought."""
    for key in ("a", "b"):
        await ask.anthropic_results((await ask.anthropic_batch({key: "same"})).id)
    batch = await ask.openai_chat({"x": "[[emulate:error=overloaded]]"}, metadata={"tag": "t"})
    await ask.openai_end(batch.id)
    books = (await http.get("/emulator/books")).json()
    assert books["bought_twice"] == 1
    assert (books["rows_asked"], books["rows_bought"]) == (3, 2)
    assert [job["keys"] for job in books["jobs"]] == [["a"], ["b"], ["x"]]
    assert books["jobs"][2]["metadata"] == {"tag": "t"}
    assert books["calls"]["anthropic.create"] == 2


async def test_a_deleted_batch_stays_in_the_books(batch_emulator, ask, anthropic):
    """Deleting at the provider does not give the money back."""
    batch = await ask.anthropic_batch({"a": "x"})
    await ask.anthropic_results(batch.id)
    await anthropic.messages.batches.delete(batch.id)
    assert batch_emulator.books()["jobs"][0]["billed"] == 1


async def test_rules_choose_rows(ask, http, batch_emulator):
    """By key pattern, by position, by share, a number of times; the same rows every time."""
    await http.post(
        "/emulator/rules",
        json=[{"do": "error=overloaded", "keys": "bad-*", "times": 1}, {"do": "refusal", "indexes": [0]}],
    )
    prompts = {"good": "1", "bad-1": "2", "bad-2": "3"}
    first = await ask.anthropic_results((await ask.anthropic_batch(prompts)).id)
    assert {key: row.type for key, row in first.items()} == {
        "good": "succeeded",
        "bad-1": "errored",
        "bad-2": "errored",
    }
    assert first["good"].message.stop_reason == "refusal"
    again = await ask.anthropic_results((await ask.anthropic_batch(prompts)).id)
    assert {row.type for row in again.values()} == {"succeeded"}
    await http.delete("/emulator/rules")
    batch_emulator.emulator.rule("error=api", ratio=0.3, provider="anthropic")
    many = {f"k{number}": f"n{number}" for number in range(200)}
    made = [await ask.anthropic_results((await ask.anthropic_batch(many)).id) for _ in range(2)]
    hit = [{key for key, row in rows.items() if row.type == "errored"} for rows in made]
    assert hit[0] == hit[1]
    assert 30 < len(hit[0]) < 90


async def test_orders_over_http(ask, http, batch_emulator):
    """Faults, clock and settings answer with what now holds."""
    made = await http.post("/emulator/faults", json={"route": "anthropic.create", "kind": "status", "status": 529})
    assert made.json()["faults"][0]["status"] == 529
    assert (await http.delete("/emulator/faults")).json()["faults"] == []
    before = batch_emulator.clock.now()
    assert (await http.post("/emulator/clock", json={"advance": 60})).json()["now"] == before + 60
    assert (await http.post("/emulator/settings", json={"progress": {"by": "time"}})).json()["progress"]["by"] == "time"


@pytest.mark.parametrize(
    ("path", "instruction", "sentence"),
    [
        ("faults", {"route": "x", "kind": "y"}, "No fault 'y'. Choose among: status, cut, stall,"),
        ("faults", {"kind": "cut"}, "'route' is missing: for example 'anthropic.create'"),
        ("faults", {"route": "*", "kind": "cut", "when": "later"}, "'when' cannot become 'later'. Choose among: before, after."),
        ("faults", {"route": "*", "kind": "cut", "id": 5}, "No field 'id'. Choose among: after, bytes, code,"),
        ("faults", {"route": "*", "kind": "stall", "seconds": "3"}, "'seconds' cannot become '3': Input should be a valid number."),
        ("faults", {"route": "*", "kind": "status", "status": 7}, "'status' cannot become 7: Input should be greater than"),
        ("faults", {"route": "*", "kind": "status", "retry_after": [1]}, "'retry_after' cannot become [1]: it is seconds, 'date:30'"),
        ("faults", {"route": "*", "kind": "status", "retry_after": "date:x"}, "'retry_after' cannot become 'date:x': it is seconds"),
        ("faults", {"route": "*", "kind": "status", "headers": {"a": 1}}, "'headers.a' cannot become 1: Input should be a valid string."),
        ("faults", {"route": "*", "kind": "cut_body", "bytes": -1}, "'bytes' cannot become -1: Input should be greater than or equal"),
        ("rules", {"do": "refusal", "indexes": [0, "x"]}, "'indexes.1' cannot become 'x': Input should be a valid integer."),
        ("rules", {"do": "nonsense"}, "No outcome 'nonsense'. Choose among: error=…, refusal,"),
        ("rules", {"do": "error=api,times=x"}, "'times' needs a number, not 'x': for example 'times=2'."),
        ("rules", {"keys": "a*"}, "'do' is missing: for example 'error=overloaded'"),
        ("rules", {"do": "refusal", "key": "a*"}, "No field 'key'. Choose among: do, indexes, keys,"),
        ("rules", [1], "An instruction is a JSON object, not [1]."),
        ("clock", {"advance": -1}, "'advance' cannot become -1: Input should be greater than or equal to 0."),
        ("clock", {}, "'advance' is missing: seconds, for example"),
        ("clock", [{"advance": 1}, {"advance": 1}], "This route takes one instruction at a time, not 2."),
        ("settings", {"limit": 1}, "No setting 'limit'. Choose among: anthropic_retention,"),
        ("settings", {"limits": {"google_job": 1}}, "No setting 'google_job'. Choose among: anthropic_bytes,"),
        ("settings", {"progress": {"by": "moon"}}, "'progress.by' cannot become 'moon'. Choose among: time, polls."),
        ("settings", {"progress": {"running": -1}}, "'progress.running' cannot become -1: Input should be greater than or equal to 0."),
        ("settings", {"shuffle": 3}, "'shuffle' cannot become 3: Input should be a valid boolean."),
        ("settings", {"seed": None}, "'seed' cannot become None: Input should be a valid integer."),
        ("settings", {"keys": "sk-secret"}, "'keys' cannot become the given value: Input should be a valid frozenset."),
    ],
)  # fmt: skip
async def test_a_wrong_instruction_says_what_would_be_right(http, path, instruction, sentence):
    answer = await http.post(f"/emulator/{path}", json=instruction)
    assert (answer.status_code, answer.json()["error"][: len(sentence)]) == (400, sentence)


async def test_a_list_with_a_wrong_order_orders_nothing(http, batch_emulator):
    orders = [{"route": "*", "kind": "cut"}, {"route": "*", "kind": "cutt"}]
    assert (await http.post("/emulator/faults", json=orders)).status_code == 400
    assert batch_emulator.faults.all == []


async def test_a_rule_is_shown_as_it_was_ordered(http):
    shown = (await http.post("/emulator/rules", json={"do": "error=api", "times": 2, "indexes": [0]})).json()["rules"]
    assert shown == [{"do": "error=api", "times": 2, "provider": "*", "keys": "*", "indexes": [0], "ratio": 1.0}]


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "fault", 404), ("PUT", "faults", 405), ("GET", "reset", 405)]
)
async def test_an_unknown_control_route_names_the_known_ones(http, method, path, status):
    answer = await http.request(method, f"/emulator/{path}")
    assert (answer.status_code, "faults, rules, clock" in answer.json()["error"]) == (status, True)


async def test_keys_of_settings_are_not_shown(http, batch_emulator):
    """Somebody may have set real ones."""
    await http.post("/emulator/settings", json={"keys": ["sk-secret"]})
    assert "sk-secret" not in (await http.get("/emulator/settings")).text
    assert "sk-secret" not in repr(batch_emulator.emulator.settings)


async def test_reset_forgets(ask, http, batch_emulator):
    """Jobs, files, faults, rules and books; not clock and settings."""
    batch_emulator.faults.add("*", "stall")
    batch_emulator.faults.clear()
    await ask.openai_chat({"a": "x"})
    await http.post("/emulator/reset")
    books = batch_emulator.books()
    assert (books["jobs"], books["files"], books["calls"], books["rows_asked"]) == ([], [], {}, 0)


async def test_time_moves_batches_by_the_clock(batch_emulator, ask, openai):
    """By time, phases begin at their exact moment, even when nobody asked."""
    batch_emulator.emulator.change({"progress": {"by": "time", "pending": 10, "running": 100, "finalizing": 5}})
    batch = await ask.openai_chat({f"r{n}": f"{n}" for n in range(10)})
    batch_emulator.clock.advance(60)
    running = await openai.batches.retrieve(batch.id)
    assert (running.status, running.request_counts.completed) == ("in_progress", 5)
    batch_emulator.clock.advance(1000)
    done = await openai.batches.retrieve(batch.id)
    assert (done.in_progress_at - batch.created_at, done.completed_at - batch.created_at) == (10, 115)


async def test_the_page_escapes_everything(batch_emulator, ask, http, google):
    """Ids, labels and models come from callers; none becomes markup."""
    batch_emulator.emulator.change({"models": ["<b>*"]})
    assert "No batch yet" in (await http.get("/")).text
    await ask.openai_chat({"a": "x"}, metadata={"<script>": "<img src=x onerror=alert(1)>"})
    await google.batches.create(model="<b>m", src=[{"contents": "x"}], config={"display_name": '"><i>'})
    page = (await http.get("/")).text
    assert "<script>" not in page
    assert "<img" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;" in page
    assert "http://127.0.0.1" in page


async def test_an_unknown_path_is_a_404_in_the_providers_words(http):
    """And shared paths are told apart by their key."""
    answer = await http.get("/google/v1/nonsense", headers={"x-goog-api-key": "k"})
    assert (answer.status_code, answer.json()["error"]["status"]) == (404, "NOT_FOUND")
    google = await http.get("/v1/files", headers={"x-goog-api-key": "k"})
    openai = await http.get("/v1/files", headers={"authorization": "Bearer k"})
    assert (google.json(), openai.json()["object"]) == ({}, "list")


async def test_prefixes_serve_the_same(batch_emulator, tls):
    """A results_url keeps the prefix of the caller."""
    from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient

    url = f"{batch_emulator.url}/anthropic"
    async with AsyncAnthropic(base_url=url, api_key="k", http_client=DefaultAsyncHttpxClient(verify=tls)) as client:
        params = {"model": "claude-haiku-4-5", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}
        batch = await client.messages.batches.create(requests=[{"custom_id": "a", "params": params}])
        for _ in range(3):
            batch = await client.messages.batches.retrieve(batch.id)
        assert batch.results_url.startswith(f"{url}/v1/")
        assert [row.custom_id async for row in await client.messages.batches.results(batch.id)] == ["a"]


async def test_hostile_answers(batch_emulator, ask, openai):
    """Separators that split lines elsewhere stay raw inside a line, and a line may be very long."""
    batch_emulator.emulator.change({"separators": True})
    ended = await ask.openai_end((await ask.openai_chat({"a": "x [[emulate:pad=3000000]]"})).id)
    raw = (await openai.files.content(ended.output_file_id)).content
    assert raw.count(b"\n") == 1
    assert "\u2028\u2029\u0085".encode() in raw
    assert len(raw) > 3_000_000


def test_the_command_line(tmp_path):
    """Files name faults and rules; the connections name the right hosts."""
    faults, rules = tmp_path / "faults.json", tmp_path / "rules.json"
    faults.write_text(json.dumps([{"route": "*.create", "kind": "cut"}]))
    rules.write_text(json.dumps([{"do": "refusal", "keys": "a*"}]))
    server = build(
        parser().parse_args(["--port", "0", "--by", "polls", "--faults", str(faults), "--rules", str(rules)])
    )
    assert [fault.kind for fault in server.faults] == ["cut"]
    assert server.emulator.rules[0].keys == "a*"
    assert server.emulator.settings.progress.by == "polls"
    assert not server.emulator.settings.lenient
    server.stop()
    lenient = build(parser().parse_args(["--port", "0", "--lenient"]))
    assert lenient.emulator.settings.lenient
    lenient.stop()
    lines = connections("http://127.0.0.1:8765")
    assert len(lines) == 3
    assert json.loads(lines[1].split("=", 1)[1].strip("'"))["host"].endswith("/v1")


def test_the_plugin_is_light():
    """pytest loads it in every run of everybody who installed us: no SDK, no web framework, until a fixture is used."""
    code = (
        "import sys, airflow_batch_provider.emulator.pytest_plugin\n"
        "heavy = {'starlette', 'uvicorn', 'airflow', 'anthropic', 'openai', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_settings_and_clock_refuse_nonsense():
    """A wrong name or type says what would be right."""
    with pytest.raises(ValueError, match="No setting 'limts'"):
        Settings().changed({"limts": {}})
    with pytest.raises(ValueError, match="cannot become"):
        Settings().changed({"limits": 3})
    with pytest.raises(ValueError, match="forward only"):
        Clock.virtual().advance(-1)


def test_it_runs_as_a_program():
    """`python -m` prints where it is and how to connect, and serves until it is told to end."""
    command = [sys.executable, "-m", "airflow_batch_provider.emulator", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        url = program.stdout.readline().split()[3]
        assert httpx2.get(f"{url}/emulator/books", timeout=30).json()["jobs"] == []
        program.terminate()
        rest = program.stdout.read()
    assert rest.count("AIRFLOW_CONN_") == 3
    assert f"{url}/v1" in rest


@pytest.mark.parametrize(
    ("option", "text", "sentence"),
    [
        ("--faults", '[{"route": "*", "kind": "cutt"}]', "No fault 'cutt'."), ("--faults", '["cut"]', "An instruction is a JSON object"),
        ("--rules", '{"do": "refuzal"}', "No outcome 'refuzal'."), ("--settings", '{"limts": {}}', "No setting 'limts'."),
        ("--settings", "{", "Expecting property name"), ("--rules", None, "No such file"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_a_usage_error(tmp_path, capsys, option, text, sentence):
    """A sentence on the terminal, not a traceback."""
    if text is not None:
        (tmp_path / "orders.json").write_text(text)
    with pytest.raises(SystemExit):
        main(["--port", "0", option, str(tmp_path / "orders.json")])
    assert sentence in capsys.readouterr().err


async def test_two_batches_at_once_lose_nothing(ask, batch_emulator):
    """The books count every row when many batches run side by side."""
    prompts = {f"k{number}": f"same {number}" for number in range(50)}
    made = [(await ask.anthropic_batch(prompts)).id for _ in range(4)]
    await asyncio.gather(*(ask.anthropic_results(batch_id) for batch_id in made))
    books = batch_emulator.books()
    assert {count["bought"] for count in books["prompts"].values()} == {4}


async def test_a_marker_nobody_understands_is_quoted(ask):
    """A typing error in a marker must not pass as a plain answer."""
    results = await ask.anthropic_results((await ask.anthropic_batch({"a": "[[emulate:refuzal]]"})).id)
    assert "refuzal" in results["a"].error.error.message
