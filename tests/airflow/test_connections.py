"""Airflow connections as accounts: every kind that people have, and what is said when one cannot be used."""

from __future__ import annotations

import json

import pytest
from airflow.sdk import Connection

from airflow_batch_provider.airflow.connections import account, open_account, open_account_in_triggerer
from airflow_batch_provider.emulator.server import EmulatorServer
from airflow_batch_provider.emulator.settings import Progress, Settings
from airflow_batch_provider.exceptions import UsageError
from airflow_batch_provider.hooks import AnthropicBatchHook, BatchHook, GeminiBatchHook, OpenAIBatchHook
from airflow_batch_provider.models import ConnectionRef
from airflow_batch_provider.places import PlaceLimits
from airflow_batch_provider.providers import PROVIDERS, connection_ref

KEY = "sk-test-0123456789"


def connection(conn_type, **fields) -> Connection:
    extra = fields.pop("extra", None)
    return Connection(
        conn_id="paid", conn_type=conn_type, **{"password": KEY} | fields, extra=json.dumps(extra) if extra else None
    )


@pytest.mark.parametrize(
    ("conn_type", "provider"),
    [
        ("anthropic_batch", "anthropic"),
        ("openai_batch", "openai"),
        ("gemini_batch", "google"),
        ("anthropic", "anthropic"),
        ("openai", "openai"),
    ],
)
def test_the_type_names_the_provider(conn_type, provider):
    """The key is the password, and is not shown by anything that prints the account."""
    found = account(connection(conn_type))
    assert (found.provider, found.api_key.get_secret_value(), found.base_url) == (provider, KEY, None)
    assert KEY not in repr(found)


@pytest.mark.parametrize(
    ("extra", "provider"),
    [
        ({"model": "openai:gpt-5"}, "openai"),
        ({"model": "google-gla:gemini-2.5-flash"}, "google"),
        ({"provider": "anthropic"}, "anthropic"),
    ],
)
def test_a_pydantic_ai_connection_names_it_by_its_model(extra, provider):
    """common.ai keeps the model with its provider in `extra`."""
    assert account(connection("pydanticai", extra=extra)).provider == provider


@pytest.mark.parametrize("conn_type", ["pydanticai", "generic", "http"])
def test_the_models_prefix_names_it_for_other_connections(conn_type):
    """`openai:gpt-…` on a generic connection."""
    assert account(connection(conn_type), "openai").provider == "openai"
    with pytest.raises(UsageError, match="names no provider"):
        account(connection(conn_type))


@pytest.mark.parametrize("name", ["api_key", "gemini_api_key"])
def test_a_google_connection_keeps_its_key_in_extra(name):
    """Google Cloud connections have no password; the key is not an option of the account."""
    found = account(connection("google_cloud_platform", password=None, extra={name: KEY, "project": "p"}))
    assert (found.provider, found.api_key.get_secret_value(), found.options) == ("google", KEY, {"project": "p"})


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"host": "https://proxy.example/anthropic/"}, "https://proxy.example/anthropic"),
        ({"host": "proxy.example"}, "https://proxy.example"),
        ({"host": "proxy.example", "schema": "http", "port": 8080}, "http://proxy.example:8080"),
        ({"host": "http://proxy.example", "port": 8080}, "http://proxy.example:8080"),
        ({"host": "http://proxy.example:1234", "port": 8080}, "http://proxy.example:1234"),
        ({"host": "127.0.0.1", "port": 8765}, "http://127.0.0.1:8765"),
        ({"host": "http://[::1]:8765"}, "http://[::1]:8765"),
        ({"extra": {"base_url": "https://proxy.example"}}, "https://proxy.example"),
    ],
)
def test_the_host_is_the_base_url(fields, url):
    """As a whole URL, or in Airflow's parts."""
    assert account(connection("anthropic_batch", **fields)).base_url == url


def test_a_connection_uri_works_as_well():
    """AIRFLOW_CONN_… may hold a URI."""
    found = account(Connection(conn_id="c", uri=f"openai-batch://:{KEY}@127.0.0.1:8765/?api=responses"))
    assert (found.provider, found.base_url, found.options) == ("openai", "http://127.0.0.1:8765", {"api": "responses"})


def test_an_extra_that_is_a_dict_already_is_taken():
    """As Airflow 3.2.2 makes it in `Connection(uri=…)`."""
    made = connection("openai_batch")
    made.extra = {"api": "responses"}

    assert account(made).options == {"api": "responses"}


def test_options_come_from_extra():
    """What the form leaves empty is not an option."""
    extra = {"api": "responses", "organization": "org", "timeout": 30, "project": "", "model": "openai:gpt-5"}
    assert account(connection("openai_batch", extra=extra)).options == {
        "api": "responses",
        "organization": "org",
        "timeout": 30,
    }


def test_the_emulator_needs_no_key():
    """A loopback address takes none."""
    found = account(connection("anthropic_batch", password=None, host="http://127.0.0.1:8765"))
    assert found.api_key.get_secret_value()


