"""Work in chunks: how much is done by one statement must not be seen in what comes out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from market_spine.assets import compute, ingest
from market_spine_tests.journeys.stage import OTC, T1, Scene, key, lines, put, staged, text

KEYS = [key(week, tier) for week in ("2025-11-14", "2025-11-21") for tier in (T1, OTC)]


def folder(path: Path) -> Path:
    for number, week in enumerate(KEYS):
        put(path, week, text([*lines(week, 20 + number), "too short"]))
    return path


def outcome(stage: Scene) -> list[tuple[Any, ...]]:
    stage.refresh(*KEYS)
    return stage.sql(
        "SELECT table_name, week_ending, tier, content_hash, row_count FROM core_manifest ORDER BY ALL"
    ) + stage.sql("SELECT week_ending, tier, line_no, reason_code, raw_text FROM core_rejects ORDER BY ALL")


def test_chunks_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A window that lacks what stood in the chunk before, a reject that is counted in every chunk."""
    source = f"file:{folder(tmp_path / 'files')}"
    with staged(tmp_path / "whole", source) as stage:
        whole = outcome(stage)
    monkeypatch.setattr(ingest, "CHUNK_BYTES", 1)
    monkeypatch.setattr(compute, "CHUNK_ROWS", 1)
    with staged(tmp_path / "pieces", source) as stage:
        assert outcome(stage) == whole
        batches = stage.counts("core_batches")
    assert batches > (len(KEYS) * 8,), "there were chunks"
    assert sum(row[3] == "FIELD_COUNT" for row in whole if len(row) == 5) == len(KEYS)


def test_rejects_are_capped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of garbage that fills the control database, or whose finding only counts what was stored."""
    monkeypatch.setattr(ingest, "MAX_REJECTS", 5)
    week = KEYS[1]
    put(tmp_path / "files", week, text([*lines(week, 20), *["x"] * 50]))
    with staged(tmp_path / "home", f"file:{tmp_path / 'files'}") as stage:
        stage.run("otc.ingest_week", week)
        assert [at for at, *_ in stage.rejects()] == [22, 23, 24, 25, 26]
        (actual,) = stage.one("SELECT actual FROM core_quality WHERE check_name = 'error_rate'")
        assert actual == "71.4% rejected (50 of 70)"
        (accounted,) = stage.one("SELECT actual FROM core_quality WHERE check_name = 'accounts_for_every_line'")
        assert accounted == "20 rows + 50 rejects"


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    """A bar that stops short of the last partition, or runs over it, where some lack input."""
    told: dict[str, list[tuple[int, int]]] = {}
    source = f"file:{folder(tmp_path / 'files')}"
    with staged(tmp_path / "home", source) as stage:
        spine = replace(stage.spine, progress=lambda name, done, total: told.setdefault(name, []).append((done, total)))
        watched = replace(stage, spine=spine)
        missing = key("2025-11-28")
        watched.run("otc.weekly_refresh", *KEYS, missing)
    assert {"otc_raw", "otc_venue_volume", "otc_symbol_rolling_6w"} <= set(told)
    for name in ("otc_venue_volume", "otc_symbol_rolling_6w"):
        # T1 and OTC of two weeks, and OTC of a third: two ranges, hence two totals.
        assert all(done <= total for done, total in told[name])
        assert told[name][-1][0] == told[name][-1][1]
