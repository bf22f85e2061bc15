"""Faults: the ways in which a synthetic week goes wrong, one small function each, by name.

What belongs here: the week on its way to bytes (`Draft`) and the functions that spoil it. What does not: how a good
week is made, and reading the recipe's other options (`synthetic`).

Faults compose: they are applied in the order of the table `FAULTS`, whatever order they were asked in, each picks
its rows from its own stream of random numbers, and only rows that no other fault has touched.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from market_spine.domain.errors import SourceError, SpineError
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.domain.tiers import tier as parse_tier
from market_spine.domain.weeks import week_ending

Text = npt.NDArray[np.object_]
Flags = npt.NDArray[np.bool_]
Index = npt.NDArray[np.intp]

HEADER = (
    "tierDescription|issueSymbolIdentifier|issueName|marketParticipantName|MPID"
    "|totalWeeklyShareQuantity|totalWeeklyTradeCount|lastUpdateDate"
)
ANY = "*"  # in place of a tier or a week: every one
DEFAULT_COUNT = 3
MAX_VENUES = 1_000  # generated MPIDs are X000 .. X999


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault at one address. ``tier`` or ``week`` None means every one; what ``n`` counts is the fault's to say."""

    name: str
    tier: Tier | None
    week: date | None
    n: int = DEFAULT_COUNT

    def __post_init__(self) -> None:
        if self.name not in FAULTS:
            raise SourceError(f"no fault is called {self.name!r}", f"use one of: {', '.join(FAULTS)}")
        if self.n < 1:
            raise SourceError(f"fault {self.name} with n={self.n}", "write a whole number from 1 on after the week")

    def __str__(self) -> str:
        return f"{self.name}:{self.tier or ANY}:{self.week or ANY}:{self.n}"

    @classmethod
    def parse(cls, text: str) -> Fault:
        """The inverse of ``str``: ``name:tier:week`` or ``name:tier:week:n``; ``*`` is every tier or week."""
        parts = [part.strip() for part in text.split(":")]
        try:
            name, tier_text, week_text, n = parts if len(parts) == 4 else [*parts, str(DEFAULT_COUNT)]
            tier = None if tier_text == ANY else parse_tier(tier_text)
            week = None if week_text == ANY else week_ending(week_text)
            return cls(name, tier, week, int(n))
        except SpineError as error:
            raise SourceError(f"fault={text}: {error.cause}", error.remedy) from error
        except ValueError as error:
            raise SourceError(
                f"fault={text} is not name:tier:week[:n]", "write e.g. fault=restatement:OTC:2025-11-14:3"
            ) from error

    def hits(self, key: WeekKey) -> bool:
        """Whether the fault is addressed to ``key``."""
        return self.tier in (None, key.tier) and self.week in (None, key.week_ending)

    @property
    def order(self) -> tuple[int, bool, str, bool, str, int]:
        """Where the fault stands among others: by table, and the general before the particular."""
        place = list(FAULTS).index(self.name)
        return place, self.tier is not None, self.tier or "", self.week is not None, str(self.week or ""), self.n


