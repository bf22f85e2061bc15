"""Relations over capture files: exactly the chosen captures, typed when empty, each row with its provenance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from market_spine.domain.contracts import Column, Table
from market_spine.domain.errors import StoreError
from market_spine.domain.sqltext import identifier, literal
from market_spine.store import engine
from market_spine.store.commit import commit
from market_spine.store.files import write_files
from market_spine.store.manifest import Capture, Question
from market_spine.store.relations import PROVENANCE, create_dated_view, create_view, create_view_with_provenance
from market_spine.store.store import Store
from market_spine_tests.store.builders import OTC, RAW, RUN, SALES, WEEK, at, batch, raw

WIDER = replace(SALES, columns=(*SALES.columns[:3], Column("venue", "VARCHAR", "Venue"), *SALES.columns[3:]))


def capture_rows(store: Store, seconds: int, symbols: Sequence[str], table: Table = SALES, version: str = "1.0") -> str:
    """Write and commit one capture whose rows are one per symbol; its id."""
    new = raw(seconds=seconds, calc_version=version, content=f"{seconds}", row_count=len(symbols))
    with engine.connect(2) as connection:
        columns = ", ".join(f"{identifier(column.name)} {column.type}" for column in table.columns)
        connection.execute(f"CREATE TABLE sales ({columns})")
        for symbol in symbols:
            named = {"week_ending": WEEK, "tier": "OTC", "symbol": symbol, "shares": Decimal(1), "trades": seconds}
            values = [named.get(column.name, "V") for column in table.columns]
            connection.execute(f"INSERT INTO sales VALUES ({', '.join('?' * len(values))})", values)
        places = {OTC: (new.file_path, new.capture_id)}
        written = write_files(connection, "sales", table, store.home.captures, places)[OTC]
    commit(store.control, store.home, batch(replace(new, file_sha256=written.sha256, file_bytes=written.size)))
    return new.capture_id


def held(store: Store, *ids: str) -> list[Capture]:
    from market_spine.store.manifest import by_ids

    with store.control.read() as connection:
        found = by_ids(connection, ids)
    return [found[one] for one in ids]


def described(connection: duckdb.DuckDBPyConnection, name: str) -> list[tuple[str, str]]:
    return [(row[0], row[1]) for row in connection.execute(f"DESCRIBE {identifier(name)}").fetchall()]


def test_no_captures_are_a_typed_empty_view() -> None:
    """Prevents the first query of a fresh store from failing, or from seeing columns without types."""
    with engine.connect(1) as connection:
        create_view(connection, "otc_sales", SALES, [], Path("/nowhere"))
        create_view_with_provenance(connection, "otc_sales_full", SALES, [], Path("/nowhere"))
        own = [(column.name, column.type) for column in SALES.columns]
        assert described(connection, "otc_sales") == own
        assert [name for name, _ in described(connection, "otc_sales_full")] == [name for name, _ in own] + [
            *PROVENANCE
        ]
        assert connection.execute("SELECT * FROM otc_sales_full").fetchall() == []


def test_only_the_chosen_captures_are_read(sqlite_store: Store) -> None:
    """Prevents a file that lies in the folder, or a superseded one, from being read because it is there."""
    first = capture_rows(sqlite_store, 0, ["A", "B"])
    second = capture_rows(sqlite_store, 1, ["A"])
    root = sqlite_store.home.captures
    with engine.connect(2) as connection:
        for chosen, symbols in [((first,), ["A", "B"]), ((second,), ["A"]), ((first, second), ["A", "A", "B"])]:
            create_view(connection, "v", SALES, held(sqlite_store, *chosen), root)
            rows = connection.execute("SELECT symbol FROM v ORDER BY symbol").fetchall()
            assert [row[0] for row in rows] == symbols


def test_every_row_carries_its_own_provenance(sqlite_store: Store) -> None:
    """Prevents rows of two captures from carrying one another's moment, version or run."""
    first = capture_rows(sqlite_store, 0, ["A"])
    second = capture_rows(sqlite_store, 1, ["B", "C"], version="1.1")
    captures = held(sqlite_store, first, second)
    with engine.connect(2) as connection:
        create_view_with_provenance(connection, "v", SALES, captures, sqlite_store.home.captures)
        rows = connection.execute(f"SELECT symbol, {', '.join(PROVENANCE)} FROM v ORDER BY symbol").fetchall()
        types = dict(described(connection, "v"))
    one, two = ([getattr(capture, name) for name in PROVENANCE] for capture in captures)
    assert [list(row) for row in rows] == [["A", *one], ["B", *two], ["C", *two]]
    assert (types["captured_at"], types["computed_at"]) == ("TIMESTAMP WITH TIME ZONE",) * 2
    assert one[1:3] == [at(0), RUN.now]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_dated_view_has_the_moment_of_each_row_and_nothing_else_added(sqlite_store: Store, count: int) -> None:
    """Prevents the two ways to a capture's moment from giving different answers or types, empty views included."""
    ids = (capture_rows(sqlite_store, 0, ["A"]), capture_rows(sqlite_store, 1, ["B", "C"]))[:count]
    root = sqlite_store.home.captures
    with engine.connect(2) as connection:
        create_dated_view(connection, "dated", SALES, held(sqlite_store, *ids), root)
        create_view_with_provenance(connection, "full", SALES, held(sqlite_store, *ids), root)
        columns = [*(column.name for column in SALES.columns), "captured_at"]
        types = dict(described(connection, "full"))
        assert described(connection, "dated") == [(name, types[name]) for name in columns]
        rows = connection.execute("FROM dated ORDER BY symbol").fetchall()
        assert rows == connection.execute(f'SELECT {", ".join(columns)} FROM "full" ORDER BY symbol').fetchall()
    assert [row[-1] for row in rows] == [at(0), at(1), at(1)][: len(rows)]
    assert len(rows) == (0, 1, 3)[count]


