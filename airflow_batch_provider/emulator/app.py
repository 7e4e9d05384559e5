"""The ASGI application: the page, the control routes, and the three services behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Router

from airflow_batch_provider.emulator.control import Control
from airflow_batch_provider.emulator.endpoint import Cut, cut_in_process
from airflow_batch_provider.emulator.gateway import Gateway
from airflow_batch_provider.emulator.page import Page

if TYPE_CHECKING:
    from airflow_batch_provider.emulator.core import Emulator


def create_app(emulator: Emulator, cut: Cut = cut_in_process) -> Router:
    """Return the application for `emulator`; `cut` ends the connection of a request, and raises where there is none."""
    return Router([Page(emulator).route, *Control(emulator).routes, *Gateway(emulator, cut).routes])
