"""The control routes under `/emulator/`: faults, rules, clock, settings, books, reset."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

from pydantic import Field
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_batch_provider.emulator.books import books
from airflow_batch_provider.emulator.clock import rfc3339
from airflow_batch_provider.emulator.faults import KINDS, FaultInstruction
from airflow_batch_provider.emulator.guard import Guard
from airflow_batch_provider.emulator.instructions import Instruction, read_instructions
from airflow_batch_provider.emulator.outcomes import Rule

if TYPE_CHECKING:
    from starlette.requests import Request

    from airflow_batch_provider.emulator.core import Emulator
    from airflow_batch_provider.emulator.jsonl import Json


class _Advance(Instruction):
    advance: Annotated[float, Field(ge=0, allow_inf_nan=False, description='seconds, for example {"advance": 3600}')]


class Control:
    """Handlers that show or change the emulator; a wrong instruction is a 400 that says what would be right."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    def app(self, *, loopback: bool) -> Starlette:
        """Return the routes as an application; with `loopback` it answers only to names of this machine."""
        routes = [
            Route("/faults", self.faults, methods=["GET", "POST", "DELETE"]),
            Route("/rules", self.rules, methods=["GET", "POST", "DELETE"]),
            Route("/clock", self.clock, methods=["GET", "POST"]),
            Route("/settings", self.settings, methods=["GET", "POST"]),
            Route("/books", self.books, methods=["GET"]),
            Route("/reset", self.reset, methods=["POST"]),
        ]
        errors = {ValueError: _wrong, HTTPException: _unknown}
        return Starlette(routes=routes, middleware=[Middleware(Guard, loopback=loopback)], exception_handlers=errors)

    async def faults(self, request: Request) -> Response:
        """GET the plan, POST one fault or a list, DELETE all."""
        plan = self._emulator.faults
        if request.method == "DELETE":
            plan.clear()
        if request.method == "POST":
            plan.extend([FaultInstruction.read(one) for one in read_instructions(await request.body())])
        return JSONResponse({"faults": [fault.model_dump() for fault in plan], "kinds": KINDS})

    async def rules(self, request: Request) -> Response:
        """GET the outcome rules, POST one or a list, DELETE all."""
        rules = self._emulator.rules
        if request.method == "DELETE":
            rules.clear()
        if request.method == "POST":
            rules.extend([Rule.read(one) for one in read_instructions(await request.body())])
        return JSONResponse({"rules": [rule.model_dump() for rule in rules]})

    async def clock(self, request: Request) -> Response:
        """GET the emulator's time, POST `{"advance": seconds}`."""
        if request.method == "POST":
            self._emulator.clock.advance(_Advance.read(await _instruction(request)).advance)
        now = self._emulator.clock.now()
        return JSONResponse({"now": now, "rfc3339": rfc3339(now), "ahead": self._emulator.clock.ahead})

    async def settings(self, request: Request) -> Response:
        """GET the settings, POST those that shall change."""
        if request.method == "POST":
            self._emulator.change(await _instruction(request))
        settings = self._emulator.settings
        # A setting may hold real keys.
        keys = None if settings.keys is None else len(settings.keys)
        return JSONResponse({**settings.model_dump(mode="json"), "keys": keys})

    async def books(self, _request: Request) -> Response:
        """GET what was bought."""
        return JSONResponse(await asyncio.to_thread(books, self._emulator))

    async def reset(self, _request: Request) -> Response:
        """POST: forget everything but clock and settings."""
        self._emulator.reset()
        return JSONResponse({"reset": True})


async def _instruction(request: Request) -> Json:
    instructions = read_instructions(await request.body())
    if len(instructions) != 1:
        raise ValueError(f"This route takes one instruction at a time, not {len(instructions)}.")
    return instructions[0]


async def _wrong(_request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status_code=400)


async def _unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path} is not a control route. Choose among: faults, rules, clock, settings, books, reset."
    return JSONResponse({"error": message}, status_code=error.status_code, headers=error.headers)
