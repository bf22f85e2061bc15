"""The synthetic source: realistic weeks in FINRA's file form, made from a recipe, with faults on request.

What belongs here: the shapes of the three tiers, making one week, and the recipe's text form. What does not: the
faults (`synthetic_faults`), and FINRA's own rows, of which there are none in this project.

The same recipe, week and version give the same bytes on every machine, in any order of asking: random bits come from
PCG64's raw stream, seeded per (seed, week, tier), and all arithmetic after the small tables is on whole numbers
(logarithms to base 2 in 1/256), since sums and powers of floats may differ from one processor to the next.
MPIDs are FINRA's public identifiers; the issues are invented (SYBZTZ, Synthetic Issue 00001), the volumes too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache, lru_cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from market_spine.domain.contracts import Feed
from market_spine.domain.errors import SourceError
from market_spine.domain.keys import WeekKey
from market_spine.domain.publication import (
    NEW_YORK,
    is_due,
    latest_due_week,
    publication_date,
    publication_instant,
)
from market_spine.domain.sessions import session_count
from market_spine.domain.tiers import Tier
from market_spine.domain.tiers import tier as parse_tier
from market_spine.domain.weeks import monday_of, weeks_between
from market_spine.sources.delivery import Delivery, Empty, EmptyKind, Inventory, Part, WeekSource
from market_spine.sources.synthetic_faults import FAULTS, Draft, Fault, Text

Whole = npt.NDArray[np.int64]

ONE = 256  # log2 fixed point: this many units double a quantity
FIRST_FRACTIONAL_DAY = date(2026, 2, 23)  # FINRA publishes fractional shares from this day on
FRACTIONAL_PERCENT = 13
SHORT_WEEK_POWER = 1.35  # trades ~ (sessions / 5) ** 1.35: Thanksgiving week (3.5 sessions) has 38 % fewer
LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
MAX_SCALE = 8.0  # the three tiers have 17,200 issues at scale 1, and there are 20 ** 4 symbols
SOFT_CEILING = 24  # 2**24 = 16.8M shares in a week; FINRA's largest rows are about 250M
REVISION_HOURS = 48


@dataclass(frozen=True, slots=True)
class Venue:
    """An ATS: its relative weight in the tier's shares, and its typical shares per trade."""

    mpid: str
    name: str
    weight: float
    trade_size: float


@dataclass(frozen=True, slots=True)
class Group:
    """Issues that trade on the same venues: how many at scale 1, and log2 of their weekly trades (mean, sigma)."""

    issues: int
    venues: range
    mean: float
    sigma: float


@dataclass(frozen=True, slots=True)
class Shape:
    """One tier. The sigmas are of log2: trade sizes among issues, an issue's lasting liking of a venue, the week."""

    number: int
    first_issue: int
    venues: tuple[Venue, ...]
    groups: tuple[Group, ...]
    size_sigma: float
    affinity: float
    noise: float


NMS_VENUES = tuple(
    Venue(mpid, f"{mpid} {name}", weight, size)
    for mpid, name, weight, size in (
        ("ALPX", "ATS", 0.02, 43),
        ("AQUA", "ATS", 0.02, 300),
        ("BIDS", "BIDS ATS", 4, 750),
        ("BLKX", "ATS", 0.05, 300),
        ("BLUE", "ATS", 0.01, 46),
        ("BNPX", "ATS", 1.2, 56),
        ("BOSS", "ATS", 0.004, 60),
        ("CGXS", "ATS", 3, 69),
        ("CODA", "ATS", 0.15, 80),
        ("EBXL", "LEVEL ATS", 9, 50),
        ("IATS", "ATS", 1.5, 61),
        ("ICBX", "ATS", 1.2, 61),
        ("IEOS", "ATS", 0.004, 60),
        ("INCR", "INTELLIGENT  CROSS", 15, 52),
        ("ITGP", "POSIT", 0.8, 270),
        ("JPBX", "ATS", 2.5, 71),
        ("JPMX", "ATS", 4.5, 78),
        ("KCGM", "MATCHIT", 7, 75),
        ("LATS", "ATS", 3.5, 83),
        ("LQNA", "ATS", 0.3, 392),
        ("LQNT", "LIQUIDNET ATS", 0.8, 20_000),
        ("LTPL", "ATS", 0.1, 9_000),
        ("MLIX", "INSTINCT X", 7, 68),
        ("MOON", "ATS", 0.01, 45),
        ("MSPL", "MS POOL", 7.5, 266),
        ("MSRP", "ATS", 0.6, 76),
        ("MSTX", "MS TRAJECTORY CROSS", 7, 60),
        ("ONEC", "ATS", 1, 90),
        ("PURE", "ATS", 3, 46),
        ("SGMT", "SIGMA X2", 10, 55),
        ("STFX", "ATS", 0.01, 61),
        ("UBSA", "UBS ATS", 15, 54),
        ("XSTM", "ATS", 1, 172),
    )
)
OTC_VENUES = (
    Venue("ARCA", "ARCA GLOBAL OTC", 2.5, 600),
    Venue("OTCN", "OTCN OTC LINK NQB IDQS", 135, 3_580),
    Venue("OTCX", "OTCX OTC LINK ECN ATS", 14, 800),
    Venue("ALTS", "ALTS ATS", 1, 900),
    Venue("PPEX", "PPEX ATS", 1, 8),
    Venue("PROS", "PROS ATS", 1, 50),
    Venue("SMKT", "SMKT ATS", 1, 250),
    Venue("STEN", "STEN ATS", 1, 10),
    Venue("SWCL", "SWCL ATS", 1, 5_000),
)
# 310 issues belong to both NMS tiers, since a stock can be in both in one week (413 in the week of 2026-06-29).
SHAPES = {
    Tier.NMS_TIER_1: Shape(1, 0, NMS_VENUES, (Group(2_320, range(33), 8.0, 2.6),), 0.8, 0.4, 0.7),
    Tier.NMS_TIER_2: Shape(2, 2_010, NMS_VENUES, (Group(9_450, range(33), 4.5, 3.2),), 1.2, 0.6, 0.8),
    Tier.OTC: Shape(
        3,
        12_000,
        OTC_VENUES,
        (
            Group(4_560, range(3), -0.2, 3.2),
            Group(620, range(4, 5), 1.8, 2.4),
            *(Group(n, range(at, at + 1), 8.0, 0.3) for n, at in ((4, 3), (5, 5), (1, 6), (1, 7), (1, 8))),
        ),
        3.0,
        1.6,
        1.9,
    ),
}


