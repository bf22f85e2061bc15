"""How values and tables look, apart from any command."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_spine.cli.door import hoisted
from market_spine.cli.output import Format, Listing, cell, limited, show
from market_spine.cli.progress import Watch
from market_spine_tests.cli.calls import Command

PARIS = timezone(timedelta(hours=1))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (True, "yes"),
        (False, "no"),
        (1234567, "1,234,567"),
        (-1234, "-1,234"),
        (Decimal("1234567.500000"), "1,234,567.5"),
        (Decimal("-0.250000"), "-0.25"),
        (Decimal("1000.000000"), "1,000"),
        (Decimal("0.000001"), "0.000001"),
        (0.82188, "0.8219"),
        (1234.567, "1,234.57"),
        (0.0000123, "1.23e-05"),
        (0.0, "0.0000"),
        (date(2025, 11, 14), "2025-11-14"),
        (datetime(2025, 12, 15, 16, 0, 5, tzinfo=PARIS), "2025-12-15 15:00:05Z"),
        ("NA", "NA"),
    ],
)
def test_a_cell(value: object, text: str) -> None:
    """Prevents numbers without separators, moments of another zone, and absent values that look empty."""
    assert cell(value) == text


NAMES = ("week_ending", "tier", "symbol", "shares", "text")
ROWS = st.lists(
    st.tuples(
        st.just(date(2025, 11, 14)),
        st.sampled_from(["OTC", "NMS_TIER_1"]),
        st.text("ABCD[]/ ", max_size=30),
        st.integers(-(10**12), 10**12),
        st.text("abc[/bold] ", max_size=200),
    ),
    max_size=6,
)


@given(rows=ROWS, width=st.integers(40, 130))
def test_a_table_is_never_wider_than_the_terminal(rows: list[tuple[Any, ...]], width: int) -> None:
    """Prevents broken lines, and data that is taken for markup."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width))
        import contextlib
        import io

        with contextlib.redirect_stdout(io.StringIO()) as out:
            show(Listing(NAMES, rows, "A title", wrapped=frozenset({"text"})))
    assert [line for line in out.getvalue().splitlines() if len(line) > width] == []


def test_what_does_not_fit_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents columns that disappear without a word, and numbers that are cut."""
    monkeypatch.setenv("COLUMNS", "40")
    rows = [["same", n, 10**9 + n, "x" * 20] for n in range(2)]
    show(Listing(["first", "second", "third", "fourth"], rows))
    out = capsys.readouterr().out
    assert "every row: first same, fourth xxxxxxxxxxxxxxxxxxxx" in " ".join(out.split())
    assert "1,000,000,001" in out
    monkeypatch.setenv("COLUMNS", "20")
    show(Listing(["second", "third"], [[n, 10**12 + n] for n in (10**6, 10**6 + 1)]))
    assert "not shown at this width: third" in " ".join(capsys.readouterr().out.split())


def test_one_row_that_is_too_wide_stands_upright(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a single answer of which half is hidden."""
    monkeypatch.setenv("COLUMNS", "28")
    show(Listing(["symbol", "a_long_name", "another"], [["A", "x" * 12, 1000]]))
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["symbol", "A"],
        ["a_long_name", "x" * 12],
        ["another", "1,000"],
    ]


CODES = Listing(
    ["code", "message", "count"],
    [["A_CODE_THAT_IS_TO_BE_READ", "some words about it", 7], ["ANOTHER", "", 8]],
    wrapped=frozenset({"message"}),
    stacked=("code", "message"),
)


