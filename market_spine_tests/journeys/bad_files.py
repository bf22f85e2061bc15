"""Deliveries that are wrong in one way each, and what must become of them.

What belongs here: the bytes and the answers, worked out by hand from the rules. What does not: running them.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from market_spine.domain.keys import WeekKey
from market_spine_tests.journeys.stage import HEADER, T1, line, lines, text

GOOD = 160  # good rows of a case: lines 2 to 161, after the header
Make = Callable[[WeekKey], bytes]
Row = Callable[[WeekKey], str]
Reject = tuple[int, str, str]  # line, reason, scope

UNREADABLE = frozenset({("readable", "CRITICAL")})
NOTHING = frozenset({("delivered", "ERROR")})
ERROR_RATE = ("error_rate", "ERROR")
TOO_FEW = ("minimum_records", "ERROR")


@dataclass(frozen=True)
class Case:
    """``raw`` and ``clean``: rows of the raw and the normalised table; None where there is no capture.

    ``rejects`` never were rows, ``aside`` were set aside at normalisation. ``failed``: (check, severity) of both.
    """

    make: Make
    action: str | None = "inserted"
    raw: int | None = GOOD
    clean: int | None = GOOD
    rejects: Sequence[Reject] = ()
    aside: Sequence[Reject] = ()
    failed: frozenset[tuple[str, str]] = frozenset()


def row(symbol: str = "ZZ", mpid: str = "UBSA", shares: str | int = 10, trades: str | int = 2, **more: str) -> Row:
    return lambda week: line(week, symbol, mpid, shares, trades, **more)


def with_rows(*more: Row, good: int = GOOD) -> Make:
    """Good rows, then ``more`` from line 162 on."""
    return lambda week: text([*lines(week, good), *(one(week) for one in more)])


def changed(change: Callable[[bytes], bytes]) -> Make:
    """A good week, changed as a whole."""
    return lambda week: change(text(lines(week, GOOD)))


def reordered(week: WeekKey) -> bytes:
    """The columns back to front."""
    data = text(lines(week, GOOD)).decode().splitlines()
    return ("\n".join("|".join(reversed(each.split("|"))) for each in data) + "\n").encode()


def blocked(make: Make, *, failed: frozenset[tuple[str, str]] = UNREADABLE, rejects: Sequence[Reject] = ()) -> Case:
    return Case(make, "blocked", None, None, rejects, failed=failed)


def reject(at: int, reason: str) -> Reject:
    return (at, reason, "ROW")


def malformed(count: int, good: int = GOOD - 8) -> Make:
    return with_rows(*[row(shares="not reported")] * count, good=good)


def a_bad_row(bad: Row, reason: str) -> Case:
    """One line that is no row."""
    return Case(with_rows(bad), rejects=[reject(162, reason)])


def set_aside(bad: Row, reason: str) -> Case:
    """One row that a rule of the feed sets aside; the rest of the week goes on."""
    return Case(
        with_rows(bad), raw=GOOD + 1, aside=[reject(162, reason)], failed=frozenset({(reason.lower(), "ERROR")})
    )


def forbidden(bad: Row, reason: str) -> Case:
    """One row that cannot be: its week is captured raw and goes no further."""
    found = frozenset({(reason.lower(), "CRITICAL")})
    return Case(with_rows(bad), raw=GOOD + 1, clean=None, aside=[reject(162, reason)], failed=found)


CASES: dict[str, Case] = {
    # The file as a whole: forms that are read, and those that are refused.
    "good": Case(with_rows()),
    "byte order mark": Case(changed(lambda data: b"\xef\xbb\xbf" + data)),
    "CRLF": Case(changed(lambda data: data.replace(b"\n", b"\r\n"))),
    "no last newline": Case(changed(lambda data: data.removesuffix(b"\n"))),
    "reordered columns": Case(reordered),
    "extra column": Case(
        changed(lambda data: data.replace(b"\n", b"|more\n")), failed=frozenset({("known_columns", "WARN")})
    ),
    "missing column": blocked(changed(lambda data: data.replace(b"|MPID|", b"|venue|", 1))),
    "repeated column": blocked(changed(lambda data: data.replace(b"|issueName|", b"|MPID|", 1))),
    "UTF-16": blocked(changed(lambda data: data.decode().encode("utf-16"))),
    "HTML": blocked(lambda _: b"<!DOCTYPE html><html><body>OTC Transparency</body></html>"),
    "binary": blocked(lambda _: bytes(range(256)) * 8),
    "a NUL byte": blocked(with_rows(row(issue="A\0B"))),  # near the top of a file: it is no text
    "compressed": blocked(changed(lambda data: gzip.compress(data, mtime=0))),
    "CR alone": blocked(changed(lambda data: data.replace(b"\n", b"\r"))),
    "empty": Case(lambda _: b"", None, None, None, failed=NOTHING),
    "header only": Case(lambda _: f"{HEADER}\n".encode(), None, None, None, failed=NOTHING),
    # Gates: enough rows, few enough rejects.
    "one row too few": blocked(with_rows(good=99), failed=frozenset({TOO_FEW})),
    "just enough rows": Case(with_rows(good=100), raw=100, clean=100),
    "error rate of 5 %": Case(
        malformed(8), raw=152, clean=152, rejects=[reject(at, "NOT_A_NUMBER") for at in range(154, 162)]
    ),
    "error rate above 5 %": blocked(
        malformed(9, good=160),
        rejects=[reject(at, "NOT_A_NUMBER") for at in range(162, 171)],
        failed=frozenset({ERROR_RATE}),
    ),
    "another tier's file": blocked(
        lambda week: text([each.replace("OTC|", f"{T1.file_text}|", 1) for each in lines(week, GOOD)]),
        rejects=[reject(at, "WRONG_TIER") for at in range(2, GOOD + 2)],
        failed=frozenset({ERROR_RATE, TOO_FEW}),
    ),
    # Lines that are no rows.
    "too few fields": a_bad_row(lambda week: "|".join(line(week, "ZZ", "UBSA", 1, 1).split("|")[:4]), "FIELD_COUNT"),
    "too many fields": a_bad_row(lambda week: line(week, "ZZ", "UBSA", 1, 1) + "|x", "FIELD_COUNT"),
    "words for shares": a_bad_row(row(shares="many"), "NOT_A_NUMBER"),
    "half a trade": a_bad_row(row(trades="1.5"), "NOT_A_NUMBER"),
    "no date": a_bad_row(row(updated="15.12.2025"), "NOT_A_DATE"),
    "one row of another tier": a_bad_row(row(tier="NMS Tier 2"), "WRONG_TIER"),
    "an unknown tier": a_bad_row(row(tier="NMS Tier 3"), "UNKNOWN_TIER"),
    "a blank line": a_bad_row(lambda _: "", "BLANK_LINE"),
    "an endless line": a_bad_row(row(issue="x" * 20_000), "LINE_TOO_LONG"),
    "Latin-1": Case(
        lambda week: text([*lines(week, GOOD), row(issue="CAFÉ")(week)]).decode().encode("latin-1"),
        rejects=[reject(162, "BAD_ENCODING")],
    ),
    # Rows that a rule sets aside.
    "negative shares": set_aside(row(shares=-5), "NEGATIVE_VALUE"),
    "negative trades": set_aside(row(trades=-5), "NEGATIVE_VALUE"),
    "a future date": set_aside(row(updated="2036-01-01"), "FUTURE_DATE"),
    "trades without shares": forbidden(row(shares=0), "TRADES_WITHOUT_SHARES"),
    "shares without trades": forbidden(row(trades=0), "SHARES_WITHOUT_TRADES"),
    "no venue": set_aside(row(mpid=""), "BLANK_MPID"),
    "blank symbol at the end": Case(
        lambda week: text([*lines(week, GOOD), line(week, "", "PPEX", 1, 1, issue="")]).removesuffix(b"\n"),
        raw=GOOD + 1,
        clean=GOOD + 1,
        aside=[(162, "BLANK_SYMBOL", "SYMBOL_METRICS")],
        failed=frozenset({("blank_symbol", "WARN")}),
    ),
    "exact duplicates": Case(
        with_rows(row(), row(), row()),
        raw=GOOD + 3,
        clean=GOOD + 1,
        aside=[reject(163, "EXACT_DUPLICATE"), reject(164, "EXACT_DUPLICATE")],
        failed=frozenset({("exact_duplicate", "WARN")}),
    ),
    # Rows that are unusual, and right.
    "tape move": Case(
        with_rows(row(shares=10, trades=2), row(shares=30, trades=3, issue="ZZ (moved)")),
        raw=GOOD + 2,
        clean=GOOD + 1,
        failed=frozenset({("one_row_per_venue_and_symbol", "WARN")}),
    ),
    "no volume at all": Case(with_rows(row(shares=0, trades=0)), raw=GOOD + 1, clean=GOOD + 1),
    "fractions of a share": Case(with_rows(row(shares="0.000001", trades=1)), raw=GOOD + 1, clean=GOOD + 1),
    "symbols like words": Case(
        with_rows(*(row(symbol) for symbol in ("NA", "NAN", "NULL", "TRUE", "1E5"))), raw=GOOD + 5, clean=GOOD + 5
    ),
}  # fmt: skip
