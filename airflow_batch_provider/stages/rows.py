"""Where the rows of a built-in stage come from, and where its results go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from upath import UPath

from airflow_batch_provider.blocks import blocks_of
from airflow_batch_provider.exceptions import BatchError, Unavailable, UsageError
from airflow_batch_provider.folders import task_folders
from airflow_batch_provider.layout import RESULTS
from airflow_batch_provider.ledger import Target
from airflow_batch_provider.scratch import scratch_folder
from airflow_batch_provider.sources import request_blocks
from airflow_batch_provider.stages.config import BatchConfig, names_file
from airflow_batch_provider.stages.spooled import SpooledRows
from airflow_batch_provider.storage import Directory
from airflow_batch_provider.tables.given import given_rows
from airflow_batch_provider.tables.incoming import RETURNED, write_incoming
from airflow_batch_provider.tables.keeping import Keeper

if TYPE_CHECKING:
    from collections.abc import Iterable

    from upath.extensions import ProxyUPath

    from airflow_batch_provider.blocks import InBlocks
    from airflow_batch_provider.stages.config import Source
    from airflow_batch_provider.stages.context import StageContext

# Answers of a storage that takes no file at this place, whenever it is asked; other faults may pass.
_FOR_GOOD = (PermissionError, FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)


@dataclass(frozen=True)
class SourceRows:
    """The rows of a task; they can be gone through again and again.

    Attributes:
        keeper: gathers columns of the rows whenever one goes through them; None where the result is not a table.
    """

    rows: Iterable[Any] | InBlocks
    keeper: Keeper | None = None

    def blocks(self) -> Iterator[list[Any]]:
        """Return the rows in blocks."""
        return blocks_of(self.rows)


@dataclass(frozen=True)
class _FileRows:
    """The rows of a file, read again each time one goes through them."""

    path: UPath | ProxyUPath
    source: Source
    keeper: Keeper | None
    may_be_empty: bool

    def blocks(self) -> Iterator[list[Any]]:
        called = None if self.source.uri else RETURNED
        blocks = request_blocks(self.path, self.source.prompt, self.source.key, self.keeper, called=called)
        first = next(blocks, None)
        if first is not None:
            yield first
            yield from blocks
        elif not self.may_be_empty:
            raise UsageError(
                f"Cannot submit empty batch: {called or self.source.uri} has no rows. Give at least one row, or "
                "on_empty='skip' where a source without rows is right."
            )


@contextmanager
def source_rows(ctx: StageContext[BatchConfig]) -> Iterator[SourceRows]:
    """The rows of the task, for the length of the block."""
    config = ctx.config
    if config.source is None:
        yield from _given_rows(ctx.input)
        return
    with ExitStack() as stack:
        keeper = None if config.kept is None else Keeper(config.kept, config.spec)
        if keeper is not None:
            stack.callback(keeper.close)
        path: UPath | ProxyUPath
        if config.source.uri is None:
            folder = stack.enter_context(scratch_folder())
            write_incoming(ctx.input, folder)
            path = UPath(folder)
        else:
            path = ctx.open_path(config.source.uri)
        yield SourceRows(_FileRows(path, config.source, keeper, config.on_empty == "skip"), keeper)


def _given_rows(value: Any) -> Iterator[SourceRows]:
    rows = given_rows(value)
    if not isinstance(rows, Iterator):
        yield SourceRows(rows)
        return
    with closing(SpooledRows.of(rows)) as spooled:
        yield SourceRows(spooled)


def target_of(ctx: StageContext[BatchConfig]) -> Target:
    """Return the stage's own storage, or the user's file, or a file of the task instance's own in the user's folder.

    Part files go into the user's folder itself.
    """
    config = ctx.config
    more: dict[str, Any] = {"kept": config.kept, "rows_per_file": config.max_rows_per_file, "of_parts": config.format}
    own = RESULTS if config.max_rows_per_file else f"{RESULTS}.{config.format}"
    if config.result_path is None:
        return Target(ctx.storage.directory, own, **more)
    path = ctx.open_path(config.result_path)
    if names_file(config.result_path) or config.max_rows_per_file:
        return Target(Directory(path.parent), path.name, **more)
    return Target(Directory(path), "/".join((*task_folders(ctx.key), own)), **more)


def check_writable(directory: Directory) -> None:
    """Write a file there and delete it.

    Raises:
        UsageError: the place takes no files.
        Unavailable: it takes none now.
    """
    try:
        directory.write(".writable", b"")
        directory.delete(".writable")
    except (*_FOR_GOOD, ValueError) as error:
        raise UsageError(f"{directory} cannot be written: {error}. Change storage_path or result_path.") from error
    except BatchError:
        raise
    except Exception as error:  # the errors of object stores have no common class
        raise Unavailable(f"{directory} cannot be written now: {error!r}", ambiguous=False) from error
