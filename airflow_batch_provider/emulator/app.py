"""The ASGI application: the page, the control routes, and the three services behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.routing import Mount

from airflow_batch_provider.emulator.control import Control
from airflow_batch_provider.emulator.gateway import Cut, Gateway, sever
from airflow_batch_provider.emulator.page import Page

if TYPE_CHECKING:
    from airflow_batch_provider.emulator.core import Emulator


def create_app(emulator: Emulator, cut: Cut = sever) -> Starlette:
    """The application for `emulator`; `cut` ends the connection of a request, and raises where there is no socket."""
    gateway = Mount("/", app=Gateway(emulator, cut))
    return Starlette(routes=[Page(emulator).route, *Control(emulator).routes, gateway])
