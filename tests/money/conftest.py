"""Worlds whose files live in memory: thousands of small files are written and removed here."""

from __future__ import annotations

import gc
import shutil
import tempfile
import warnings
from pathlib import Path

import pytest
from killable_task import MODELS, World, storage_that_kills

_MEMORY = Path("/dev/shm")


@pytest.fixture(autouse=True)
def memory(monkeypatch):
    """Temporary files in memory where the machine has such a place; it is left empty."""
    home = Path(tempfile.mkdtemp(prefix="money-", dir=_MEMORY if _MEMORY.is_dir() else None))
    monkeypatch.setattr(tempfile, "tempdir", str(home))
    yield home
    with warnings.catch_warnings():  # a worker that was killed closes nothing
        warnings.simplefilter("ignore")
        gc.collect()
    gc.freeze()  # what is left, the modules above all, stays: to look at it again costs more than most of these tests
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(autouse=True)
def dangerous_storage():
    """Whoever writes to storage may die of it."""
    with storage_that_kills():
        yield


@pytest.fixture(params=MODELS)
def name(request):
    return request.param


@pytest.fixture
def world(memory, name):
    """Makes worlds with one provider; each is closed before the next is made."""
    worlds = []

    def make(of=name):
        close(worlds)
        worlds.append(World(Path(tempfile.mkdtemp(dir=memory)), of))
        return worlds[-1]

    yield make
    close(worlds)


def close(worlds):
    while worlds:
        world = worlds.pop()
        world.close()
        shutil.rmtree(world.root)
