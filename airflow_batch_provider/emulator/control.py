"""The control routes under `/emulator/`: faults, rules, clock, settings, books, reset."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_batch_provider.emulator.books import books
from airflow_batch_provider.emulator.clock import rfc3339
from airflow_batch_provider.emulator.faults import KINDS
from airflow_batch_provider.emulator.outcomes import Rule

if TYPE_CHECKING:
    from starlette.requests import Request

    from airflow_batch_provider.emulator.core import Emulator

Json = dict[str, Any]


class Control:
    """Handlers that change or show the emulator; a wrong order is a 400 that says what would be right."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self.routes = [
            Route("/emulator/faults", self.faults, methods=["GET", "POST", "DELETE"]),
            Route("/emulator/rules", self.rules, methods=["GET", "POST", "DELETE"]),
            Route("/emulator/clock", self.clock, methods=["GET", "POST"]),
            Route("/emulator/settings", self.settings, methods=["GET", "POST"]),
            Route("/emulator/books", self.books, methods=["GET"]),
            Route("/emulator/reset", self.reset, methods=["POST"]),
        ]

    async def faults(self, request: Request) -> Response:
        """GET the plan, POST one fault or a list, DELETE all."""
        plan = self._emulator.faults
        if request.method == "DELETE":
            plan.clear()
        if request.method == "POST":
            try:
                plan.order(await _orders(request))
            except (ValueError, TypeError) as error:
                return _wrong(error)
        return JSONResponse({"faults": [fault.model_dump() for fault in plan], "kinds": KINDS})

    async def rules(self, request: Request) -> Response:
        """GET the outcome rules, POST one or a list, DELETE all."""
        rules = self._emulator.rules
        if request.method == "DELETE":
            rules.clear()
        if request.method == "POST":
            try:
                rules.extend([Rule.read(order) for order in await _orders(request)])
            except (ValueError, TypeError) as error:
                return _wrong(error)
        return JSONResponse({"rules": [rule.model_dump() for rule in rules]})

    async def clock(self, request: Request) -> Response:
        """GET the emulator's time, POST `{"advance": seconds}`."""
        if request.method == "POST":
            try:
                (order,) = await _orders(request)
                self._emulator.clock.advance(float(order["advance"]))
            except (ValueError, TypeError, KeyError) as error:
                return _wrong(error)
        now = self._emulator.clock.now()
        return JSONResponse({"now": now, "rfc3339": rfc3339(now), "ahead": self._emulator.clock.ahead})

    async def settings(self, request: Request) -> Response:
        """GET the settings, POST those that shall change."""
        if request.method == "POST":
            try:
                (order,) = await _orders(request)
                self._emulator.change(order)
            except (ValueError, TypeError) as error:
                return _wrong(error)
        shown = self._emulator.settings.model_dump()
        # A setting may hold real keys.
        shown["keys"] = None if shown["keys"] is None else len(shown["keys"])
        return JSONResponse(shown)

    async def books(self, _request: Request) -> Response:
        """GET what was bought."""
        return JSONResponse(await asyncio.to_thread(books, self._emulator))

    async def reset(self, _request: Request) -> Response:
        """POST: forget everything but clock and settings."""
        self._emulator.reset()
        return JSONResponse({"reset": True})


async def _orders(request: Request) -> list[Json]:
    value = json.loads(await request.body() or b"{}")
    orders = value if isinstance(value, list) else [value]
    if not all(isinstance(order, dict) for order in orders):
        raise ValueError(f"An order is a JSON object, not {value!r}.")
    return orders


def _wrong(error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status_code=400)
