"""What lies below the SDKs: lines, waits, ids, addresses, keys, faults."""

from __future__ import annotations

import ssl
import time
from datetime import UTC, datetime

import httpx2
import pytest
from pydantic import SecretStr

from airflow_batch_provider.exceptions import Denied, NotFound, Paused, Rejected, Unavailable, UsageError
from airflow_batch_provider.models import Account
from airflow_batch_provider.providers import connect, faults, http, untrusted
from airflow_batch_provider.providers.lines import jsonl


def account(**fields) -> Account:
    return Account(**{"provider": "openai", "api_key": SecretStr("sk-1"), **fields})


async def lines(*chunks: bytes) -> list[bytes]:
    async def source():
        for chunk in chunks:
            yield chunk

    return [line async for line in jsonl(source())]


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([], []),
        ([b"a\nb\n"], [b"a", b"b"]),
        ([b"a\nb"], [b"a", b"b"]),
        ([b"a", b"b", b"\n", b"c"], [b"ab", b"c"]),
        ([b"\n\n  \na\n\n"], [b"a"]),
        ([b"a\r", b"\nb"], [b"a\r", b"b"]),
        (["x\u2028y\u2029z\u0085\n".encode()], ["x\u2028y\u2029z\u0085".encode()]),
    ],
)
async def test_lines_end_at_newlines_only(chunks, expected):
    """Wherever the chunks were cut."""
    assert await lines(*chunks) == expected


async def test_a_long_line_costs_no_more_than_its_length():
    """Twice the chunks take about twice the time, not four times: 32 MB in small pieces in well under a second each."""
    began = time.process_time()
    (line,) = await lines(*[b"x" * 1024] * 32_768)
    assert len(line) == 32 * 1024 * 1024
    assert time.process_time() - began < 5


NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "99999999"}, 3600.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Fri, 20 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Fri, 20 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "Fri, 20 Nov 2036 11:00:00 GMT"}, 3600.0),
    ],
)
def test_a_wait_is_read_from_any_of_its_spellings(headers, seconds):
    """Seconds, milliseconds or a date; bounded; nonsense is ignored."""
    assert http.retry_after(headers, NOW) == seconds


def test_a_date_counts_from_the_reply_that_carries_it():
    """Our clock may be wrong; without any clock there is no wait to tell."""
    until = {"retry-after": "Fri, 20 Nov 2026 12:00:30 GMT"}
    assert http.retry_after({**until, "date": "Fri, 20 Nov 2026 12:00:20 GMT"}) == 10.0
    assert http.retry_after(until) is None


@pytest.mark.parametrize("good", ["batch_abc123", "msgbatch_013Zva2C", "a", "file-1", "batch_" + "bGl0ZWxsbQ=="])
def test_an_id_is_letters_digits_and_a_few_signs(good):
    """As the providers and the proxies before them write them."""
    assert untrusted.checked_id(good) == good


@pytest.mark.parametrize("bad", [None, 7, "", ".", "..", "a/b", "a\n", "-a", "a" * 513, "a b", "{x}", "a%00"])
def test_anything_else_is_not_an_id(bad):
    """The message quotes it, bounded."""
    with pytest.raises(Rejected) as caught:
        untrusted.checked_id(bad)
    assert caught.value.code == "invalid_id"
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("key", ["", "   ", "two words", "new\nline", "ümlaut", "nul\0"])
def test_a_key_that_no_header_holds_is_denied(key):
    """The message names the way without a key, and does not quote this one."""
    with pytest.raises(Denied, match=r"airflow_batch_provider\.emulator") as caught:
        http.api_key(account(api_key=SecretStr(key)))
    assert not key.strip() or key not in str(caught.value)


def test_a_key_may_have_been_pasted_with_a_newline():
    """What surrounds it is not part of it."""
    assert http.api_key(account(api_key=SecretStr(" sk-1\n"))) == "sk-1"


@pytest.mark.parametrize("address", ["ftp://x", "x", "http://", "http://u:secret@x/v1", "http://[::1"])
def test_a_base_url_is_plain_http(address):
    """A password in it would end in logs, so it is refused and not quoted."""
    with pytest.raises(UsageError) as caught:
        http.base_url(account(base_url=address), "https://default")
    assert "secret" not in str(caught.value)


