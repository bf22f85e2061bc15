"""Capture files: what a content hash sees, that writing is atomic, and how failures are named."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from datetime import date
from decimal import Decimal
from itertools import permutations
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_spine.domain.contracts import Column, Table
from market_spine.domain.errors import StoreError
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.store import engine, files
from market_spine.store.files import Content, canonical_row, contents, make_folder, relative_path, write_files
from market_spine_tests.store.builders import OTC, SALES, T0, WEEK

ROOT = Path(__file__).resolve().parents[2]
Row = tuple[date, str, str | None, Decimal | None, int | None]
GOOD: list[Row] = [
    (WEEK, "OTC", "ABC", Decimal("100.000000"), 7),
    (WEEK, "OTC", "NA", Decimal("0.000001"), 0),
    (WEEK, "OTC", "", None, None),
]


def fill(connection: duckdb.DuckDBPyConnection, rows: list[Row], table: str = "sales") -> None:
    columns = ", ".join(f'"{column.name}" {column.type}' for column in SALES.columns)
    connection.execute(f"CREATE OR REPLACE TABLE {table} ({columns})")
    if rows:
        connection.executemany(f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?)", rows)


def content(rows: list[Row], threads: int = 2, row: str = "") -> dict[WeekKey, Content]:
    with engine.connect(threads) as connection:
        fill(connection, rows)
        return contents(connection, "sales", row or canonical_row(SALES))


def oracle(rows: list[Row]) -> str:
    """The content hash by its definition: both halves of the md5 of every row's text (little endian), summed."""
    high = low = 0
    for row in rows:
        texts = [_text(value) for value in row[2:]]  # the partition is the key, not the content
        digest = hashlib.md5("|".join(texts).encode()).digest()
        low += int.from_bytes(digest[:8], "little")
        high += int.from_bytes(digest[8:], "little")
    return f"{high % 2**64:016x}{low % 2**64:016x}"


def _text(value: Any) -> str:
    if value is None:
        return "\\N"
    if isinstance(value, Decimal):
        return f"{value:.6f}"
    return value.replace("\\", "\\\\").replace("|", "\\p") if isinstance(value, str) else str(value)


def test_the_hash_is_the_one_computed_by_hand() -> None:
    """Prevents a change of the hash with DuckDB's next version, or with a refactoring: every store would be altered."""
    assert content(GOOD) == {OTC: Content(3, oracle(GOOD))}
    # printf 'A|1.500000|2' | md5sum, its 16 bytes turned round (a little-endian number)
    assert content([(WEEK, "OTC", "A", Decimal("1.5"), 2)])[OTC].content_hash == "fb08e327fa9e16b7e8c2e3ba7228a671"


@pytest.mark.parametrize("threads", [1, 2])
def test_order_and_threads_do_not_matter(threads: int) -> None:
    """Prevents the same rows in another order from being a restatement."""
    assert {content(list(rows), threads)[OTC].content_hash for rows in permutations(GOOD)} == {oracle(GOOD)}


def test_many_rows_by_one_and_two_threads() -> None:
    """Prevents the sum from overflowing or losing row groups: 300,000 rows are three of them."""
    found = set()
    for threads in (1, 2):
        with engine.connect(threads) as connection:
            fill(connection, [])
            numbers = "SELECT i FROM range(300000) r(i) ORDER BY i % 7, i"
            connection.execute(f"INSERT INTO sales SELECT DATE '{WEEK}', 'OTC', 'S' || i, i, i FROM ({numbers})")
            found.add(contents(connection, "sales", canonical_row(SALES))[OTC])
    assert len(found) == 1
    assert found.pop().row_count == 300_000


DIFFERENT: list[list[Row]] = [
    [(WEEK, "OTC", "A", Decimal(1), 1)],
    [(WEEK, "OTC", "A", Decimal(1), 2)],
    [(WEEK, "OTC", "A", Decimal(2), 1)],
    [(WEEK, "OTC", "A", Decimal("999999999999.999999"), 1)],  # the last that 64 bits hold
    [(WEEK, "OTC", "A", Decimal("1000000000000.000000"), 1)],
    [(WEEK, "OTC", "A", Decimal("-999999999999.999999"), 1)],
    [(WEEK, "OTC", "A", Decimal("-1000000000000.000001"), 1)],
    [(WEEK, "OTC", "A", Decimal("99999999999999.999999"), 1)],
    [(WEEK, "OTC", "B", Decimal(1), 1)],
    [(WEEK, "OTC", None, Decimal(1), 1)],
    [(WEEK, "OTC", "", Decimal(1), 1)],
    [(WEEK, "OTC", "\\N", Decimal(1), 1)],
    [(WEEK, "OTC", "\\\\N", Decimal(1), 1)],
    [(WEEK, "OTC", "NULL", Decimal(1), 1)],
    [(WEEK, "OTC", " A", Decimal(1), 1)],
    [(WEEK, "OTC", "a", Decimal(1), 1)],
    [(WEEK, "OTC", "Ä", Decimal(1), 1)],
    [(WEEK, "OTC", "A", None, 1)],
    [(WEEK, "OTC", "A", Decimal(1), None)],
    [(WEEK, "OTC", "A|1.000000", None, 1)],
    [(WEEK, "OTC", "A\\p1.000000", None, 1)],
    [(WEEK, "OTC", "A", Decimal(1), 1)] * 2,
    [(WEEK, "OTC", "A", Decimal(1), 1)] * 3,
    [(WEEK, "OTC", "A", Decimal(1), 2), (WEEK, "OTC", "B", Decimal(2), 1)],
    [(WEEK, "OTC", "A", Decimal(2), 1), (WEEK, "OTC", "B", Decimal(1), 2)],
]


