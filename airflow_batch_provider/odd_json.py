"""What JSON is written by some programs and models though it is none, in words that help more than those of a reader."""

from __future__ import annotations

import json


def oddity(text: str | bytes) -> str | None:
    """Say what a text holds that keeps it from being JSON, without the text itself; None where it is broken otherwise.

    Python's own reader takes both: numbers that JSON does not have, and halves of surrogate pairs.
    """
    words: list[str] = []
    try:
        value = json.loads(text, parse_constant=words.append)
        if words:
            return f"holds {words[0]}, which JSON does not have"
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return "holds a lone surrogate"
    except (ValueError, RecursionError):
        return None
    return None