def test_without_a_base_url_the_default_counts():
    """And a slash at the end is none."""
    assert http.base_url(account(), "https://default") == "https://default"
    assert http.base_url(account(base_url="http://127.0.0.1:1/v1/"), "https://default") == "http://127.0.0.1:1/v1"


@pytest.mark.parametrize("seconds", [0, -1, "10", True, float("inf"), float("nan")])
def test_a_time_out_is_a_number_of_seconds(seconds):
    """Anything else is refused when the connection is opened."""
    with pytest.raises(UsageError):
        http.http_client(account(options={"timeout": seconds}))


async def test_the_client_waits_as_long_as_it_is_told_and_follows_nobody():
    """Connecting never takes longer than ten seconds; a redirect could carry the key elsewhere."""
    async with http.http_client(account(options={"timeout": 33})) as client:
        assert (client.timeout.read, client.timeout.connect) == (33, 10)
        assert not client.follow_redirects


@pytest.mark.parametrize("name", ["anthropic", "openai", "google"])
async def test_the_trusted_cas_are_read_once_for_all_accounts(name, monkeypatch):
    """An SDK that read them for each of its clients would cost every run of a task some 50 ms of processor time."""

    def read(*_args, **_options):
        pytest.fail("the CAs were read again")

    await connect(account(provider=name)).aclose()
    monkeypatch.setattr(ssl, "create_default_context", read)
    monkeypatch.setattr(httpx2, "create_ssl_context", read)

    await connect(account(provider=name)).aclose()


@pytest.mark.parametrize(
    ("error", "ambiguous"),
    [
        (httpx2.ConnectError("refused"), False),
        (httpx2.ConnectTimeout(""), False),
        (httpx2.PoolTimeout(""), False),
        (httpx2.ReadTimeout(""), True),
        (httpx2.WriteError(""), True),
        (httpx2.RemoteProtocolError("cut"), True),
        (OSError("disk"), True),
    ],
)
def test_only_what_was_never_sent_is_certain_to_have_had_no_effect(error, ambiguous):
    """Whether the SDK wraps the fault or not."""
    wrapped = RuntimeError("Connection error.")
    wrapped.__cause__ = error
    for given in (error, wrapped):
        fault = faults.unreachable(given, "Creating batch t-1")
        assert fault.ambiguous is ambiguous
        assert "Creating batch t-1" in str(fault)


@pytest.mark.parametrize(
    ("status", "pauses", "kind"),
    [
        (302, False, Rejected),
        (400, False, Rejected),
        (401, False, Denied),
        (402, False, Paused),
        (403, False, Denied),
        (404, False, NotFound),
        (409, False, Unavailable),
        (413, False, Rejected),
        (429, False, Unavailable),
        (429, True, Paused),
        (500, False, Unavailable),
        (529, False, Unavailable),
    ],
)
def test_a_status_means_the_same_at_all_providers(status, pauses, kind):
    """One table; 429 surely did nothing, the other passing faults may have."""
    error = faults.refused(faults.Fault("Anthropic", status, "because", "a_code", 3.0, pauses))
    assert type(error) is kind
    assert f"Anthropic answered {status} a_code: 'because'." in str(error)
    if isinstance(error, Unavailable):
        assert error.ambiguous is (status != 429)
        assert error.retry_after == 3.0


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b'{"a":"\\ud83d"}', {"a": "?"}),
        (b'{"a":"\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        (b'{"a":"\xff"}', {"a": "\ufffd"}),
        (b'{"a":123456789012345678901234567890}', {"a": 123456789012345678901234567890}),
        (b'{"a":NaN,"b":-Infinity,"c":1}', {"a": None, "b": None, "c": 1}),
        (b'{"a":1e999,"b":1}', {"a": None, "b": 1}),
        (b'{"a":' + b"9" * 5000 + b',"b":1}', {"a": None, "b": 1}),
    ],
)
def test_a_character_or_number_that_is_not_json_costs_no_row(line, value):
    """An answer cut at max_tokens may end within a surrogate pair."""
    assert untrusted.read_object(line) == value


@pytest.mark.parametrize("line", [b"", b"[]", b"null", b"{", b"<html>", b'{"a":NaN', b"[" * 100_000 + b"]" * 100_000])
def test_a_line_that_is_not_an_object_is_rejected_without_its_content(line):
    """It may hold anything, so only its length is told."""
    with pytest.raises(Rejected, match=f"{len(line)} bytes"):
        untrusted.read_object(line)