def test_every_difference_is_seen() -> None:
    """Prevents a restatement from being skipped: a column that is not hashed, NULL and '' as one, values that slide."""
    hashes = [content(rows)[OTC].content_hash for rows in DIFFERENT]
    assert hashes == [oracle(rows) for rows in DIFFERENT]
    assert len(set(hashes)) == len(DIFFERENT)


TEXTS = st.none() | st.text(st.sampled_from("AB|\\Np"), max_size=5)


@given(st.tuples(TEXTS, TEXTS, TEXTS), st.tuples(TEXTS, TEXTS, TEXTS))
def test_different_rows_have_different_texts(one: tuple[Any, ...], two: tuple[Any, ...]) -> None:
    """Prevents texts with separators and escapes from running into each other."""
    columns = tuple(Column(name, "VARCHAR", "text") for name in ("a", "b", "c"))
    table = Table("t", SALES.stage, ("a",), columns, "three texts", by_tier=False)
    with engine.connect(1) as connection:
        select = f"SELECT {canonical_row(table)} FROM (VALUES (?, ?, ?), (?, ?, ?)) v(a, b, c)"
        first, second = (row[0] for row in connection.execute(select, [*one, *two]).fetchall())
    assert (first == second) == (one == two)


def test_partitions_are_told_apart_and_columns_left_out() -> None:
    """Prevents a row from being counted in another partition, and a line number from making a restatement."""
    rows: list[Row] = [(WEEK, tier.value, "A", Decimal(n), n) for n, tier in enumerate(Tier)]
    assert content(rows) == {WeekKey(WEEK, tier): Content(1, oracle([rows[n]])) for n, tier in enumerate(Tier)}
    without = canonical_row(SALES, leave_out=frozenset({"shares", "trades"}))
    assert content(GOOD, row=without) == content([(*row[:3], None, n) for n, row in enumerate(GOOD)], row=without)


def test_week_tables_and_empty_ones() -> None:
    """Prevents a table without tiers from having no content, and an empty one from failing."""
    with engine.connect(1) as connection:
        fill(connection, GOOD)
        found = contents(connection, "sales", canonical_row(SALES), by_tier=False)
        assert found == {WeekKey(WEEK, None): Content(3, oracle(GOOD))}
        fill(connection, [])
        assert contents(connection, "sales", canonical_row(SALES)) == {}
    assert Content(0, oracle([])) == files.EMPTY_CONTENT


ZONES = """
from dataclasses import replace
from market_spine.domain.contracts import Column
from market_spine.store import engine
from market_spine.store.files import canonical_row, contents
from market_spine_tests.store.builders import SALES, WEEK
table = replace(SALES, columns=(*SALES.columns[:3], Column("opens_at", "TIMESTAMPTZ", "open")))
with engine.connect(1) as c:
    c.execute(f"CREATE TABLE t AS SELECT DATE '{WEEK}' AS week_ending, 'OTC' AS tier, 'A' AS symbol, "
              "TIMESTAMPTZ '2025-11-14 14:30:00+00' AS opens_at")
    print(*(one.content_hash for one in contents(c, "t", canonical_row(table)).values()))
"""


