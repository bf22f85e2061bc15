"""Looking after a store: what is begun, verified, rebuilt, swept and published."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from market_spine.domain.errors import StoreError
from market_spine.store.gc import collect
from market_spine.store.store import Store
from market_spine_tests.cli.calls import call


def test_init_may_be_repeated(home: Path) -> None:
    """Prevents a second init from doing something."""
    first, second = call("init"), call("db", "init")
    assert (first.code, second.code) == (0, 0)
    assert "migrations  0001" in first.out
    assert "migrations  none to apply" in second.out
    assert str(home) in " ".join(first.out.split())
    assert "(written)" in first.out
    assert "(written)" not in second.out
    assert (home / "dagster" / "dagster.yaml").is_file()
    assert "spine backfill" in first.out


def test_verify_reads_what_was_landed(own_home: Path) -> None:
    """Prevents evidence that rots unseen: a rebuild rests on it."""
    landed = sorted((own_home / "landing" / "objects").rglob("*.zst"))[0]
    landed.write_bytes(landed.read_bytes()[:-1] + b"?")
    answer = call("verify", "-f", "json")
    assert answer.code == 1
    assert {one["kind"] for one in answer.json()} == {"landing"}
    assert landed.stem[:12] in answer.out


def test_verify_finds_what_was_altered(own_home: Path) -> None:
    """Prevents damage from being found by its consequences only."""
    assert call("verify").code == 0
    files = sorted((own_home / "captures" / "otc_raw").rglob("*.parquet"))
    files[0].write_bytes(files[0].read_bytes()[:-1] + b"?")
    files[1].unlink()
    answer = call("verify")
    assert answer.code == 1
    assert "the file is missing" in answer.out
    assert "sha256" in answer.out
    assert "next: spine rebuild" in answer.out
    assert {one["kind"] for one in call("verify", "-f", "json").json()} == {"capture"}


def test_rebuild_restores_from_landing(own_home: Path) -> None:
    """Prevents the advice of verify from failing."""
    (lost, *_) = sorted((own_home / "captures" / "otc_venue_share").rglob("*.parquet"))
    lost.unlink()
    planned = call("rebuild", "--plan")
    assert "nothing exchanged" in planned.out
    assert call("verify").code == 1
    done = call("rebuild")
    assert done.code == 0, done.err
    assert call("verify").code == 0


def test_rebuild_without_a_journal_is_refused(home: Path) -> None:
    """Prevents a rebuild of nothing from passing for a success."""
    answer = call("rebuild")
    assert (answer.code, "there is no journal" in answer.err) == (2, True)


def test_gc_sweeps_old_left_overs_only(own_home: Path) -> None:
    """Prevents a running writer's file, or a capture, from being swept."""
    folder = next((own_home / "captures" / "otc_raw").rglob("*.parquet")).parent
    for name, age in (("old.tmp", 48 * 3600), ("young.tmp", 60)):
        (folder / name).write_bytes(b"12345")
        moment = os.stat(folder).st_mtime - age
        os.utime(folder / name, (moment, moment))
    planned = call("gc", "--dry-run", "-f", "json")
    assert [Path(one["file"]).name for one in planned.json()] == ["old.tmp"]
    assert (folder / "old.tmp").exists()
    assert "1 files, 5 bytes removed" in call("gc").out
    assert sorted(path.name for path in folder.glob("*.tmp")) == ["young.tmp"]
    assert call("verify").code == 0
    assert "nothing to sweep" in call("gc").out


def published_sql(home: Path) -> str:
    """How the published file finds the rows of otc_raw; they are read as well, so a file that is gone shows."""
    with duckdb.connect(str(home / "market_spine.duckdb"), read_only=True) as engine:
        assert engine.execute("SELECT count(*) > 0 FROM otc_raw").fetchone() == (True,)
        (found,) = engine.execute("SELECT sql FROM duckdb_views() WHERE view_name = 'otc_raw'").fetchall()
    return str(found[0])


@pytest.mark.extended
def test_a_rebuild_publishes_the_files_it_made(own_home: Path) -> None:
    """Prevents a published file that names the files which the rebuild replaced."""
    old = {str(path) for path in (own_home / "captures" / "otc_raw").rglob("*.parquet")}
    assert call("rebuild", "--plan").code == 0
    assert str(own_home) not in published_sql(own_home)  # it came with the copy, and a plan changes nothing
    assert call("rebuild").code == 0
    sql = published_sql(own_home)
    assert str(own_home) in sql
    assert [path for path in old if path in sql] == []


def test_gc_leaves_the_published_file_readable(own_home: Path) -> None:
    """Prevents a sweep that removes what an old published file still names; none is made where there was none."""
    assert call("gc", "--dry-run").code == 0
    assert str(own_home) not in published_sql(own_home)
    for path in (own_home / "captures").rglob("*.parquet"):
        os.utime(path, (0, 0))
    assert call("gc", "--grace-hours", "1").code == 0
    assert call("gc", "--grace-hours", "0").code == 2, "a writer renames before it commits"
    with pytest.raises(StoreError, match="a writer that has not committed yet"):
        collect(Store.at(own_home), datetime.now(UTC), timedelta(minutes=59))
    assert str(own_home) in published_sql(own_home)
    (own_home / "market_spine.duckdb").unlink()
    assert call("gc").code == 0
    assert not (own_home / "market_spine.duckdb").exists()


def test_publish_builds_the_file_anew(own_home: Path) -> None:
    """Prevents a file for people that cannot be made again."""
    path = own_home / "market_spine.duckdb"
    path.unlink()
    answer = call("publish")
    assert answer.code == 0, answer.err
    assert path.stat().st_size > 0