@dataclass(frozen=True, slots=True)
class Draft:
    """One week of one tier on its way to bytes: one entry of every array per line of the file, all text.

    ``touched`` rows are spoilt already, ``short`` rows lose their last fields, ``lost_lines`` are missing at the end.
    ``version`` 1 is the first release, 2 what stands there from the revision on; ``late_hours`` delays the first.
    """

    key: WeekKey
    seed: int
    version: int
    revised_on: date
    tier: Text
    symbol: Text
    issue: Text
    venue: Text
    mpid: Text
    shares: Text
    trades: Text
    updated: Text
    touched: Flags
    short: Flags
    lost_lines: int = 0
    late_hours: int = 0

    def take(self, rows: Index | Flags) -> Draft:
        """The draft with only ``rows``, in that order; a row may be taken more than once."""
        return replace(self, **{name: getattr(self, name)[rows] for name in (*COLUMNS, "touched", "short")})

    def put(self, rows: Index | Flags, *, touch: bool = True, **values: object) -> Draft:
        """The draft with new ``values`` in columns of ``rows``; those rows count as touched."""
        changed = {name: getattr(self, name).copy() for name in (*values, "touched")}
        for name, value in values.items():
            changed[name][rows] = value
        changed["touched"][rows] |= touch
        return replace(self, **changed)

    def render(self) -> bytes:
        """The file's bytes: header, one line per row, a newline at the end unless the file is truncated."""
        lines = list(map("|".join, zip(*(getattr(self, name) for name in COLUMNS), strict=True)))
        for row in np.flatnonzero(self.short):
            lines[row] = "|".join(lines[row].split("|")[:4])
        if not self.lost_lines:
            return "\n".join([HEADER, *lines, ""]).encode()
        kept = lines[: len(lines) - self.lost_lines]
        kept[-1] = kept[-1][: len(kept[-1]) // 2]
        return "\n".join([HEADER, *kept]).encode()


COLUMNS = ("tier", "symbol", "issue", "venue", "mpid", "shares", "trades", "updated")  # in the file's order
FaultFunction = Callable[[Draft, int], Draft]


def _pick(draft: Draft, fault: str, n: int, among: Flags | None = None, spread: str = "") -> Index:
    """``n`` untouched rows in file order. ``spread`` names a column whose values are used once before any twice."""
    entropy = np.random.SeedSequence([draft.seed, draft.key.week_ending.toordinal(), zlib.crc32(fault.encode())])
    priority = np.random.PCG64(entropy).random_raw(len(draft.symbol)).argsort(kind="stable")
    allowed = ~draft.touched if among is None else ~draft.touched & among
    rows = priority[allowed[priority]]
    if spread:
        _, first = np.unique(getattr(draft, spread)[rows], return_index=True)
        again = np.ones(len(rows), dtype=np.bool_)
        again[first] = False
        rows = np.concatenate([rows[np.sort(first)], rows[again]])
    _require(draft, fault, n, len(rows), "untouched rows")
    return np.sort(rows[:n])


def _require(draft: Draft, fault: str, n: int, have: int, what: str) -> None:
    if n > have:
        raise SourceError(
            f"fault {fault} wants {n} {what}, {draft.key} has {have}",
            f"write {fault}:{draft.key}:{max(have, 1)} or less, or a larger scale=",
        )


def many_venues(draft: Draft, n: int) -> Draft:
    """The week's rows are spread evenly over n generated venues (X000, X001, ...) instead of its own."""
    _require(draft, "many-venues", n, MAX_VENUES, "venues")
    rows = np.arange(max(len(draft.symbol), n)) % len(draft.symbol)
    order = np.argsort(rows, kind="stable")
    number = np.arange(len(rows))[order] % n
    mpids = np.array([f"X{venue:03d}" for venue in range(n)], dtype=object)
    names = np.array([f"X{venue:03d} SYNTHETIC ATS {venue:03d}" for venue in range(n)], dtype=object)
    spread = draft.take(rows[order]).put(_every(len(rows)), touch=False, mpid=mpids[number], venue=names[number])
    _, first = np.unique(spread.symbol + "|" + spread.mpid, return_index=True)  # also the file's order
    return spread.take(first)


def _every(n: int) -> Flags:
    """Every one of ``n`` rows."""
    return np.ones(n, dtype=np.bool_)


def partial_venues(draft: Draft, n: int) -> Draft:
    """Only the n venues with the most rows are in the file; the rest of the week is missing without a word."""
    mpids, counts = np.unique(draft.mpid, return_counts=True)
    _require(draft, "partial-venues", n, len(mpids), "venues")
    kept = mpids[np.argsort(-counts, kind="stable")[:n]]
    return draft.take(np.isin(draft.mpid, kept))


def tape_move(draft: Draft, n: int) -> Draft:
    """One row of each of n symbols becomes two: same symbol and MPID, another issue name, the volume divided."""
    dividable = np.array([trades != "1" for trades in draft.trades], dtype=np.bool_)
    symbols = len(np.unique(draft.symbol[dividable & ~draft.touched]))
    _require(draft, "tape-move", n, symbols, "symbols with two trades at a venue")
    rows = _pick(draft, "tape-move", n, dividable, spread="symbol")
    first_half = [(int(draft.shares[row].split(".")[0]) // 2, int(draft.trades[row]) // 2) for row in rows]
    rest = [_less(draft.shares[row], shares) for row, (shares, _) in zip(rows, first_half, strict=True)]
    trades_left = [_less(draft.trades[row], trades) for row, (_, trades) in zip(rows, first_half, strict=True)]
    before = draft.put(rows, shares=[str(s) for s, _ in first_half], trades=[str(t) for _, t in first_half])
    order = np.sort(np.concatenate([np.arange(len(draft.symbol)), rows]))
    moved = np.searchsorted(order, rows, side="right") - 1
    names = draft.issue[rows] + " (moved)"
    return before.take(order).put(moved, issue=names, shares=rest, trades=trades_left)


def _less(number: str, taken: int) -> str:
    """A decimal text, its whole part less by ``taken``."""
    whole, point, fraction = number.partition(".")
    return f"{int(whole) - taken}{point}{fraction}"


def blank_symbol(draft: Draft, n: int) -> Draft:
    """n rows have an empty symbol, on different venues as far as there are enough."""
    return draft.put(_pick(draft, "blank-symbol", n, spread="mpid"), symbol="")


def zero_volume(draft: Draft, n: int) -> Draft:
    """n rows have trades but 0 shares."""
    return draft.put(_pick(draft, "zero-volume", n), shares="0")


def negative_values(draft: Draft, n: int) -> Draft:
    """n rows have a negative number of shares."""
    rows = _pick(draft, "negative-values", n)
    return draft.put(rows, shares="-" + draft.shares[rows])


def future_date(draft: Draft, n: int) -> Draft:
    """n rows were last updated ten years after they were published."""
    rows = _pick(draft, "future-date", n)
    return draft.put(rows, updated=(draft.revised_on + timedelta(days=3_653)).isoformat())


def wrong_tier(draft: Draft, n: int) -> Draft:
    """n rows carry the text of the next tier (OTC: of the first)."""
    tiers = list(Tier)
    other = tiers[(tiers.index(Tier(draft.key.tier_text)) + 1) % len(tiers)]
    return draft.put(_pick(draft, "wrong-tier", n), tier=other.file_text)


def malformed_lines(draft: Draft, n: int) -> Draft:
    """n lines do not parse: by turns four fields instead of eight, words for shares, words for trades."""
    rows = _pick(draft, "malformed-lines", n)
    bad_shares = draft.put(rows[1::3], shares="not reported")
    return bad_shares.put(rows[2::3], trades="many").put(rows[0::3], short=True)


def duplicate_rows(draft: Draft, n: int) -> Draft:
    """n rows stand in the file twice, exactly alike."""
    rows = _pick(draft, "duplicate-rows", n)
    return draft.put(rows).take(np.sort(np.concatenate([np.arange(len(draft.symbol)), rows])))


def restatement(draft: Draft, n: int) -> Draft:
    """From the revision on: n rows have 100 more shares, one more trade, a later date; one symbol is gone."""
    spoilt = set(draft.symbol[draft.touched])
    whole = np.array([symbol not in spoilt for symbol in draft.symbol], dtype=np.bool_)
    gone = draft.symbol == draft.symbol[_pick(draft, "restatement", 1, whole)[0]]
    rows = _pick(draft, "restatement", n, ~gone)
    if draft.version == 1:  # the same rows are taken, so that the other faults hit the same ones in both versions
        return draft.put(rows).put(gone)
    shares = [_less(draft.shares[row], -100) for row in rows]
    trades = [_less(draft.trades[row], -1) for row in rows]
    restated = draft.put(rows, shares=shares, trades=trades, updated=draft.revised_on.isoformat())
    return restated.take(~gone)


def added_symbols(draft: Draft, n: int) -> Draft:
    """From the revision on: n more symbols (SZ0000, ...), reported late by the venues of existing ones."""
    rows = _pick(draft, "added-symbols", n)
    if draft.version == 1:
        return draft.put(rows)
    names = [f"SZ{number:04d}" for number in range(n)]
    issues = [f"Synthetic Issue late {number:04d} Common Stock" for number in range(n)]
    last = len(draft.symbol) + np.arange(n)
    longer = draft.put(rows).take(np.concatenate([np.arange(len(draft.symbol)), rows]))
    return longer.put(last, symbol=names, issue=issues, updated=draft.revised_on.isoformat())


def truncated_file(draft: Draft, n: int) -> Draft:
    """The last n rows are missing and the bytes end in the middle of a line."""
    _require(draft, "truncated-file", n, len(draft.symbol) - 1, "rows to lose")
    return replace(draft, lost_lines=n)


def late_tier(draft: Draft, n: int) -> Draft:
    """Due, but there are no rows until n hours after FINRA should have published."""
    return replace(draft, late_hours=max(n, draft.late_hours))


# Applied in this order: whole weeks, then rows, then what a revision does to them, then the file as a whole.
FAULTS: dict[str, FaultFunction] = {
    "many-venues": many_venues,
    "partial-venues": partial_venues,
    "tape-move": tape_move,
    "blank-symbol": blank_symbol,
    "zero-volume": zero_volume,
    "negative-values": negative_values,
    "future-date": future_date,
    "wrong-tier": wrong_tier,
    "malformed-lines": malformed_lines,
    "duplicate-rows": duplicate_rows,
    "restatement": restatement,
    "added-symbols": added_symbols,
    "truncated-file": truncated_file,
    "late-tier": late_tier,
}
