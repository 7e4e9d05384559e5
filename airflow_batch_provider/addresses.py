"""Addresses that users give as paths."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from upath import UPath
from upath.extensions import ProxyUPath


def as_uri(place: Any) -> Any:
    """Return a path of pathlib, universal-pathlib or Airflow (`ObjectStoragePath`) as its URI; anything else as it is."""
    return str(place) if isinstance(place, PurePath | UPath | ProxyUPath) else place
