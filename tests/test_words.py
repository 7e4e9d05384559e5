"""One word for one idea: the glossary of ARCHITECTURE.md has them, and the words before them do not come back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("airflow_batch_provider", "tests", "docs", "example_dags", "benchmarks")
ENDINGS = {".py", ".md", ".html", ".js"}
PAGES = ("README.md", "ARCHITECTURE.md", "Makefile", "pyproject.toml")

# A pattern in any case → the word to use. A pattern matches whole words only; `_` parts the words of a name.
PROSE = {
    r"legs?": "run, process",
    r"voids?|voided": "failed",
    r"parcels?": "payload",
    r"strays?": "orphan",
    r"strangers (rows?|batch(es)?)|rows of strangers?": "foreign batch",
    r"verdicts?": "finding",
    r"standing": "progress",
    r"seal(s|ed|ing)?": "commit, write",
    r"(batch|claim)('s)? tickets?|tickets? json": "receipt",
    r"mend(s|ed|ing)?": "fix",
    r"patience": "retry budget, max_wait",
    r"(take|had (its|her|their)) turns?": "submit lock",
    r"(an?|each|every|first|last|next|another|second|third|single|good|two) looks?": "poll, search, check",
    r"looked at again|looks until done|by looks": "poll",
    r"anew": "again",
    r"passed over": "ignored",
    r"nothing is to be": "No action is needed",
    r"(is|are|was|were) to be (done|polled|bought|planned|asked|settled)": "must be, may be",
    r"of no use": "cannot help, not needed",
    r"(?<!there )(?<!there still )(is|are|was|were) no (?!longer|more|way|reply)\w+": "is not a …",
    r"held against": "checked against",
    r"(stages?|prices?) of one's own": "custom",
    r"for want of": "for lack of",
}
# Names of classes and modules that were: as they were written.
NAMES = {
    "Given": "OpaqueInput",
    "FaultOrder": "FaultInstruction",
    "Hold": "ClaimHandle",
    "Order": "BatchToBuy, Instruction",
    "Parcel": "Payload",
    "Slot": "BatchFiles",
    "StageLegs": "StageRun",
    "Standard": "SuccessCriteria",
    "Standing": "WaveProgress",
    "Ticket": "Receipt",
}
GLOSSARY_LINES = 25


def old_words(line):
    """Yield each old word of a line with the one to use."""
    prose = re.sub(r"_|(?<=[a-z])(?=[A-Z])", " ", line)
    for pattern, better in PROSE.items():
        yield from ((found.group(0), better) for found in re.finditer(rf"\b(?:{pattern})\b", prose, re.IGNORECASE))
    for name, better in NAMES.items():
        yield from ((name, better) for _ in re.finditer(rf"\b{name}\b(?!')", line))


def files():
    for folder in FOLDERS:
        yield from (path for path in sorted((ROOT / folder).rglob("*")) if path.suffix in ENDINGS)
    yield from (ROOT / page for page in PAGES)


def test_no_file_uses_an_old_word():
    """Each is told with its file and line, and the word to use."""
    found = [
        f"{path.relative_to(ROOT)}:{number}: {word!r}; use {better}"
        for path in files()
        if path != Path(__file__)
        and any(old_words(text := path.read_text(encoding="utf-8")))  # quicker than line by line
        for number, line in enumerate(text.splitlines(), 1)
        for word, better in old_words(line)
    ]

    assert found == [], "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        "def take_turn(self):",
        "class StageLegs:",
        "from airflow_batch_provider.operators.given import Given",
        "It is no JSON.",
        "Nothing is to be done.",
        "The first look counts.",
        "provider.looks_until_done = 2",
    ],
)
def test_an_old_word_is_found(line):
    """In names as well as in sentences."""
    assert list(old_words(line))


@pytest.mark.parametrize("line", ["There is no plan.", "It is no longer open.", "It looks like one.", "in their order"])
def test_a_word_that_is_ordinary_english_is_not(line):
    """Only the words that once meant something of ours."""
    assert not list(old_words(line))


def test_the_glossary_is_short():
    """One reads it before one begins."""
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|.*\|$", page.split("\n## Words\n")[1].split("\n## ")[0], re.MULTILINE)

    assert 10 < len(rows) <= GLOSSARY_LINES
