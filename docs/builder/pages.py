"""The pages of the site: those of the repository, with what is made from the code in its place.

A page stands where people read it in the repository, and its links lead to files there. On the site the readme is the first
page, and each source file that a page links has a page with its code.
"""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path, PurePosixPath

from commands import commands
from definitions import connections, settings
from messages import messages

ROOT = Path(__file__).parents[2]
# Pages that stand elsewhere than in `docs`, and what they are called on the site.
_ELSEWHERE = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "benchmarks.md",
}
# `<!-- made: settings -->` on a page is replaced by what the function returns.
_MADE = {"commands": commands, "connections": connections, "messages": messages, "settings": settings}
_MARK = re.compile(r"^<!-- made: (\w+) -->$", re.MULTILINE)
_LINK = re.compile(r"(?<=\]\()(?!https?:|#|mailto:)([^)#\s]+)")
_LANGUAGES = {".py": "python", ".md": "markdown", ".toml": "toml", ".js": "javascript"}


def repository_pages() -> list[Path]:
    """Every page of the site that stands in the repository."""
    elsewhere = [ROOT / name for name in _ELSEWHERE if (ROOT / name).exists()]
    return [*elsewhere, *sorted((ROOT / "docs").rglob("*.md"))]


def write_pages(folder: Path) -> None:
    """Write every page of the site, as Markdown."""
    sources: set[Path] = set()
    for path in repository_pages():
        text = _MARK.sub(lambda found: _MADE[found[1]](), path.read_text(encoding="utf-8"))
        _write(folder / _place(path), _LINK.sub(partial(_relinked, path, sources), text))
    for path in sources:
        _write(folder / _place(path), _source_page(path))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _place(path: Path) -> PurePosixPath:
    """Return where a file of the repository is on the site."""
    name = PurePosixPath(path.relative_to(ROOT))
    if str(name) in _ELSEWHERE:
        return PurePosixPath(_ELSEWHERE[str(name)])
    if name.parts[0] == "docs":
        return name.relative_to("docs")
    return PurePosixPath("source", f"{name}.md")


def _relinked(page: Path, sources: set[Path], found: re.Match[str]) -> str:
    link = found[1]
    target = (page.parent / link).resolve()
    if not target.is_file():
        return link  # the strict build tells what is wrong with it
    if target not in repository_pages() and not target.is_relative_to(ROOT / "docs"):
        sources.add(target)
    return os.path.relpath(_place(target), _place(page).parent)


def _source_page(path: Path) -> str:
    """Return a page with the code of a file, which the search leaves out."""
    language = _LANGUAGES.get(path.suffix, "text")
    text = path.read_text(encoding="utf-8")
    return f"---\nsearch:\n  exclude: true\n---\n\n# {path.relative_to(ROOT)}\n\n~~~~~~{language}\n{text}\n~~~~~~\n"
