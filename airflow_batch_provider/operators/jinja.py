"""Texts that Airflow renders with Jinja, in which the braces of JSON stay braces."""

from __future__ import annotations

import re
from typing import Any

# Opens a JSON object or stands before a column's place; nothing of this is an expression of Jinja.
_BRACES = re.compile(r"(?<!\{)\{\{(?=\s*(?:\"(?:[^\"\\]|\\.)*\"\s*:|'(?:[^'\\]|\\.)*'\s*:|\}\})|\{\w+\})")
_RAW = re.compile(r"\{%[-+]?\s*raw\b")
_KEPT = "{{ '{{' }}"


def for_jinja(text: Any) -> Any:
    """Return a text that Jinja renders without touching `{{` where that opens no expression; other values as they are."""
    if not isinstance(text, str) or _RAW.search(text):
        return text
    return _BRACES.sub(_KEPT, text)


def unrendered(text: Any) -> Any:
    """Return what was given to `for_jinja`; a rendered text as it is."""
    return text.replace(_KEPT, "{{") if isinstance(text, str) else text


def has_jinja(text: str) -> bool:
    """Return whether Jinja has something to render in a text of `for_jinja`."""
    rest = text.replace(_KEPT, "")
    return any(mark in rest for mark in ("{{", "{%", "{#"))