@pytest.mark.parametrize(
    ("width", "head", "lines"),
    [
        (60, "code message count", ["A_CODE_THAT_IS_TO_BE_READ some words about it 7", "ANOTHER 8"]),
        (40, "code / message count", ["A_CODE_THAT_IS_TO_BE_READ 7", "some words about it", "ANOTHER 8"]),
    ],
)
def test_two_columns_stand_in_one_where_there_is_no_room(
    width: int, head: str, lines: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a key from being dropped where it could stand above what belongs to it."""
    monkeypatch.setenv("COLUMNS", str(width))
    show(CODES)
    first, _, *rest = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert (first, rest) == (head, lines)
    show(CODES, Format.CSV)
    assert capsys.readouterr().out.startswith("code,message,count\n")


@given(words=st.lists(st.text("ab_", min_size=1, max_size=30), min_size=1, max_size=12), width=st.integers(66, 130))
def test_words_stay_whole_where_there_is_room(words: list[str], width: int) -> None:
    """Prevents names that are broken in one column while another has room to spare."""
    import contextlib
    import io

    text = " ".join(words)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        patch.setenv("COLUMNS", str(width))
        show(Listing(["n", "one", "other"], [[1, text, f"{text} {text}"]] * 2, wrapped=frozenset({"one", "other"})))
    assert {*words} <= {*out.getvalue().split()}


@given(ROWS)
def test_json_and_csv_parse_back(rows: list[tuple[Any, ...]]) -> None:
    """Prevents output that programs cannot read."""
    import contextlib
    import csv
    import io

    with contextlib.redirect_stdout(io.StringIO()) as out:
        show(Listing(NAMES, rows), Format.JSON)
    assert json.loads(out.getvalue()) == [dict(zip(NAMES, ["2025-11-14", *row[1:]], strict=True)) for row in rows]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        show(Listing(NAMES, rows), Format.CSV)
    assert list(csv.reader(io.StringIO(out.getvalue()))) == [list(NAMES), *([str(one) for one in row] for row in rows)]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("12345678901234567.123456"), "12345678901234567.123456"),  # through float: 12345678901234568.0
        (Decimal("-0.100000"), "-0.1"),
        (Decimal("1000.000000"), "1000"),
        (Decimal("1E+3"), "1000"),
        (Decimal("NaN"), "null"),
        (float("nan"), "null"),
        (float("-inf"), "null"),
        (0.1, "0.1"),
        (2**100, "1267650600228229401496703205376"),
        (True, "true"),
        ([Decimal("0.5"), None, "a"], '[0.5, null, "a"]'),
        (date(2025, 11, 14), '"2025-11-14"'),
    ],
)
def test_json_is_exact(value: object, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents shares that lost their last digits, and NaN, which is no JSON."""
    show(Listing(["n"], [[value]]), Format.JSON)
    assert capsys.readouterr().out == f'[\n  {{\n    "n": {text}\n  }}\n]\n'


def test_no_rows_are_an_empty_json_list(capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents an answer without rows that does not parse."""
    show(Listing(["n"], []), Format.JSON)
    assert json.loads(capsys.readouterr().out) == []


def test_a_limit_holds_in_every_format_and_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents a cut answer that looks whole; without a limit programs get all."""
    listing = Listing(["n"], [[n] for n in range(60)])
    for form in Format:
        limited(listing, form, 2)
        assert "first 2 of 60 rows" in capsys.readouterr().err
    limited(listing, Format.CSV, None)
    assert len(capsys.readouterr().out.splitlines()) == 61
    limited(listing, Format.TABLE, None)
    assert "first 50 of 60 rows" in capsys.readouterr().err


def test_no_colour_where_there_is_no_terminal(spine: Command) -> None:
    """Prevents control characters in pipes; NO_COLOR wins even where colours are forced."""
    words = ("captures", "list", "otc_raw", "--all")
    assert "\x1b" not in spine(*words).out
    assert "\x1b[3" in spine(*words, FORCE_COLOR="1").out
    assert "\x1b[3" not in spine(*words, FORCE_COLOR="1", NO_COLOR="1").out


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize(
    "words",
    [
        "catalog",
        "captures list --all",
        "captures diff otc_raw -w 2025-11-07 -t OTC",
        "query otc_raw",
        "query symbol_rolling_6w --all-revisions",
        "query tier_split",
        "rejects",
        "deliveries",
        "run otc.backfill_range -p from=2025-11-07 -p to=2025-11-14 --dry-run",
    ],
)
def test_commands_fit_the_terminal(spine: Command, words: str, width: int) -> None:
    """Prevents a listing that looks broken at a usual width, and ids that break over lines."""
    answer = spine(*words.split(), width=width)
    assert answer.code == 0, answer.err
    assert len(answer.out.splitlines()) > 3
    assert [line for line in answer.out.splitlines() if len(line) > width] == []


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["query", "raw", "--traceback"], ["--traceback", "query", "raw"]),
        (["demo", "--home", "x", "--keep"], ["--home", "x", "demo", "--keep"]),
        (["demo", "--home=x"], ["--home=x", "demo"]),
        (["sql", "--", "--home"], ["sql", "--", "--home"]),
        (["demo", "--home"], ["--home", "demo"]),
        (["query", "raw", "-s", "A"], ["query", "raw", "-s", "A"]),
    ],
)
def test_global_options_may_stand_anywhere(args: list[str], expected: list[str]) -> None:
    """Prevents `spine query raw --home X` from being a usage error, and words after -- from being moved."""
    assert hoisted(args) == expected


def test_progress_counts_every_range_of_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents a display that starts again with every range, and silence in a log file."""
    with Watch(6) as watch:
        for done in (0, 1, 2):
            watch.step("otc_raw", done, 2)
        watch.step("fetch OTC:2025-11-14", 0, 1)
        watch.step("fetch", 1, 1)
        for done in (0, 3):
            watch.step("otc_raw", done, 3)
    assert watch.reached == 6
    assert capsys.readouterr().err.splitlines() == [
        "otc_raw: 2 of 2 partitions",
        "fetch: 1 of 1 partitions",
        "otc_raw: 3 of 3 partitions",
    ]


def test_progress_on_a_terminal_names_table_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a live display without stage, count or time left."""
    import io

    from rich.console import Console

    from market_spine.cli import progress

    out = io.StringIO()
    monkeypatch.setattr(progress, "errors", lambda _stream: Console(file=out, force_terminal=True, width=100))
    with Watch(4) as watch:
        watch.step("otc_raw", 2, 4)
        watch.display.refresh()
    assert "otc_raw" in out.getvalue()
    assert "2/4" in out.getvalue()
    assert "left" in out.getvalue()