def test_a_missing_key_names_the_emulator():
    """Somebody without a key learns how to go on without one."""
    with pytest.raises(UsageError, match=r"'paid' has no API key.*airflow_batch_provider\.emulator"):
        account(connection("anthropic_batch", password=None))


def test_a_model_on_another_providers_connection_is_refused():
    """Before anything is paid, with the way out."""
    with pytest.raises(UsageError, match=r"'paid' of type 'openai_batch' reaches 'openai'.*'openai:<model>'"):
        account(connection("openai_batch"), "anthropic")


@pytest.mark.parametrize("extra", ["{not json", "[1]"])
def test_an_extra_that_is_not_an_object_is_refused_without_showing_it(extra):
    """It may hold a key."""
    broken = Connection(conn_id="paid", conn_type="openai_batch", password=KEY, extra=extra)
    with pytest.raises(UsageError, match="'paid'") as caught:
        account(broken)
    assert extra not in str(caught.value)


async def test_a_missing_connection_says_how_to_make_one():
    """In both processes that ask for it, with the type that the model needs."""
    with pytest.raises(UsageError, match="airflow connections add nowhere --conn-type gemini_batch") as caught:
        open_account(ConnectionRef(conn_id="nowhere", provider="google"))
    assert "AIRFLOW_CONN_NOWHERE=" in str(caught.value)
    with pytest.raises(UsageError, match="airflow connections add nowhere"):
        await open_account_in_triggerer(ConnectionRef(conn_id="nowhere"))


async def test_worker_and_triggerer_read_the_same(monkeypatch):
    """Whichever way Airflow has for them."""
    monkeypatch.setenv("AIRFLOW_CONN_SHARED", json.dumps({"conn_type": "anthropic_batch", "password": KEY}))
    known = ConnectionRef(conn_id="shared", provider="anthropic")
    assert open_account(known) == await open_account_in_triggerer(ConnectionRef(conn_id="shared"))


def test_keys_are_masked_in_logs(monkeypatch):
    """Also one that lies in `extra`, which Airflow masks by its own list of names only."""
    from airflow.sdk._shared.secrets_masker import redact

    extra = {"gemini_api_key": "AIza-test-key-0001"}
    monkeypatch.setenv("AIRFLOW_CONN_G", json.dumps({"conn_type": "google_cloud_platform", "extra": extra}))
    open_account(ConnectionRef(conn_id="g"))
    assert "AIza-test-key-0001" not in redact("the key is AIza-test-key-0001")


def test_a_reference_keeps_the_provider_beside_the_connection():
    """Where the model's name tells it; people read the connection's id only."""
    assert connection_ref("c", "claude-x") == ConnectionRef(conn_id="c", provider="anthropic")
    assert connection_ref("c", "openai:whatever").provider == "openai"
    assert connection_ref("c", "some-model").provider is None
    assert str(connection_ref("c", "claude-x")) == "c"


@pytest.fixture(scope="module")
def emulator():
    with EmulatorServer(Settings(progress=Progress(by="polls", pending=0, running=1, finalizing=0))) as server:
        yield server


def emulated(monkeypatch, emulator, name: str, key: str = "any") -> None:
    hosts = {"anthropic": emulator.anthropic_url, "openai": emulator.openai_url, "gemini": emulator.google_url}
    monkeypatch.setenv(
        f"AIRFLOW_CONN_{name.upper()}_DEFAULT",
        json.dumps({"conn_type": f"{name}_batch", "host": hosts[name], "password": key}),
    )


HOOKS = [(AnthropicBatchHook, "anthropic"), (OpenAIBatchHook, "openai"), (GeminiBatchHook, "gemini")]


@pytest.mark.parametrize(("hook", "name"), HOOKS)
def test_the_test_button_asks_the_provider(monkeypatch, emulator, hook, name):
    """Green with a key that works, red with the provider's words otherwise."""
    emulated(monkeypatch, emulator, name)
    good, said = hook().test_connection()
    assert (good, bool(said)) == (True, True)
    emulated(monkeypatch, emulator, name, key="invalid")
    good, said = hook().test_connection()
    assert not good
    assert "key" in said.lower()


def test_a_hook_works_alone(monkeypatch, emulator):
    """Submit, poll, read, in plain code without any operator."""
    emulated(monkeypatch, emulator, "anthropic")
    hook = BatchHook("anthropic_default")
    handle = hook.submit("claude-sonnet-4-5", ["Say one", "Say two"])
    while not hook.get_status(handle.id).ended:
        pass
    rows = hook.get_results(handle.id)
    assert sorted((row.custom_id, row.status) for row in rows) == [
        ("request-0", "succeeded"),
        ("request-1", "succeeded"),
    ]
    named = hook.get_results(handle.id, custom_ids=["one", "two"])
    assert [(row.custom_id, row.output) for row in named] == [("one", "echo: Say one"), ("two", "echo: Say two")]


def test_a_hook_cancels(monkeypatch, emulator):
    """A batch that is over is not an error."""
    emulated(monkeypatch, emulator, "openai")
    hook = BatchHook("openai_default")
    handle = hook.submit("gpt-4o-mini", ["Say one"])
    hook.cancel(handle.id)
    assert hook.get_status(handle.id).batch_id == handle.id


