"""Sweeping files that nothing refers to: left-overs of killed writers, of beaten ones, and of rebuilds.

A file that the manifest names is never touched, whatever its age or status. Others wait for a grace period, since a
writer renames its file before it commits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from market_spine.domain.errors import StoreError
from market_spine.store.schema import MANIFEST
from market_spine.store.store import Store

LEAST = timedelta(hours=1)  # from the first file of a chunk to its commit take seconds
GRACE = timedelta(hours=24)  # a run that Dagster watches ends after 2 hours; a command's own has no end


@dataclass(frozen=True, slots=True)
class Collected:
    """What was (or would be) removed; ``younger`` counts what nothing refers to either, and is left for now."""

    files: tuple[Path, ...]
    size: int
    younger: int


def collect(store: Store, now: datetime, grace: timedelta = GRACE, dry_run: bool = False) -> Collected:
    """Remove unreferenced files that were last written before ``now - grace``; StoreError for a grace below `LEAST`."""
    if grace < LEAST:
        raise StoreError(f"a grace of {grace} could take files of a writer that has not committed yet", "use an hour")
    # Files first, manifest second: what is committed in between is then found to be referenced.
    oldest = (now - grace).timestamp()
    candidates = {path: written for path in _candidates(store) if (written := _written_at(path))}
    with store.control.read() as connection:
        referenced = {store.home.captures / path for path in connection.scalars(sa.select(MANIFEST.c.file_path))}
    unnamed = sorted(candidates.keys() - referenced)
    loose = tuple(path for path in unnamed if candidates[path] <= oldest)
    size = sum(path.stat().st_size for path in loose if path.exists())
    if not dry_run:
        for path in loose:
            path.unlink(missing_ok=True)
        for shadow in store.home.root.glob(".rebuild-*"):
            _remove_if_empty(shadow)
    return Collected(loose, size, len(unnamed) - len(loose))


def _written_at(path: Path) -> float | None:
    """When ``path`` was last written; None where a writer has renamed it meanwhile."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None


def _remove_if_empty(folder: Path) -> None:
    for each in sorted((one for one in folder.rglob("*") if one.is_dir()), reverse=True):
        if not any(each.iterdir()):
            each.rmdir()
    if not any(folder.iterdir()):
        folder.rmdir()


def _candidates(store: Store) -> Iterator[Path]:
    home = store.home
    yield from home.captures.rglob("*.parquet")
    for folder in (home.captures, home.landing):
        yield from folder.rglob("*.tmp")
    yield from home.root.glob(".*.tmp*")
    for shadow in home.root.glob(".rebuild-*"):
        yield from (path for path in shadow.rglob("*") if path.is_file())