def test_versions_with_different_columns_are_read_together(sqlite_store: Store) -> None:
    """Prevents a column of a new version from shifting values into another column, or from hiding the old rows."""
    old = capture_rows(sqlite_store, 0, ["A"])
    new = capture_rows(sqlite_store, 1, ["B"], table=WIDER, version="2.0")
    with engine.connect(2) as connection:
        for order in ((old, new), (new, old)):
            create_view(connection, "v", WIDER, held(sqlite_store, *order), sqlite_store.home.captures)
            rows = connection.execute("SELECT symbol, venue, shares, trades FROM v ORDER BY symbol").fetchall()
            assert rows == [("A", None, Decimal(1), 0), ("B", "V", Decimal(1), 1)]


@pytest.mark.parametrize(
    ("folder", "cause"),
    [("a?b", "has a \\? in its path"), ("tier=zz", "'tier=zz' in its path"), ("a/x=1/b", "'x=1' in its path")],
)
def test_a_home_whose_path_would_be_misread_is_refused(tmp_path: Path, folder: str, cause: str) -> None:
    """Prevents a control database beside the folder that was named, and rows of the tier that the folder is called."""
    with pytest.raises(StoreError, match=cause):
        Store.at(tmp_path / folder)


@pytest.mark.parametrize("folder", ["O'Brien", 'say "x"', "a[b]*", "with space", "ünï"])
def test_homes_with_odd_names(tmp_path: Path, folder: str) -> None:
    """Prevents a quote in a path from ending a SQL literal, and a bracket from being read as a pattern."""
    store = Store.at(tmp_path / folder)
    store.ensure()
    capture_rows(store, 0, ["A"])
    with store.engine() as connection:
        found = store.show_all(connection, {RAW: SALES}, Question((RAW,)))
        assert [one.row_count for one in found[RAW]] == [1]
        assert connection.execute(f"SELECT symbol, revision FROM {RAW}").fetchall() == [("A", 1)]
    store.control.dispose()


def test_names_cannot_leave_their_quotes() -> None:
    """Prevents SQL from being smuggled in through a name or a path."""
    evil = "a'; DROP TABLE t; --\"x"
    with engine.connect(1) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS one")
        assert connection.execute(f"SELECT {literal(evil)} AS {identifier(evil)}").fetchall() == [(evil,)]
        assert connection.execute("SELECT * FROM t").fetchall() == [(1,)]
        create_view(connection, evil, SALES, [], Path("/"))
        assert connection.execute(f"SELECT * FROM {identifier(evil)}").fetchall() == []


def test_an_engine_is_closed_on_every_way_out() -> None:
    """Prevents memory and threads from being held by an engine whose use failed."""
    with pytest.raises(RuntimeError, match="inside"), engine.connect(1) as connection:
        raise RuntimeError("inside")
    with pytest.raises(duckdb.ConnectionException):
        connection.execute("SELECT 1")


def test_engines_do_not_see_each_other_and_speak_utc() -> None:
    """Prevents two stores of one process from sharing tables, and moments from being shown in the machine's zone."""
    with engine.connect(1) as one, engine.connect(1, "500MB") as two:
        one.execute("CREATE TABLE t AS SELECT 1")
        with pytest.raises(duckdb.CatalogException):
            two.execute("SELECT * FROM t")
        assert two.execute("SELECT current_setting('TimeZone'), current_setting('threads')").fetchall() == [("UTC", 1)]