async def test_a_hook_has_awaitable_clients(monkeypatch, emulator):
    """For async code: one pool of connections for all models."""
    emulated(monkeypatch, emulator, "gemini")
    async with BatchHook("gemini_default") as hook:
        handle = await hook.batch("gemini-2.5-flash").submit(["Say one"])
        assert (await hook.batch("gemini-2.5-flash").get_status(handle.id)).batch_id == handle.id


def test_a_hook_has_no_single_client():
    """Airflow's general `get_conn` says what to use."""
    with pytest.raises(UsageError, match=r"batch\(model\)"):
        BatchHook("c").get_conn()


def test_provider_info_is_what_airflow_expects():
    """Valid by Airflow's own schema, and every path in it exists."""
    from pathlib import Path

    import airflow
    import jsonschema
    from airflow.sdk.module_loading import import_string

    from airflow_batch_provider.get_provider_info import get_provider_info

    info = get_provider_info()
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(info, schema)
    assert info["package-name"] == "airflow-batch-provider"
    for part in ("hooks", "operators", "sensors", "triggers"):
        for module in info[part][0]["python-modules"]:
            __import__(module)
    for entry in info["connection-types"]:
        hook = import_string(entry["hook-class-name"])
        assert (hook.conn_type, hook.hook_name) == (entry["connection-type"], entry["hook-name"])
        assert hook.get_ui_field_behaviour()["relabeling"]["password"] == "API key"
    for decorator in info["task-decorators"]:
        assert callable(import_string(decorator["class-name"]))


def test_provider_info_imports_nothing_heavy():
    """Every Airflow process reads it when it starts."""
    import subprocess
    import sys

    code = (
        "import sys, airflow_batch_provider.get_provider_info as info; info.get_provider_info();"
        "print([name for name in ('airflow', 'pydantic', 'anthropic', 'openai', 'wtforms') if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_airflow_knows_the_connection_types_and_the_section():
    """Discovered by the entry point of the installed package."""
    from airflow.configuration import conf
    from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

    assert {"anthropic_batch", "openai_batch", "gemini_batch"} <= set(ProvidersManagerTaskRuntime().hooks)
    assert conf.get("batch_provider", "poll") == "long"


def test_every_provider_has_a_connection_type():
    """A new provider gets a form."""
    from airflow_batch_provider.airflow.connections import OWN_TYPES

    assert set(OWN_TYPES.values()) == set(PROVIDERS)


def test_forms_on_airflow_3_1_have_the_same_fields(monkeypatch):
    """There, hooks make the form's fields with WTForms, which is only present in the API server."""
    import sys
    from types import ModuleType

    from airflow_batch_provider.connection_forms import FIELDS

    made = ModuleType("wtforms")
    made.FloatField = made.StringField = lambda **fields: fields
    validators = ModuleType("wtforms.validators")
    validators.Optional = lambda: "optional"
    monkeypatch.setitem(sys.modules, "wtforms", made)
    monkeypatch.setitem(sys.modules, "wtforms.validators", validators)
    for hook, _name in HOOKS:
        fields = hook.get_connection_form_widgets()
        assert fields.keys() == FIELDS[hook.conn_type].keys()
        assert all(field["label"] for field in fields.values())


async def test_a_hook_works_where_a_loop_runs_already(monkeypatch, emulator):
    """In a notebook, and inside an async task."""
    emulated(monkeypatch, emulator, "anthropic")
    hook = BatchHook("anthropic_default")

    handle = hook.submit("claude-sonnet-4-5", ["one"])

    assert hook.get_status(handle.id).batch_id == handle.id


@pytest.mark.parametrize(
    ("configured", "extra", "limits"),
    [
        ({}, {}, None),
        ({"MAX_IN_FLIGHT": "4"}, {}, PlaceLimits(batches=4)),
        ({}, {"max_enqueued_tokens": {"gpt-5-mini": 900}}, PlaceLimits(tokens=900)),
        ({"MAX_ENQUEUED_TOKENS": "70"}, {"max_enqueued_tokens": {"gpt-5": 900}}, None),
        ({}, {"max_in_flight": 2, "max_enqueued_tokens": 50}, PlaceLimits(batches=2, tokens=50)),
        ({"MAX_IN_FLIGHT": "4", "MAX_ENQUEUED_TOKENS": "70"}, {"max_in_flight": 2}, PlaceLimits(batches=2, tokens=70)),
    ],
    ids=range(6),
)
def test_limits_of_the_deployment_are_configured_and_those_of_the_connection_win(
    monkeypatch, configured, extra, limits
):
    """In Airflow's own configuration, and in the connection as `open_account` reads it."""
    for name, text in configured.items():
        monkeypatch.setenv(f"AIRFLOW__BATCH_PROVIDER__{name}", text)
    monkeypatch.setenv("AIRFLOW_CONN_PAID", json.dumps({"conn_type": "openai_batch", "password": KEY, "extra": extra}))

    assert PlaceLimits.of(open_account(ConnectionRef(conn_id="paid")), "gpt-5-mini") == limits
