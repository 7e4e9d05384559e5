"""Connections made and tested in a real browser, as an administrator does; the key is not shown again anywhere."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from airflow_batch_provider.connection_forms import FIELDS

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from airflow_batch_provider.demo.stack import AirflowStack
    from airflow_batch_provider.emulator.server import EmulatorServer

LABELS = {
    "anthropic_batch": "Anthropic (batch)",
    "openai_batch": "OpenAI (batch)",
    "gemini_batch": "Google Gemini (batch)",
}
FORMS = [
    "anthropic_batch",
    *(pytest.param(name, marks=pytest.mark.slow) for name in LABELS if name != "anthropic_batch"),
]
KEY = "sk-only-the-form-was-told"


def address(emulator: EmulatorServer, conn_type: str) -> str:
    return {
        "anthropic_batch": emulator.anthropic_url,
        "openai_batch": emulator.openai_url,
        "gemini_batch": emulator.google_url,
    }[conn_type]


def form_of(page: Page, conn_type: str) -> Locator:
    """The form for a new connection of this type."""
    page.goto("/connections")
    page.get_by_role("button", name="Add Connection").click()
    form = page.get_by_role("dialog")
    form.get_by_role("combobox").first.click()
    page.keyboard.type(LABELS[conn_type])
    page.keyboard.press("Enter")
    expect(form.get_by_label("API key")).to_be_visible()
    return form


@pytest.mark.slow
@pytest.mark.parametrize("conn_type", LABELS)
def test_the_form_has_the_fields_of_its_type(page: Page, conn_type: str):
    """Those of Airflow under the names that fit here, and each option of the type."""
    form = form_of(page, conn_type)

    assert form.get_by_label("API key").get_attribute("type") == "password"
    for shown in ("Base URL", "Port"):
        expect(form.get_by_label(shown)).to_be_visible()
    for hidden in ("Login", "Schema"):
        expect(form.get_by_label(hidden)).to_have_count(0)
    form.get_by_role("button", name="Extra Fields", exact=True).click()
    for field in FIELDS[conn_type].values():
        expect(form.get_by_text(field["label"], exact=True).first).to_be_visible()


@pytest.mark.parametrize("conn_type", FORMS)
def test_a_connection_is_saved_tested_and_its_key_never_shown_again(
    page: Page, stack: AirflowStack, emulator: EmulatorServer, conn_type: str
):
    """By the *Test* button, which asks the provider; not on the page, not by the API, and in no log."""
    conn_id, url = f"by_hand_{conn_type}", address(emulator, conn_type)
    form = form_of(page, conn_type)
    form.get_by_label("Connection ID").fill(conn_id)
    form.get_by_label("Base URL").fill(url)
    form.get_by_label("Port").fill(str(urlsplit(url).port))
    form.get_by_label("API key").fill(KEY)
    form.get_by_role("button", name="Save").click()
    line = page.get_by_role("row").filter(has_text=conn_id)

    with page.expect_response("**/connections/test") as answer:
        line.get_by_role("button", name="Test Connection").click()

    told = answer.value.json()
    assert (answer.value.status, told["status"]) == (200, True), told
    assert stack.rest.get(f"/connections/{conn_id}")["password"] == "***"
    line.get_by_role("button", name="Edit Connection").click()
    expect(page.get_by_role("dialog").get_by_label("API key")).to_have_value("***")
    assert KEY not in page.content() + json.dumps(told)
    logs = [path for path in stack.home.rglob("*") if path.is_file() and re.search(r"log", path.name)]
    assert len(logs) > 3
    assert [str(path) for path in logs if KEY.encode() in path.read_bytes()] == []
