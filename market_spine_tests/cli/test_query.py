"""Reading: versions, formats, names, and the refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from market_spine_tests.cli.calls import Answer, Command, call

RESTATED = ("--week-ending", "2025-11-07", "--tier", "OTC")


def rows_of(answer: Answer) -> int:
    assert answer.code == 0, answer.err
    return len(answer.json())


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ((), 259),  # the restatement took one symbol with one row away
        (("--first-release",), 260),
        (("--as-of", "2025-12-15"), 260),
        (("--as-of", "2025-12-19T14:59:59Z"), 260),
        (("--as-of", "2025-12-19T15:00:00Z"), 259),
        (("--as-of", "2025-12-19T16:00:00+01:00"), 259),
        (("--as-of", "2025-12-14"), 0),  # the day before the first capture
        (("--all-revisions",), 519),
        (("--limit", "7"), 7),
    ],
)
def test_a_version_is_chosen_whole(spine: Command, options: tuple[str, ...], rows: int) -> None:
    """Prevents rows that a restatement removed from staying, and an as-of that is off by its last second."""
    assert rows_of(spine("query", "otc_raw", *RESTATED, *options, "--format", "json")) == rows


@pytest.mark.parametrize(
    "name", ["otc_venue_share", "venue_share", "otc/venue_share", "finra_otc_transparency_weekly_venue_share"]
)
def test_a_table_has_many_names(spine: Command, name: str) -> None:
    """Prevents a name of the documents, or an asset key, from leading nowhere."""
    assert rows_of(spine("query", name, *RESTATED, "-f", "json")) == rows_of(
        spine("query", "venue_share", *RESTATED, "-f", "json")
    )


def test_a_view_is_read_as_a_table(spine: Command) -> None:
    """Prevents cheap derivations from being out of reach."""
    found = spine("query", "otc_average_trade_size", *RESTATED, "-f", "json").json()
    assert {row["week_ending"] for row in found} == {"2025-11-07"}
    first = found[0]
    assert first["avg_trade_size"] == pytest.approx(first["total_shares"] / first["total_trades"])


@pytest.mark.parametrize("name", ["otc_tier_split", "otc_venue_share", "otc_average_trade_size"])
def test_the_newest_week_comes_first(spine: Command, name: str) -> None:
    """Prevents "latest" from beginning with the oldest week of the store."""
    weeks = [row["week_ending"] for row in spine("query", name, "-f", "json").json()]
    assert len(set(weeks)) == 6
    assert weeks == sorted(weeks, reverse=True)


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        ("'2025-11-03', 'OTC'", "2025-11-03 is not a Friday; the nearest Friday is 2025-10-31"),
        ("'2025-11-04', 'OTC'", "2025-11-04 is not a Friday; the nearest Friday is 2025-11-07"),
        ("DATE '2025-11-06', 'OTC'", "2025-11-06 is not a Friday; the nearest Friday is 2025-11-07"),
        ("'2025-11-09', 'OTC'", "2025-11-09 is not a Friday; the nearest Friday is 2025-11-07"),
        ("'2025-11-07', 'T1'", "T1 is not a tier; there are: NMS_TIER_1, NMS_TIER_2, OTC"),
    ],
)
def test_a_macro_refuses_what_is_no_week_or_tier(spine: Command, arguments: str, cause: str) -> None:
    """Prevents an empty answer to a question that was asked wrongly."""
    answer = spine("sql", f"FROM otc_top_venues({arguments})")
    assert (answer.code, cause in answer.err) == (2, True), answer.err


def test_every_relation_says_what_it_holds(spine: Command) -> None:
    """Prevents names in the published file that nobody can place."""
    views = "SELECT view_name AS name FROM duckdb_views() WHERE NOT internal AND comment IS NULL"
    macros = "SELECT function_name FROM duckdb_functions() WHERE NOT internal AND comment IS NULL"
    assert spine("sql", f"{views} UNION ALL {macros}", "-f", "json").json() == []


def test_formats_say_the_same(spine: Command) -> None:
    """Prevents a number that programs read differently from what people see."""
    words = ("query", "symbol_summary", *RESTATED, "--limit", "5")
    as_json, as_csv = spine(*words, "-f", "json").json(), spine(*words, "-f", "csv").csv()
    table = spine(*words, width=200).out
    assert len(as_json) == len(as_csv) == 5
    for left, right in zip(as_json, as_csv, strict=True):
        assert list(left) == list(right)
        assert str(left["total_volume"]) == right["total_volume"]
        assert left["captured_at"] == right["captured_at"] == "2025-12-19T15:00:00Z"
        assert f"{left['total_volume']:,}" in table


@pytest.mark.parametrize(
    ("words", "cause", "remedy"),
    [
        (("query", "otc_venue_shares"), "there is no table 'otc_venue_shares'", "otc_venue_share"),
        (("query", "raw", "--as-of", "2025-12-15T10:00:00"), "has no time zone", "--as-of 2025-12-15T10:00:00Z"),
        (("query", "raw", "--as-of", "yesterday"), "is not a date or time", "--as-of 2025-12-15"),
        (("query", "raw", "-w", "2025-11-06"), "2025-11-06 is a Thursday", "the nearest Friday is 2025-11-07"),
        (("query", "raw", "-w", "November"), "'November' is not a date", "YYYY-MM-DD"),
        (("query", "raw", "-t", "T3"), "'T3' is not a FINRA tier", "--tier NMS_TIER_1"),
        (("query", "venue_share", "-s", "A"), "otc_venue_share has no symbols", "leave --symbol away"),
        (("query", "raw", "--first-release", "--all-revisions"), "several versions", "use one of"),
        (("query", "otc_week_quality", "--first-release"), "a view over the latest captures", "ask a table"),
        (("query", "raw", "--home", "nowhere"), "there is no store in", "nowhere init  # or: spine demo"),
        (("query", "core_rejects"), "core_rejects is a control table", 'sql "FROM core_rejects"'),
        (("query", "otc_top_venues"), "otc_top_venues takes arguments", "FROM otc_top_venues(...)"),
        (("query", "otc_raw_asof"), "otc_raw_asof takes arguments", "FROM otc_raw_asof(...)"),
        (("query", "core_stage_completions"), "is a control table", "FROM core_stage_completions"),
    ],
)
def test_a_bad_question_names_cause_and_remedy(
    spine: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], cause: str, remedy: str
) -> None:
    """Prevents a failure that leaves its reader alone, and a traceback for a slip of the finger."""
    monkeypatch.chdir(tmp_path)
    answer = call(*words) if "nowhere" in words else spine(*words)
    assert (answer.code, answer.out) == (2, "")
    error, next_step = answer.err.split("  next: ")
    assert cause in error
    assert remedy in next_step
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    "text",
    [
        "SELECT tier FROM otc_raw GROUP BY ALL",
        "WITH a AS (FROM otc_raw) SELECT DISTINCT tier FROM a",
        "FROM otc_raw SELECT DISTINCT tier",
        "SELECT DISTINCT tier FROM otc_raw_asof('2025-12-16');",
        "SELECT DISTINCT tier FROM core_manifest WHERE tier <> 'ALL'",
    ],
)
def test_sql_reads(spine: Command, text: str) -> None:
    """Prevents a form of reading from being refused."""
    assert sorted(row["tier"] for row in spine("sql", text, "-f", "json").json()) == ["NMS_TIER_1", "NMS_TIER_2", "OTC"]


@pytest.mark.parametrize("text", ["SHOW TABLES", "DESCRIBE otc_raw", "SUMMARIZE otc_tier_split", "EXPLAIN SELECT 1"])
def test_sql_describes(spine: Command, text: str) -> None:
    """Prevents looking around from being refused."""
    answer = spine("sql", text)
    assert answer.code == 0, answer.err
    assert len(answer.out.splitlines()) > 3


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("INSERT INTO core_manifest SELECT * FROM core_manifest", "INSERT is not a query"),
        ("DROP VIEW otc_raw", "DROP is not a query"),
        ("COPY (SELECT 1) TO 'x.csv'", "COPY is not a query"),
        ("ATTACH 'x.db'", "ATTACH is not a query"),
        ("SET threads = 1", "is not a query"),
        ("EXPLAIN ANALYZE INSERT INTO core_manifest SELECT * FROM core_manifest", "INSERT is not a query"),
        ("SELECT 1; DELETE FROM core_manifest", "2 statements"),
        ("SELECT * FROM read_csv('/etc/passwd')", "Permission Error"),
        ("SELECT * FROM read_text('{home}/control.db')", "Permission Error"),
        ("SELEC 1", "syntax error"),
        ("SELECT nothing FROM otc_raw", "nothing"),
        ("", "0 statements"),
    ],
)
def test_sql_changes_nothing_and_reads_nothing_else(demo_home: Path, spine: Command, text: str, cause: str) -> None:
    """Prevents a query from writing, and from reading files beyond the captures."""
    answer = spine("sql", text.format(home=demo_home))
    assert (answer.code, answer.out) == (2, "")
    assert cause in answer.err
    assert "next: " in answer.err


def test_sql_from_stdin(spine: Command) -> None:
    """Prevents long queries from having to be quoted for a shell."""
    assert spine("sql", "-", "-f", "csv", stdin="SELECT 41 + 1 AS answer").csv() == [{"answer": "42"}]


def test_no_rows_is_an_answer(spine: Command) -> None:
    """Prevents scripts from failing on an empty answer, and an answer that does not say why it is empty."""
    assert spine("query", "raw", "-s", "NOSUCH").code == 0
    assert "no rows of NOSUCH in 18 captures" in spine("query", "raw", "-s", "NOSUCH").out
    assert "the nearest symbols: SYDPSM" in spine("query", "raw", *RESTATED, "-s", "sydpsmx").out
    then = spine("query", "raw", "--as-of", "2025-12-14").out
    assert "nothing of this was known then; it was first captured at 2025-12-15 15:00:00Z" in then
    assert "no captures answer this" in spine("query", "raw", "-w", "2024-01-05").out
    assert spine("query", "raw", "-s", "NOSUCH", "-f", "json").json() == []


def inverted(start: int, end: int) -> Callable[[bytes], bytes]:
    """Bytes with those from ``start`` to ``end`` inverted."""
    return lambda whole: whole[:start] + bytes(255 - byte for byte in whole[start:end]) + whole[end:]


# What DuckDB says of each has another class: IO, invalid input in several words, and an error without a class.
SPOILT = {
    "gone": None,
    "empty": lambda whole: b"",
    "cut": lambda whole: whole[:-1],
    "header": inverted(4, 40),
    "body": inverted(60, 160),
    "footer": inverted(-60, -8),
    "length of the footer": inverted(-8, -4),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=list(SPOILT))
@pytest.mark.parametrize(
    "words", [("query", "otc_raw", *RESTATED, "-f", "csv"), ("sql", "FROM otc_raw WHERE week_ending = '2025-11-07'")]
)
def test_a_spoilt_capture_leads_to_what_names_it(
    own_home: Path, words: tuple[str, ...], spoil: Callable[[bytes], bytes] | None
) -> None:
    """Prevents a damaged disk from passing for a fault of the program, or of the question."""
    asked = "SELECT file_path FROM core_manifest WHERE is_current = 1 AND table_name = 'otc_raw' AND tier = 'OTC'"
    (found,) = call("sql", f"{asked} AND week_ending = '2025-11-07'", "-f", "json").json()
    path = own_home / "captures" / found["file_path"]
    whole = path.read_bytes()
    path.unlink()
    if spoil:
        path.write_bytes(spoil(whole))
    answer = call(*words)
    assert (answer.code, answer.out) == (2, "")
    assert "next: spine verify" in answer.err, answer.err
    assert "unexpected" not in answer.err


def test_publishing_over_a_lost_capture_leads_to_what_names_it(own_home: Path) -> None:
    """Prevents a lost capture from passing for a published file that cannot be written."""
    asked = "SELECT file_path FROM core_manifest WHERE is_current = 1 AND table_name = 'otc_raw' LIMIT 1"
    (found,) = call("sql", asked, "-f", "json").json()
    (own_home / "captures" / found["file_path"]).unlink()
    answer = call("publish")
    assert (answer.code, answer.out) == (2, "")
    assert "DuckDB failed as it does over a damaged capture file" in answer.err
    assert "next: spine verify  # names a damaged file; where all are whole, it is a fault" in answer.err


def test_a_question_that_fails_like_damage_leads_on(spine: Command) -> None:
    """Prevents a look that finds everything whole from being the end of the way."""
    answer = spine("sql", "SELECT error('this file is corrupt')")
    assert "verify  # names a damaged file; where all are whole, the query is wrong" in answer.err