@dataclass(frozen=True, slots=True)
class Universe:
    """The issues of one tier, in symbol order: text per issue; log2 trades and shares per trade per issue and venue."""

    symbol: Text
    issue: Text
    mpid: Text
    venue: Text
    trades: Whole
    size: Whole


def _log2(value: float) -> int:
    return round(ONE * math.log2(value))


@cache
def _tables() -> tuple[Whole, Whole, Text]:
    """Normal quantiles in log2 units, powers of two below 2 (in 2**-20), and texts of fractions of a share."""
    normal = [round(ONE * NormalDist().inv_cdf((n + 0.5) / 4_096)) for n in range(4_096)]
    powers = [round(2 ** (20 + n / ONE)) for n in range(ONE)]
    digits = (1, 2, 3, 4, 5, 6, 6, 6)
    fractions = [f".{1 + n * 7_919 % (10 ** digits[n % 8] - 1):0{digits[n % 8]}d}".rstrip("0") for n in range(4_096)]
    return np.array(normal, np.int64), np.array(powers, np.int64), np.array(fractions, dtype=object)


def _normal(bits: npt.NDArray[np.uint64], shift: int, sigma: float) -> Whole:
    """A normal deviate in log2 units from 12 of each row's 64 bits."""
    twelve = ((bits >> np.uint64(shift)) & np.uint64(0xFFF)).astype(np.intp)
    return _tables()[0][twelve] * round(ONE * sigma) // ONE


