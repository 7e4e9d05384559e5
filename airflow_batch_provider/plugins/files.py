"""Serves the page's files from the installed package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.staticfiles import StaticFiles

if TYPE_CHECKING:
    from starlette.responses import Response

WWW = Path(__file__).with_name("www")


class PageFiles(StaticFiles):
    """Files that browsers keep, but ask about each time: an upgrade shows at the next load."""

    def __init__(self) -> None:
        super().__init__(directory=WWW)

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """Return the file, or that it has not changed."""
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response
