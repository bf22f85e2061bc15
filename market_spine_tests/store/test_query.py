"""SQL that people write: what reads is let through, what writes is not, however it is dressed."""

from __future__ import annotations

from pathlib import Path

import pytest

from market_spine.domain.errors import QueryError
from market_spine.store.query import answer, lock, require_reading
from market_spine.store.store import Store


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "select 1;",
        "WITH a AS (SELECT 1) SELECT * FROM a",
        "FROM range(3)",
        "VALUES (1)",
        "DESCRIBE SELECT 1",
        "SHOW TABLES",
        "SUMMARIZE SELECT 1",
        "EXPLAIN SELECT 1",
        "explain analyze SELECT 1",
        "-- a comment\nSELECT 1",
    ],
)
def test_reading_is_let_through(tmp_path: Path, sql: str) -> None:
    """Prevents a way to read from being refused."""
    with Store.at(tmp_path).engine() as engine:
        assert require_reading(engine, sql) == sql


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t VALUES (1)",
        "UPDATE t SET a = 1",
        "DELETE FROM t",
        "CREATE TABLE t (a INT)",
        "DROP TABLE t",
        "COPY (SELECT 1) TO 'x'",
        "EXPORT DATABASE 'x'",
        "ATTACH 'x'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET threads = 1",
        "PRAGMA version",
        "CALL pragma_version()",
        "PREPARE a AS SELECT 1",
        "BEGIN",
        "SELECT 1; SELECT 2",
        "",
        "-- nothing",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO 'x'",
        "EXPLAIN EXPLAIN ANALYZE COPY (SELECT 1) TO 'x'",
        "EXPLAIN /* c */ ANALYZE COPY (SELECT 1) TO 'x'",
        "/* EXPLAIN */ EXPLAIN ANALYZE COPY (SELECT 1) TO 'x'",
        # What stands behind the first parenthesis reads as SELECT 1, and what runs is the COPY.
        "EXPLAIN (/*) SELECT 1 --*/ ANALYZE) COPY (SELECT 1) TO 'x'",
        "EXPLAIN (ANALYZE) COPY (SELECT 1) TO 'x'",
    ],
)
def test_everything_else_is_refused(tmp_path: Path, sql: str) -> None:
    """Prevents a write that hides behind a comment, an option or a second statement."""
    with Store.at(tmp_path).engine() as engine, pytest.raises(QueryError):
        require_reading(engine, sql)


@pytest.mark.parametrize("sql", ["FROM read_text('{file}')", "FROM '{file}'", "FROM glob('{folder}/*')"])
def test_a_locked_engine_reads_captures_only(tmp_path: Path, sql: str) -> None:
    """Prevents a query from reading what else the user may read."""
    store, secret = Store.at(tmp_path / "home"), tmp_path / "secret.csv"
    store.ensure()
    secret.write_text("a\n1\n")
    inside = store.home.captures / "inside.csv"
    inside.write_text("a\n2\n")
    with store.engine() as engine:
        lock(engine, store)
        assert answer(engine, f"FROM read_csv('{inside}')") == (["a"], [(2,)])
        with pytest.raises(QueryError, match="Permission Error"):
            answer(engine, sql.format(file=secret, folder=tmp_path))
        with pytest.raises(QueryError, match="is not a query"):
            answer(engine, "SET enable_external_access = true")


def test_duckdbs_words_come_without_its_picture(tmp_path: Path) -> None:
    """Prevents an error of six lines for a misspelt name."""
    with Store.at(tmp_path).engine() as engine, pytest.raises(QueryError) as failure:
        answer(engine, "SELECT\n  nothing\nFROM range(3)")
    assert 'column "nothing" not found' in failure.value.cause
    assert "LINE" not in failure.value.cause
    assert "^" not in failure.value.cause
