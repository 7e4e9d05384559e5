"""Debian's Chromium, driven by Playwright, logged in to a real Airflow."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import httpx2
from playwright.sync_api import expect, sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext

Scheme = Literal["light", "dark"]
WAIT = 30_000  # milliseconds; generous, for a machine with two CPUs that also runs an Airflow


def program() -> str | None:
    """The path of Chromium; None where it is not installed."""
    return shutil.which("chromium")


@contextmanager
def chromium(path: str) -> Iterator[Browser]:
    """A browser while the block runs; what is expected of its pages may take as long as on a busy machine."""
    expect.set_options(timeout=WAIT)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def logged_in(
    browser: Browser,
    url: str,
    username: str,
    password: str,
    scheme: Scheme = "light",
    width: int = 1440,
    height: int = 900,
) -> BrowserContext:
    """A window of its own on Airflow's UI, in the colours that its user chose."""
    login = {"username": username, "password": password}
    reply = httpx2.post(f"{url}/auth/token", json=login, trust_env=False, timeout=60)
    reply.raise_for_status()
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, base_url=url, timezone_id="Europe/Berlin"
    )
    context.add_cookies([{"name": "_token", "value": reply.json()["access_token"], "url": url}])
    context.add_init_script(f"localStorage.setItem('theme', '{scheme}')")
    context.set_default_timeout(WAIT)
    return context
