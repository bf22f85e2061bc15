"""A store with a history that has every hard case, and everything that may happen to it.

What belongs here: making the store, losing parts of it, and reading what it holds. What does not: claims about a repair
(`test_rebuild` of files and rows, `test_exchange` of the database).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from market_spine.assets.rebuild import RebuildReport, rebuild
from market_spine.feeds.otc import FEED
from market_spine.store.schema import JOURNALLED, MANIFEST
from market_spine_tests.journeys.bad_files import row, with_rows
from market_spine_tests.journeys.stage import POLICIES, T1, Scene, key, line, lines, put, staged, text

WEEK, NEXT, BLOCKED = key("2025-11-14"), key("2025-11-21"), key("2025-11-28")
VERSIONED, OVERWRITE, SKIP, MERGE = POLICIES.values()
Content = dict[str, list[tuple[Any, ...]]]
FILES = {"file_path", "file_sha256", "file_bytes"}


@contextmanager
def a_history(folder: Path) -> Iterator[Scene]:
    """Inserts of two tiers, a restatement, a merge, an overwrite, two kinds of blocked weeks, and the calendar."""
    files = folder / "files"
    files.mkdir()
    with staged(folder / "home", f"file:{files}") as stage:
        tier1 = replace(WEEK, tier=T1)
        put(files, WEEK, text([*lines(WEEK, 30), line(WEEK, "", "PPEX", 1, 1), "half a line"]))
        put(files, NEXT, text(lines(NEXT, 30)))
        put(files, tier1, text(lines(tier1, 30)))
        put(files, BLOCKED, with_rows(row(shares=0))(BLOCKED))
        stage.run("otc.weekly_refresh", WEEK, NEXT, tier1, BLOCKED)
        for options, data in (
            (VERSIONED, text(lines(WEEK, 24))),
            (MERGE, text([line(WEEK, "MERGED", "UBSA", 5, 1), *lines(WEEK, 3)])),
            (OVERWRITE, text(lines(WEEK, 26))),
            (MERGE, text([line(WEEK, "AGAIN", "UBSA", 5, 1)])),
            (VERSIONED, b"<html></html>"),
        ):
            stage.clock.forward(days=1)
            put(files, WEEK, data)
            stage.run("otc.ingest_week", WEEK, options=options)
            stage.run("otc.normalize_week", WEEK)
        stage.run("otc.weekly_refresh", WEEK, options=SKIP)
        yield stage


def contents(stage: Scene) -> Content:
    """All rows of the control tables but where the files are and how they are encoded."""
    with stage.spine.store.control.read() as connection:
        return {
            table.name: sorted((tuple(each) for each in connection.execute(sa.select(*_but_files(table)))), key=str)
            for table in JOURNALLED
        }


def _but_files(table: sa.Table) -> list[sa.Column[Any]]:
    return [column for column in table.c if table is not MANIFEST or column.name not in FILES]


def rebuilt(stage: Scene) -> RebuildReport:
    report = rebuild(stage.spine, [FEED])
    assert report.differences == []
    assert report.swapped
    return report


class Killed(Exception):
    """As if the power failed."""


def lose_all_captures(root: Path) -> None:
    shutil.rmtree(root / "captures")


def lose_one_capture(root: Path) -> None:
    sorted(root.rglob("*.parquet"))[3].unlink()


def lose_one_and_alter_another(root: Path) -> None:
    lose_one_capture(root)
    flip_a_byte(root)


def flip_a_byte(root: Path) -> None:
    path = sorted(root.rglob("*.parquet"))[5]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def lose_the_control_database(root: Path) -> None:
    for path in root.glob("control.db*"):
        path.unlink()


def fill_the_control_database_with_garbage(root: Path) -> None:
    lose_the_control_database(root)
    (root / "control.db").write_bytes(b"no database at all " * 1_000)


def tear_the_control_database(root: Path) -> None:
    data = (root / "control.db").read_bytes()
    lose_the_control_database(root)
    (root / "control.db").write_bytes(data[: len(data) // 3] + b"\xff" * 4096 + data[len(data) // 3 + 4096 :])


def empty_the_control_database(root: Path) -> None:
    lose_the_control_database(root)
    (root / "control.db").touch()


def lose_all_but_landing(root: Path) -> None:
    for path in root.iterdir():
        if path.name != "landing":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


LOSSES = (lose_one_and_alter_another, tear_the_control_database, lose_all_but_landing)
MORE_LOSSES = (
    lose_all_captures,
    lose_the_control_database,
    fill_the_control_database_with_garbage,
    empty_the_control_database,
)
