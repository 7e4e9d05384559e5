"""Keep pages of other sites from the control routes: a browser reaches every port of the machine it runs on."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


class Guard:
    """ASGI middleware that refuses cross-site instructions and, with `loopback`, host names of other machines.

    A page can make its visitor's browser POST here, and can read answers under a name of its own that resolves to
    127.0.0.1 (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, *, loopback: bool) -> None:
        self._app = app
        self._loopback = loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 403 with the reason."""
        if reason := self._refusal(Request(scope)):
            await JSONResponse({"error": reason}, status_code=403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, request: Request) -> str | None:
        host = request.headers.get("host", "")
        if self._loopback and not is_loopback(_hostname(host)):
            return f"The emulator serves this machine only, not the host {host!r}. Call it as 127.0.0.1 or localhost."
        if request.method not in ("GET", "HEAD") and _is_cross_site(request, host):
            return "A page of another site may not change anything. Call the emulator from a program."
        return None


def is_loopback(host: str) -> bool:
    """Return whether only this machine can mean itself by that name or address."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _hostname(netloc: str) -> str:
    try:
        return urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return ""


def _is_cross_site(request: Request, host: str) -> bool:
    if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return True
    origin = request.headers.get("origin")
    return origin is not None and origin.partition("://")[2] != host
