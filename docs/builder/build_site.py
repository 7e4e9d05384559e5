"""`make docs`: the pages of the repository, completed from the code, as a site in which every link leads somewhere."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from links import broken_links
from pages import ROOT, write_pages

CONFIG = Path(__file__).with_name("zensical.toml")
_ASSETS = ("images", "assets")


def build(folder: Path) -> Path:
    """Build the site below a folder, which is emptied first, and return where it is.

    Raises:
        SystemExit: a page, a docstring or a link is wrong; what and where is on the screen.
    """
    shutil.rmtree(folder, ignore_errors=True)
    write_pages(folder / "pages")
    for name in _ASSETS:
        shutil.copytree(ROOT / "docs" / name, folder / "pages" / name)
    shutil.copy(CONFIG, folder)
    # Docstrings are read from the sources of this repository, whatever is installed.
    env = os.environ | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", str(folder / CONFIG.name)]
    done = subprocess.run(command, cwd=folder, env=env, check=False, capture_output=True, text=True)  # noqa: S603 — our own command
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}\nThe pages are below {folder / 'pages'}; fix them in {ROOT}.")
    if broken := broken_links(folder / "site"):
        sys.exit("\n".join(["Links that lead nowhere:", *broken]))
    return folder / "site"


def main() -> None:
    """Build from the command line."""
    command = argparse.ArgumentParser(description=__doc__)
    command.add_argument("folder", type=Path, nargs="?", default=ROOT / ".docs", help="default: %(default)s")
    print(f"The site is in {build(command.parse_args().folder)}")


if __name__ == "__main__":
    main()
