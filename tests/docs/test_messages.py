"""The page *Errors*: every class with its cause, every message with its remedy."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from messages import Message, all_messages, messages, notes

from airflow_batch_provider import exceptions

PAGE = Path(__file__).parents[2] / "docs/errors.md"


def test_every_error_has_a_line_that_says_what_to_do():
    """Each class of the package, and no other."""
    classes = {name for name, one in vars(exceptions).items() if isinstance(one, type) and issubclass(one, Exception)}
    rows = re.findall(r"^\| `(\w+)` \|(?:[^|]+\|){4}$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)

    assert sorted(rows) == sorted(classes - {"BatchError"})


def test_every_message_says_what_to_do():
    """In a sentence of its own after the fact, or by a line in docs/builder/remedies.toml."""
    assert [f"{one.module}: {one.text}" for one in all_messages() if not one.remedy] == []


def test_every_note_belongs_to_a_message():
    """A message that was changed takes its note along, or needs none any more."""
    assert set(notes()) - {one.text for one in all_messages()} == set()


def test_the_messages_are_those_of_the_code():
    """Values are left out, texts that modules share are put in, and nothing in them is taken for markup."""
    found = {one.fact: one for one in all_messages()}

    assert len(found) > 150
    assert found["Stage … is defined in a DAG file or script."].remedy.startswith("Put the class into an installed")
    assert messages().count("\n| ") > len(found)
    assert "&#123;&#123; ti&#46;map" not in messages()
    assert "&#123;&#123; ti.map&#95;index &#125;&#125;" in messages()


def test_a_message_is_parted_into_fact_and_remedy():
    """At the end of its first sentence that has words."""
    one = Message("UsageError", "m", "Row … has no key. Give it one. Or two.")

    assert (one.fact, one.remedy) == ("Row … has no key.", "Give it one. Or two.")
    assert Message("UsageError", "m", "Row … has no key: ….").remedy == ""


def codes():
    """Every code that the package itself gives to a row, from the calls that make it."""
    package = Path(exceptions.__file__).parent
    for path in sorted(package.rglob("*.py")):
        if "emulator" not in path.parts:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "RowError":
                    yield from (
                        word.value.value
                        for word in node.keywords
                        if word.arg == "code" and isinstance(word.value, ast.Constant)
                    )


def test_every_reason_of_a_row_is_told():
    """The page about rows without an answer says what each of our own codes means."""
    page = PAGE.with_name("how-to") / "rows-without-an-answer.md"
    told = set(re.findall(r"`(\w+)`", page.read_text(encoding="utf-8").split("## Reasons")[1]))

    assert set(codes()) - told == set()
