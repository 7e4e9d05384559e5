"""The code on the pages of documentation: its blocks, the files they make, the DAGs they define."""

from __future__ import annotations

import re
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
OUTPUT = "Output"


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its title (the file that it is, or `Output`), its text."""

    language: str
    title: str
    text: str

    @property
    def is_module(self) -> bool:
        """Whether it is part of the page's own module."""
        return self.language == "python" and not self.title


def blocks_of(page: Path) -> list[Block]:
    """Every block of a page, in order."""
    return [Block(*found) for found in _BLOCK.findall(page.read_text(encoding="utf-8"))]


def write_files(blocks: list[Block], folder: Path) -> list[Path]:
    """Write the blocks that are files."""
    files = []
    for block in blocks:
        if block.title and block.title != OUTPUT:
            path = folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
            files.append(path)
    return files


@contextmanager
def dags_of(name: str, code: str, path: Path) -> Iterator[list[Any]]:
    """Run code as the module of a DAG file, which is written, and importable while the block lasts; gives its DAGs."""
    from airflow.sdk.definitions._internal.contextmanager import DagContext

    path.write_text(code, encoding="utf-8")
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    DagContext.current_autoregister_module_name = name
    try:
        exec(compile(code, str(path), "exec"), vars(module))
        yield [dag for dag, defined_in in DagContext.autoregistered_dags if defined_in is module]
    finally:
        DagContext.current_autoregister_module_name = None
        DagContext.autoregistered_dags.clear()
        del sys.modules[name]
