"""Every message of an error of this package, from the calls that raise it, with its remedy."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import tomllib
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import airflow_batch_provider
from airflow_batch_provider import exceptions

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(airflow_batch_provider.__file__).parent
# Their errors are for those who run them, and say what they want on the screen.
_NOT_OURS = {"demo", "emulator"}
_OURS = {name for name, one in vars(exceptions).items() if inspect.isclass(one) and issubclass(one, Exception)}
# What a value says that is checked when it is made; people read it in the message "… does not fit …".
_CLASSES = _OURS | {"ValueError"}
_SENTENCE = re.compile(r"(?<=[.!?…])\s+(?=[A-Z`])")
# A message that only passes on what another error said has no words of its own.
_FEWEST_WORDS = 3
NOTES = Path(__file__).with_name("remedies.toml")


@dataclass(frozen=True)
class Message:
    """One message: the class that carries it, the module that raises it, its text with … for values."""

    error: str
    module: str
    text: str

    @property
    def fact(self) -> str:
        """What happened."""
        return self._parts[0]

    @property
    def remedy(self) -> str:
        """What to do: the note about the message, or else what it says itself after the fact; empty without either."""
        return notes().get(self.text, self._parts[1])

    @property
    def _parts(self) -> tuple[str, str]:
        # What a value says of itself is one clause of a sentence, and its remedy another.
        if self.error == "ValueError" and "; " in self.text:
            fact, _, rest = self.text.partition("; ")
            return fact, rest
        fact, _, rest = _SENTENCE.sub("\n", self.text, count=1).partition("\n")
        return (fact, rest) if _words(fact) > 1 and _words(rest) else (self.text, "")


@cache
def notes() -> dict[str, str]:
    """What to do about messages that do not say it themselves, by their text."""
    return dict(tomllib.loads(NOTES.read_text(encoding="utf-8")))


def all_messages() -> list[Message]:
    """Every message that the package can raise, each once."""
    found: dict[Message, None] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE)
        if name.parts[0] not in _NOT_OURS:
            module = ".".join(["airflow_batch_provider", *name.with_suffix("").parts]).removesuffix(".__init__")
            found |= dict.fromkeys(_messages_of(module, path.read_text(encoding="utf-8")))
    return list(found)


def _messages_of(module: str, code: str) -> Iterator[Message]:
    constants = vars(importlib.import_module(module))
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _CLASSES and node.args:
            text = " ".join(_text(node.args[0], constants).split())
            if _words(text) >= _FEWEST_WORDS:
                yield Message(node.func.id, module, text)


def _words(text: str) -> int:
    return len(re.findall(r"[A-Za-z]{2,}", text))


def _text(node: ast.expr, constants: dict[str, object]) -> str:
    """Return the words of a message; a value that is only known at run time is an ellipsis."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_text(part, constants) for part in parts)
        case ast.BinOp(left=left, right=right, op=ast.Add()):
            return _text(left, constants) + _text(right, constants)
        case ast.FormattedValue(value=ast.Name(id=name)) if name.isupper() or name.startswith("_"):
            value = constants.get(name)
            return value if isinstance(value, str) else "…"
        case _:
            return "…"


def messages() -> str:
    """Every message by its class, in the order of the page's own sections."""
    by_class: dict[str, list[Message]] = defaultdict(list)
    for one in all_messages():
        by_class[one.error].append(one)
    return "\n".join(line for error in sorted(by_class) for line in _table(error, by_class[error]))


def _table(error: str, found: list[Message]) -> Iterator[str]:
    yield f"### Messages of `{error}`\n"
    yield "| message | what to do |"
    yield "|---|---|"
    for one in sorted(found, key=lambda message: message.fact):
        yield f"| {_cell(one.fact)} | {_cell(one.remedy)} |"
    yield ""


def _cell(text: str) -> str:
    """Return a message as a cell of a table: nothing in it is markup."""
    return "".join(f"&#{ord(letter)};" if letter in "|*_`<>[]{}\\&#$^~:=" else letter for letter in text)