def test_moments_hash_alike_in_every_zone() -> None:
    """Prevents a machine in New York from seeing a restatement of every calendar week captured in London."""
    found = set()
    for zone in ("UTC", "America/New_York", "Asia/Kathmandu"):
        command, variables = [sys.executable, "-c", ZONES], os.environ | {"TZ": zone}
        found.add(subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    assert len(found) == 1
    assert len(found.pop().strip()) == 32


def write(root: Path, rows: list[Row], places: dict[WeekKey, tuple[str, str]], table: Table = SALES) -> Any:
    with engine.connect(2) as connection:
        fill(connection, rows)
        return write_files(connection, "sales", table, root, places)


def test_files_hold_their_partition_sorted_and_the_id_of_their_capture(tmp_path: Path) -> None:
    """Prevents rows of another partition, an unsorted file, a hash of other bytes, and a quote that ends a literal."""
    rows: list[Row] = [(WEEK, "OTC", symbol, Decimal(1), 1) for symbol in ("C", "A", "B")]
    rows.append((WEEK, "NMS_TIER_1", "X", Decimal(2), 2))
    root = tmp_path / "O'Brien [x] *"
    path = relative_path("otc_sales", OTC, T0)
    t1 = WeekKey(WEEK, Tier.NMS_TIER_1)
    done = write(root, rows, {OTC: (path, "it's"), t1: ("t1.parquet", "id")})
    written = done[OTC]
    assert written.path == root / path
    assert (written.sha256, written.size) == (files.sha256_of(written.path), written.path.stat().st_size)
    assert written.sha256 == hashlib.sha256(written.path.read_bytes()).hexdigest()
    read = duckdb.execute("SELECT week_ending, tier, symbol FROM read_parquet([?])", [str(written.path)]).fetchall()
    assert read == [(WEEK, "OTC", "A"), (WEEK, "OTC", "B"), (WEEK, "OTC", "C")]
    assert pq.read_metadata(written.path).metadata[b"capture_id"] == b"it's"
    assert duckdb.execute("SELECT symbol FROM read_parquet(?)", [str(done[t1].path)]).fetchall() == [("X",)]
    assert list(root.rglob("*.tmp")) == []


def test_a_partition_without_rows_is_a_typed_empty_file(tmp_path: Path) -> None:
    """Prevents a week without rows from being a missing file, or one whose columns have no types."""
    written = write(tmp_path, [], {OTC: ("empty.parquet", "id")})[OTC]
    read = duckdb.execute("DESCRIBE SELECT * FROM read_parquet(?)", [str(written.path)]).fetchall()
    own = [(column.name, column.type) for column in SALES.columns if column.name not in ("week_ending", "tier")]
    assert [(row[0], row[1]) for row in read] == own


def test_no_two_writers_share_a_name() -> None:
    """Prevents two processes that capture in one second from writing one file."""
    names = {relative_path("otc_raw", OTC, T0) for _ in range(100)}
    assert len(names) == 100
    assert all(name.startswith("otc_raw/week_ending=2025-11-14/tier=OTC/20251215T150000Z-") for name in names)


def test_a_folder_that_cannot_be_made_is_a_typed_error(tmp_path: Path) -> None:
    """Prevents a file in the way, or a folder of somebody else, from ending in a traceback."""
    (tmp_path / "otc_raw").write_bytes(b"in the way")
    with pytest.raises(StoreError, match=r"cannot write .*otc_raw/x/1.parquet"):
        write(tmp_path, GOOD, {OTC: ("otc_raw/x/1.parquet", "id")})


def test_a_full_disk_is_a_typed_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents half a file, and DuckDB's own error class, where the user needs to know that the disk is full."""
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from market_spine_tests.store.test_files import GOOD, OTC, write\n"
        "from market_spine.domain.errors import StoreError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))\n"
        "try:\n"
        "    write(Path(sys.argv[1]), GOOD, {OTC: ('full.parquet', 'id')})\n"
        "except StoreError as error:\n"
        "    print(error.cause)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.stdout == f"cannot write {tmp_path}/full.parquet: File too large\n", run.stderr
    assert list(tmp_path.iterdir()) == []

    def full(_path: Path) -> tuple[str, int]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "_sync_and_hash", full)
    with pytest.raises(StoreError, match="No space left on device"):
        write(tmp_path, GOOD, {OTC: ("full.parquet", "id")})
    assert list(tmp_path.iterdir()) == []


def test_new_folders_are_made_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a power cut from taking the folder of a file that is itself on disk and in the manifest."""
    synced: list[Path] = []
    monkeypatch.setattr(files, "fsync_folder", synced.append)
    make_folder(tmp_path / "a" / "b")
    assert set(synced) == {tmp_path, tmp_path / "a"}
    make_folder(tmp_path / "a" / "b")
    assert len(synced) == 2


KILLER = """
import os, random, signal, sys, time
from pathlib import Path
from market_spine.store import engine
from market_spine.store.files import relative_path, write_files
from market_spine_tests.store.builders import OTC, SALES, T0, WEEK
from market_spine_tests.store.test_files import fill
def work():
    with engine.connect(2) as c:
        fill(c, [])
        c.execute(f"INSERT INTO sales SELECT DATE '{WEEK}', 'OTC', 'S' || i, i, i FROM range(60000) r(i)")
        while True:
            write_files(c, "sales", SALES, Path(sys.argv[1]), {OTC: (relative_path("otc_sales", OTC, T0), "id")})
dice = random.Random(1)
for _ in range(20):
    writer = os.fork()  # before any engine: its threads would not survive the fork
    if not writer:
        work()
    time.sleep(dice.uniform(0.1, 0.6))
    os.kill(writer, signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(writer, 0)[1]) == signal.SIGKILL
"""


@pytest.mark.slow
def test_a_killed_writer_leaves_whole_files_only(tmp_path: Path) -> None:
    """Prevents a kill from leaving half a Parquet file under its final name."""
    subprocess.run([sys.executable, "-c", KILLER, str(tmp_path)], cwd=ROOT, check=True)
    whole = list(tmp_path.rglob("*.parquet"))
    left_overs = len(list(tmp_path.rglob("*.tmp")))
    others = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix not in (".parquet", ".tmp")]
    assert others == []
    assert whole
    assert left_overs <= 20
    for path in whole:
        assert duckdb.execute("SELECT count(*) FROM read_parquet(?)", [str(path)]).fetchone() == (60_000,)