def _power(log2: Whole) -> Whole:
    """2 to the ``log2``, rounded down. Beyond 2**24 a doubling counts half, so that no one row makes the week."""
    high = SOFT_CEILING * ONE
    capped = np.maximum(np.where(log2 > high, high + (log2 - high) // 2, log2), 0)
    power: Whole = (_tables()[1][capped % ONE] << (capped // ONE)) >> 20
    return power


def _bits(n: int, *entropy: int) -> npt.NDArray[np.uint64]:
    raw: npt.NDArray[np.uint64] = np.random.PCG64(np.random.SeedSequence(entropy)).random_raw(n)
    return raw


def _symbol(issue: int) -> str:
    """Six letters, one more than any listed symbol has, no vowel among them; distinct per issue."""
    code = issue * 7_919 % len(LETTERS) ** 4
    return "SY" + "".join(LETTERS[code // len(LETTERS) ** place % len(LETTERS)] for place in (3, 2, 1, 0))


def _issue_name(issue: int) -> str:
    """Mostly plain; some with the double spaces and apostrophes that FINRA's names have."""
    kind = {0: " Common Stock", 1: "  Common Stock", 2: " Holders' Units", 3: ", Inc. Com Par $0.001"}
    return f"Synthetic Issue {issue:05d}{kind.get(issue % 20, ' Common Stock')}"


def _ranked(n: int, sigma: float, *entropy: int) -> Whole:
    """``n`` normal deviates with evenly spread ranks in random order: heavy tails without luck, at any scale."""
    ranks = _bits(n, *entropy).argsort(kind="stable").argsort(kind="stable")
    return _tables()[0][(2 * ranks + 1) * 2_048 // n] * round(ONE * sigma) // ONE


@lru_cache(maxsize=6)
def _universe(seed: int, scale: float, tier: Tier) -> Universe:
    """The issues of ``tier``; what an issue is does not depend on the week."""
    shape = SHAPES[tier]
    trades, size = [], []
    offset = [_log2(venue.weight / venue.trade_size) for venue in shape.venues]
    for number, group in enumerate(shape.groups):
        n = max(1, round(group.issues * scale))
        base = np.full((n, len(shape.venues)), -(10**6), np.int64)  # never traded there
        top = max(offset[venue] for venue in group.venues)
        for venue in group.venues:
            liking = shape.affinity if len(group.venues) > 1 else 0.0
            likes = _normal(_bits(n, seed, shape.number, number, 3, venue), 0, liking)
            base[:, venue] = offset[venue] - top + likes
        trades.append(
            base + (_ranked(n, group.sigma, seed, shape.number, number, 1) + round(ONE * group.mean))[:, None]
        )
        size.append(_ranked(n, shape.size_sigma, seed, shape.number, number, 2))
    first = round(shape.first_issue * scale)
    issues = range(first, first + sum(map(len, trades)))
    symbols = np.array([_symbol(issue) for issue in issues], dtype=object)
    order, columns = symbols.argsort(), np.argsort([venue.mpid for venue in shape.venues])
    venue_size = np.array([_log2(venue.trade_size) for venue in shape.venues], np.int64)
    return Universe(
        symbols[order],
        np.array([_issue_name(issue) for issue in issues], dtype=object)[order],
        np.array([venue.mpid for venue in shape.venues], dtype=object)[columns],
        np.array([venue.name for venue in shape.venues], dtype=object)[columns],
        np.concatenate(trades)[order][:, columns],
        np.concatenate(size)[order][:, None] + venue_size[columns],
    )


def _week(seed: int, scale: float, key: WeekKey, version: int, revised_on: date) -> Draft:
    """An ordinary week: every issue and venue whose trades come to at least one, sorted by symbol and MPID."""
    tier, week = parse_tier(key.tier_text), key.week_ending
    shape, universe = SHAPES[tier], _universe(seed, scale, tier)
    entropy = (seed, week.toordinal(), shape.number)
    cells = _bits(universe.trades.size, *entropy, 1).reshape(universe.trades.shape)
    lines = _bits(len(universe.symbol) + 1, *entropy, 2)
    market = round(_log2(session_count(week) / 5) * SHORT_WEEK_POWER) + int(_normal(lines[-1:], 0, 0.12)[0])
    level = universe.trades + _normal(lines[:-1], 0, shape.noise)[:, None] + market + _normal(cells, 0, shape.noise)
    row, column = np.nonzero(level >= 0)
    bits, level = cells[row, column], level[row, column]
    trades = _power(level)
    shares = np.maximum(trades, _power(level + universe.size[row, column] + _normal(bits, 12, 0.6)))
    shares_text = np.array(list(map(str, shares.tolist())), dtype=object)
    if monday_of(week) >= FIRST_FRACTIONAL_DAY:
        some = (bits >> np.uint64(40)) % np.uint64(100) < FRACTIONAL_PERCENT
        shares_text[some] += _tables()[2][((bits[some] >> np.uint64(24)) & np.uint64(0xFFF)).astype(np.intp)]
    return Draft(
        key=key,
        seed=seed,
        version=version,
        revised_on=revised_on,
        tier=np.full(len(row), tier.file_text, dtype=object),
        symbol=universe.symbol[row],
        issue=universe.issue[row],
        venue=universe.venue[column],
        mpid=universe.mpid[column],
        shares=shares_text,
        trades=np.array(list(map(str, trades.tolist())), dtype=object),
        updated=np.full(len(row), publication_date(week, tier).isoformat(), dtype=object),
        touched=np.zeros(len(row), dtype=np.bool_),
        short=np.zeros(len(row), dtype=np.bool_),
    )


class SyntheticSource:
    """Weeks made from a recipe. Every week from the feed's first one on exists; faults spoil the named ones.

    ``scale`` multiplies the number of symbols (venues stay); 1 is FINRA's size: about 50,000 rows a week in Tier 1,
    135,000 in Tier 2, 5,000 in OTC. A revision (faults restatement and added-symbols) shows ``revision_hours`` after
    the first publication: asked earlier, the source answers with the original.
    """

    kind = "synthetic"

    def __init__(
        self,
        seed: int = 7,
        scale: float = 1.0,
        faults: tuple[Fault, ...] = (),
        revision_hours: int = REVISION_HOURS,
    ) -> None:
        if seed < 0:
            raise SourceError(f"seed={seed} is negative", "write seed=7, or another whole number from 0 on")
        if not 0 < scale <= MAX_SCALE:
            raise SourceError(f"scale={scale} is outside 0 .. {MAX_SCALE:g}", "write scale=1 for FINRA's size")
        if revision_hours < 1:
            raise SourceError(f"revision_hours={revision_hours} is before the first release", "write 1 or more")
        self.seed, self.scale, self.revision_hours = seed, float(scale), revision_hours
        self.faults = tuple(sorted(set(faults), key=lambda fault: fault.order))

    @classmethod
    def from_spec(cls, text: str) -> SyntheticSource:
        """The source of a recipe such as ``seed=7,scale=0.02,fault=restatement:OTC:2025-11-14:3``; the inverse of
        `recipe`. ``fault`` may be repeated; an empty text is the default recipe."""
        readers = {"seed": int, "scale": float, "revision_hours": int}
        numbers: dict[str, float] = {}
        faults: list[Fault] = []
        for option in filter(None, (part.strip() for part in text.split(","))):
            name, _, value = option.partition("=")
            if name == "fault":
                faults.append(Fault.parse(value))
                continue
            if name not in readers or name in numbers:
                cause = "is written twice" if name in numbers else "is not an option of the synthetic source"
                raise SourceError(f"{name!r} {cause}", f"the options are {', '.join(readers)} once each, and fault")
            try:
                numbers[name] = readers[name](value)
            except ValueError as error:
                raise SourceError(f"{option} is not a number", f"write e.g. synthetic:{name}=7") from error
        return cls(
            int(numbers.get("seed", 7)),
            numbers.get("scale", 1.0),
            tuple(faults),
            int(numbers.get("revision_hours", REVISION_HOURS)),
        )

    @property
    def series(self) -> str:
        """Seed and scale: the beginning of the recipe. Faults and revisions happen to weeks, and are no other weeks."""
        return f"seed={self.seed},scale={self.scale!r}"

    @property
    def recipe(self) -> str:
        """The text from which `from_spec` makes this source again, faults in the order of their application."""
        parts = [self.series]
        parts += [f"revision_hours={self.revision_hours}"] if self.revision_hours != REVISION_HOURS else []
        return ",".join([*parts, *(f"fault={fault}" for fault in self.faults)])

    def inventory(self, feed: Feed, now: datetime) -> Inventory:
        """Every week of every tier that FINRA should have published by ``now``, oldest first."""
        keys = [
            WeekKey(week, tier)
            for tier in feed.tiers
            if (last := latest_due_week(tier, now)) >= feed.first_week
            for week in weeks_between(feed.first_week, last)
        ]
        return Inventory(tuple(sorted(keys)))

    def fetch(self, feed: Feed, key: WeekKey, now: datetime) -> Delivery | Empty:
        """The week as it stands at ``now``, or why there is none yet."""
        if key.tier not in feed.tiers:
            tiers = ", ".join(feed.tiers)
            raise SourceError(f"{key} is not a partition of feed {feed.name}", f"name one of its tiers: {tiers}")
        if key.week_ending < feed.first_week:
            reason = f"the feed {feed.name} begins with week {feed.first_week}"
            return Empty(key, EmptyKind.NO_ROWS, reason, f"ask for {feed.first_week} or a later week")
        due = publication_instant(key.week_ending, key.tier)
        if not is_due(key.week_ending, key.tier, now):
            return Empty(key, EmptyKind.NOT_DUE, f"FINRA publishes {key} on {due:%Y-%m-%d}", _again(due))
        version = 2 if now >= due + timedelta(hours=self.revision_hours) else 1
        draft = self._draft(key, version)
        available = due + timedelta(hours=draft.late_hours)
        if now < available:
            return Empty(
                key, EmptyKind.NO_ROWS, f"{key} was due at {due:%Y-%m-%d %H:%M} UTC, but is late", _again(available)
            )
        part = Part(f"{key.tier}_{key.week_ending}.csv", draft.render())
        name = f"synthetic:{self.recipe}"
        return Delivery(key, (part,), self.kind, name, WeekSource.REQUEST, now, {"version": str(version)})

    def content(self, key: WeekKey, version: int = 1) -> bytes:
        """The file's bytes for ``key``: version 1 is the first release, 2 what stands there after the revision."""
        return self._draft(key, version).render()

    def _draft(self, key: WeekKey, version: int) -> Draft:
        due = publication_instant(key.week_ending, parse_tier(key.tier_text))
        revised_on = (due + timedelta(hours=self.revision_hours)).astimezone(NEW_YORK).date()
        draft = _week(self.seed, self.scale, key, version, revised_on)
        for fault in self.faults:
            if fault.hits(key):
                draft = FAULTS[fault.name](draft, fault.n)
        return draft


def _again(moment: datetime) -> str:
    return f"ask again after {moment:%Y-%m-%dT%H:%M:%SZ}"
