"""The published file: the manifest's answers as views and macros, and a swap that no reader notices."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from market_spine.domain.captures import View
from market_spine.store.manifest import Question, captures
from market_spine.store.publish import Extra, copy_control_tables, create_relations, publish
from market_spine.store.schema import TABLES
from market_spine.store.store import Store
from market_spine_tests.store.builders import RAW, SALES, WEEK, at, batch, delivery, quality, reject
from market_spine_tests.store.test_manifest import Held, histories, shared, store_rows
from market_spine_tests.store.test_relations import capture_rows

__all__ = ["shared"]
OTHER = "otc_venue_share"
LONG = Extra("finra_otc_transparency_raw", f"CREATE OR REPLACE VIEW finra_otc_transparency_raw AS SELECT * FROM {RAW}")


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def symbols(path: Path, relation: str) -> list[str]:
    return [row[0] for row in rows(path, f"SELECT symbol FROM {relation} ORDER BY ALL")]


@pytest.fixture
def three(sqlite_store: Store) -> Store:
    """One partition with three revisions: A, then B in its place, then B and C."""
    capture_rows(sqlite_store, 0, ["A"])
    capture_rows(sqlite_store, 10, ["B"])
    capture_rows(sqlite_store, 86_400, ["B", "C"])
    return sqlite_store


def test_the_file_answers_as_the_manifest_does(three: Store) -> None:
    """Prevents people who open the file from seeing other versions than the commands show."""
    path = publish(three, {RAW: SALES, OTHER: SALES}, [])
    assert path == three.home.published
    assert symbols(path, RAW) == ["B", "C"]
    assert symbols(path, f"{RAW}_first_release()") == ["A"]
    assert symbols(path, f"{RAW}_revisions()") == ["A", "B", "B", "C"]
    for seconds, found in [(-1, []), (0, ["A"]), (9, ["A"]), (10, ["B"]), (86_400, ["B", "C"])]:
        assert symbols(path, f"{RAW}_asof(TIMESTAMPTZ '{at(seconds)}')") == found
        assert symbols(path, f"{RAW}_asof('{at(seconds).isoformat()}')") == found
    assert rows(path, f"SELECT DISTINCT revision FROM {RAW}") == [(3,)]
    for relation in (OTHER, f"{OTHER}_first_release()", f"{OTHER}_revisions()", f"{OTHER}_asof('2030-01-01')"):
        assert symbols(path, relation) == []


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo"])
@pytest.mark.parametrize("written", ["'{}'", "DATE '{}'", "CAST('{}' AS VARCHAR)"])
def test_a_day_means_its_end_in_utc_as_on_the_command_line(three: Store, zone: str, written: str) -> None:
    """Prevents a day from meaning its first moment, in the zone of whoever opened the file."""
    path = publish(three, {RAW: SALES}, [])
    with duckdb.connect(str(path), read_only=True) as connection:
        connection.execute(f"SET TimeZone = '{zone}'")
        for day, found in [("2025-12-14", []), ("2025-12-15", ["B"]), ("2025-12-16", ["B", "C"])]:
            select = f"SELECT symbol FROM {RAW}_asof({written.format(day)}) ORDER BY ALL"
            assert [row[0] for row in connection.execute(select).fetchall()] == found


@given(histories(), st.integers(-1, 4))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_macros_choose_the_captures_that_the_manifest_chooses(
    shared: Any, tmp_path: Path, history: list[Held], seconds: int
) -> None:
    """Prevents two implementations of one question from parting on ties and overwritten captures."""
    tables = {"otc_raw": SALES, OTHER: SALES}
    with shared.write() as connection:
        store_rows(connection, history)
    with duckdb.connect() as engine, shared.read() as connection:
        copy_control_tables(connection, engine)
        every = captures(connection, Question(tuple(tables), View.ALL_REVISIONS))
        for one in every:
            path = tmp_path / one.file_path
            path.parent.mkdir(parents=True, exist_ok=True)
            engine.execute(f"COPY (SELECT 'S' AS symbol, 1 AS shares, 1 AS trades) TO '{path}' (FORMAT parquet)")
        create_relations(engine, tables, every, tmp_path)
        asked = {
            "": Question(tuple(tables)),
            f"_asof(TIMESTAMPTZ '{at(seconds)}')": Question(tuple(tables), View.AS_OF, at(seconds)),
            "_first_release()": Question(tuple(tables), View.FIRST_RELEASE),
            "_revisions()": Question(tuple(tables), View.ALL_REVISIONS),
        }
        for suffix, question in asked.items():
            wanted = [one.capture_id for one in captures(connection, question)]
            found = [
                row for name in tables for row in engine.execute(f"SELECT capture_id FROM {name}{suffix}").fetchall()
            ]
            assert sorted(row[0] for row in found) == sorted(wanted)


def test_control_tables_are_copied_with_their_types(store: Store, tmp_path: Path) -> None:
    """Prevents moments and days from reaching BI tools as texts, and rows from being left behind."""
    first = capture_rows(store, 0, ["A"])
    from market_spine.store.commit import commit

    seen = [quality(captured=first)]
    commit(store.control, store.home, batch(deliveries=[delivery(first)], rejects=[reject(1)], quality=seen))
    path = publish(store, {RAW: SALES}, [])
    counted = {table.name: rows(path, f"SELECT count(*) FROM {table.name}")[0][0] for table in TABLES}
    filled = {"core_batches": 2, "core_manifest": 1, "core_deliveries": 1, "core_rejects": 1, "core_quality": 1}
    filled["core_events"] = 2  # of the capture and of the delivery
    assert counted == dict.fromkeys((table.name for table in TABLES), 0) | filled
    (row,) = rows(path, "SELECT week_ending, captured_at, file_bytes, row_count, landing_id FROM core_manifest")
    assert row[:2] == (date(2025, 11, 14), datetime(2025, 12, 15, 15, tzinfo=UTC))
    assert row[2:] == (rows(path, "SELECT file_bytes FROM core_manifest")[0][0], 1, "2" * 64)
    types = {row[0]: row[1] for row in rows(path, "DESCRIBE core_manifest")}
    assert (types["captured_at"], types["week_ending"]) == ("TIMESTAMP WITH TIME ZONE", "DATE")
    assert (types["file_bytes"], types["landing_id"]) == ("BIGINT", "VARCHAR")
    stages = rows(path, "SELECT domain, week_ending, tier, stage, tables_complete FROM core_stage_completions")
    assert stages == [("finra.otc_transparency", WEEK, "OTC", "INGESTED", 1)]


def test_an_open_reader_keeps_its_state_while_a_new_file_is_swapped_in(three: Store) -> None:
    """Prevents publishing from waiting for readers, and readers from failing or seeing two states."""
    path = publish(three, {RAW: SALES}, [LONG])
    with duckdb.connect(str(path), read_only=True, config={"access_mode": "READ_ONLY"}) as reader:
        before = reader.execute(f"SELECT symbol FROM {RAW} ORDER BY ALL").fetchall()
        capture_rows(three, 90_000, ["D"])
        assert publish(three, {RAW: SALES}, [LONG]) == path
        assert reader.execute(f"SELECT symbol FROM {RAW} ORDER BY ALL").fetchall() == before == [("B",), ("C",)]
        assert reader.execute("SELECT max(revision) FROM core_manifest").fetchall() == [(3,)]
    assert symbols(path, RAW) == ["D"]
    assert [one.name for one in path.parent.glob("*.duckdb*")] == [path.name]
    assert list(path.parent.glob(".market_spine*")) == []


def test_extras_are_there_after_the_tables_they_read(three: Store) -> None:
    """Prevents the documents' longer names from being forgotten or created before what they show."""
    macro = Extra("otc_named", f"CREATE OR REPLACE MACRO otc_named(x) AS TABLE SELECT * FROM {RAW} WHERE symbol = x")
    path = publish(three, {RAW: SALES}, [LONG, macro])
    assert symbols(path, LONG.name) == ["B", "C"]
    assert symbols(path, "otc_named('C')") == ["C"]


def test_a_failed_publication_leaves_the_old_file_and_nothing_else(three: Store) -> None:
    """Prevents a broken view from costing the file that works, and from leaving one copy a run behind."""
    path = publish(three, {RAW: SALES}, [LONG])
    capture_rows(three, 90_000, ["D"])
    with pytest.raises(duckdb.CatalogException):
        publish(three, {RAW: SALES}, [Extra("bad", "CREATE VIEW bad AS SELECT * FROM missing")])
    assert symbols(path, RAW) == ["B", "C"]
    assert list(path.parent.glob(".market_spine*")) == []


def test_a_fresh_store_can_be_published(sqlite_store: Store) -> None:
    """Prevents the file from being missing, or without columns, until the first week was captured."""
    path = publish(sqlite_store, {RAW: SALES}, [LONG])
    assert [row[0] for row in rows(path, f"DESCRIBE {LONG.name}")][: len(SALES.columns)] == [
        column.name for column in SALES.columns
    ]
