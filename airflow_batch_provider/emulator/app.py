"""The ASGI application: the page, the control routes, and the three services behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.middleware import Middleware
from starlette.routing import Mount, Route, Router

from airflow_batch_provider.emulator.control import Control
from airflow_batch_provider.emulator.endpoint import Cut, cut_in_process
from airflow_batch_provider.emulator.gateway import Gateway
from airflow_batch_provider.emulator.guard import Guard
from airflow_batch_provider.emulator.page import Page

if TYPE_CHECKING:
    from airflow_batch_provider.emulator.core import Emulator


def create_app(emulator: Emulator, cut: Cut = cut_in_process, *, loopback: bool = False) -> Router:
    """Return the application for `emulator`.

    `cut` ends the connection of a request, and raises where there is no socket. With `loopback` page and control routes
    answer only to names of this machine.
    """
    page = Route("/", Page(emulator).show, methods=["GET"], middleware=[Middleware(Guard, loopback=loopback)])
    control = Mount("/emulator", app=Control(emulator).app(loopback=loopback))
    return Router([page, control, *Gateway(emulator, cut).routes])
