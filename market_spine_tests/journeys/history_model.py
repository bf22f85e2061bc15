"""What the store should answer, worked out in plain Python: dictionaries, Decimals and Fractions, no SQL, no DuckDB.

What belongs here: deliveries as lines, the rules of capturing, and every measure once more from its definition. What
does not: running the platform and comparing (`test_histories`). Nothing here imports the code that it is the oracle of,
keys, tiers and the words for policies and actions apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import cache

from market_spine.domain.captures import Action, RevisionPolicy
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier

HEADER = (
    "tierDescription|issueSymbolIdentifier|issueName|marketParticipantName|MPID"
    "|totalWeeklyShareQuantity|totalWeeklyTradeCount|lastUpdateDate"
)
UPDATED = "2025-12-15"
SECOND = timedelta(seconds=1)

# A value of a row: exact numbers are compared exactly, Fractions with DOUBLEs.
Value = Decimal | Fraction | int | str | bool | None
Rows = dict[tuple[str, ...], tuple[Value, ...]]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a weekly file; the venue's name and the date are the same in all."""

    symbol: str
    mpid: str
    shares: Decimal
    trades: int
    issue: str

    def text(self, tier: Tier) -> str:
        shares = f"{self.shares:f}"
        return f"{tier.file_text}|{self.symbol}|{self.issue}|A venue|{self.mpid}|{shares}|{self.trades}|{UPDATED}"


def file_of(tier: Tier, lines: Iterable[Line], blanks: int = 0) -> bytes:
    """The bytes of a weekly file; ``blanks`` at its end make them other bytes of the same meaning."""
    return "\n".join([HEADER, *(line.text(tier) for line in lines)]).encode() + b" " * blanks + b"\n"


@dataclass(frozen=True, slots=True)
class Known:
    """One raw capture as it should be."""

    captured_at: datetime
    lines: tuple[Line, ...]
    revision: int
    is_overwritten: bool = False


State = Mapping[WeekKey, tuple[Line, ...]]


@dataclass
class History:
    """Every raw capture of every partition, in the order in which they were made."""

    captures: dict[WeekKey, list[Known]] = field(default_factory=dict)

    def deliver(self, files: State, policy: RevisionPolicy, now: datetime) -> dict[WeekKey, Action]:
        """Take in good deliveries of one moment under ``policy``; what became of each."""
        merged = {key: self._merged(key, lines, policy) for key, lines in files.items()}
        actions = {key: self._action(key, lines, policy) for key, lines in merged.items()}
        made = [key for key, action in actions.items() if action is not Action.SKIPPED]
        later = [one.captured_at + SECOND for key in made for one in self.captures.get(key, ())]
        # Whole seconds, one for all, and never before what is known: what was known at a moment stays so.
        moment = max([now.replace(microsecond=0), *self.moments(), *later])
        for key in made:
            self._add(key, merged[key], policy, moment)
        return actions

    def _merged(self, key: WeekKey, lines: tuple[Line, ...], policy: RevisionPolicy) -> tuple[Line, ...]:
        if policy is not RevisionPolicy.MERGE or key not in self.captures:
            return lines
        held = self.captures[key][-1].lines
        taken = {(line.symbol, line.mpid) for line in held}
        return (*held, *(line for line in lines if (line.symbol, line.mpid) not in taken))

    def _action(self, key: WeekKey, lines: tuple[Line, ...], policy: RevisionPolicy) -> Action:
        if key not in self.captures:
            return Action.INSERTED
        same = Counter(lines) == Counter(self.captures[key][-1].lines)
        return Action.SKIPPED if same or policy is RevisionPolicy.SKIP else Action.UPDATED

    def _add(self, key: WeekKey, lines: tuple[Line, ...], policy: RevisionPolicy, moment: datetime) -> None:
        made = self.captures.setdefault(key, [])
        revision = made[-1].revision + 1 if made else 1
        if made and policy is RevisionPolicy.OVERWRITE:
            made[-1] = replace(made[-1], is_overwritten=True)
            revision = made[-1].revision
        made.append(Known(moment, lines, revision))

    def moments(self) -> list[datetime]:
        """When anything became known, oldest first."""
        return sorted({one.captured_at for made in self.captures.values() for one in made})

    def latest(self) -> State:
        return {key: made[-1].lines for key, made in self.captures.items() if made}

    def landed(self, moment: datetime) -> State:
        """What had arrived by ``moment`` and is fit for use, later overwritten or not: what tables were made from."""
        fit = ((key, [one for one in found if is_fit(one.lines)]) for key, found in self._by(moment))
        return {key: found[-1].lines for key, found in fit if found}

    def visible(self, moment: datetime) -> State:
        """As `landed`, but a capture that was overwritten has left the history of raw."""
        kept = ((key, [one for one in found if not one.is_overwritten]) for key, found in self._by(moment))
        return {key: found[-1].lines for key, found in kept if found}

    def _by(self, moment: datetime) -> Iterator[tuple[WeekKey, list[Known]]]:
        for key, made in self.captures.items():
            yield key, [one for one in made if one.captured_at <= moment]

    def first(self) -> State:
        """The oldest visible capture of each partition."""
        kept = {key: [one for one in made if not one.is_overwritten] for key, made in self.captures.items()}
        return {key: found[0].lines for key, found in kept.items() if found}


def expected(table: str, state: State) -> dict[WeekKey, Rows]:
    """The rows of ``table`` by partition, where ``state`` is all that is known."""
    if table == "tier_split":
        return {WeekKey(week, None): tier_split(week, state) for week in {key.week_ending for key in state}}
    if table == "symbol_rolling_6w":
        return {key: rolling(key, state) for key in state}
    return {key: MEASURES[table](lines) for key, lines in state.items()}


@cache
def is_fit(lines: tuple[Line, ...]) -> bool:
    """Whether no line of a venue has trades without shares or shares without trades: such a file measures nothing."""
    sound = (line for line in lines if line.shares >= 0 and line.trades >= 0 and line.mpid)
    return all((line.shares > 0) == (line.trades > 0) for line in sound)


def is_kept(line: Line) -> bool:
    """Whether normalisation keeps a line of a file that `is_fit`: no negative values, and a venue."""
    return line.shares >= 0 and line.trades >= 0 and line.mpid != ""


@cache
def venue_volume(lines: tuple[Line, ...]) -> Rows:
    rows: Rows = {}
    for line in dict.fromkeys(filter(is_kept, lines)):  # exact copies count once
        shares, trades, count = rows.get((line.symbol, line.mpid), (Decimal(0), 0, 0))
        assert isinstance(shares, Decimal)
        assert isinstance(trades, int)
        assert isinstance(count, int)
        rows[line.symbol, line.mpid] = (shares + line.shares, trades + line.trades, count + 1)
    return rows


@cache
def by_symbol(lines: tuple[Line, ...]) -> dict[str, list[tuple[Decimal, str, int]]]:
    """(shares, mpid, trades) of each non-empty symbol, largest venue first, ties by mpid."""
    found: dict[str, list[tuple[Decimal, str, int]]] = {}
    for (symbol, mpid), (shares, trades, _) in venue_volume(lines).items():
        assert isinstance(shares, Decimal)
        assert isinstance(trades, int)
        if symbol:
            found.setdefault(symbol, []).append((shares, mpid, trades))
    return {symbol: sorted(venues, key=lambda one: (-one[0], one[1])) for symbol, venues in found.items()}


def ratio(part: Decimal | int, whole: Decimal | int) -> Fraction | None:
    return Fraction(part) / Fraction(whole) if whole else None


def symbol_summary(lines: tuple[Line, ...]) -> Rows:
    rows: Rows = {}
    for symbol, venues in by_symbol(lines).items():
        volume, trades = sum((one[0] for one in venues), Decimal(0)), sum(one[2] for one in venues)
        rows[(symbol,)] = (volume, trades, len(venues), ratio(volume, trades))
    return rows


def symbol_venue_share(lines: tuple[Line, ...]) -> Rows:
    rows: Rows = {}
    for symbol, venues in by_symbol(lines).items():
        volume = sum((one[0] for one in venues), Decimal(0))
        for rank, (shares, mpid, trades) in enumerate(venues, start=1):
            rows[symbol, mpid] = (shares, trades, ratio(shares, volume), rank)
    return rows


def index_of(shares: Sequence[Decimal]) -> Fraction | None:
    """The Herfindahl-Hirschman index of exact shares."""
    whole = Fraction(sum(shares, Decimal(0)))
    return sum(((Fraction(one) / whole) ** 2 for one in shares), Fraction(0)) if whole else None


def symbol_hhi(lines: tuple[Line, ...]) -> Rows:
    rows: Rows = {}
    for symbol, venues in by_symbol(lines).items():
        index, volume = index_of([one[0] for one in venues]), sum((one[0] for one in venues), Decimal(0))
        rows[(symbol,)] = (index, 1 / index if index else None, venues[0][1], ratio(venues[0][0], volume), len(venues))
    return rows


def rolling(key: WeekKey, state: State) -> Rows:
    """Over the six Fridays that end with the week, of those in which the symbol has a row."""
    weeks = [WeekKey(key.week_ending - timedelta(days=7 * n), key.tier) for n in range(5, -1, -1)]
    held = [by_symbol(state[week]) for week in weeks if week in state]
    rows: Rows = {}
    for symbol in by_symbol(state[key]):
        spans = [venues[symbol] for venues in held if symbol in venues]
        volumes = [sum((one[0] for one in span), Decimal(0)) for span in spans]
        trades = sum(one[2] for span in spans for one in span)
        indexes = [found for span in spans if (found := index_of([one[0] for one in span])) is not None]
        mean = Fraction(sum(volumes, Decimal(0))) / len(volumes)
        change = ratio(volumes[-1] - volumes[0], volumes[0]) if len(volumes) > 1 else None
        rows[(symbol,)] = (
            mean,
            Fraction(trades, len(volumes)),
            sum(indexes, Fraction(0)) / len(indexes) if indexes else None,
            min(volumes),
            max(volumes),
            len(volumes),
            len(volumes) == 6,
            None if change is None else "UP" if 20 * change > 1 else "DOWN" if 20 * change < -1 else "FLAT",
            None if change is None else 100 * change,
            100 * (Fraction(volumes[-1]) / mean - 1) if mean else None,
        )
    return rows


def tier_split(week: date, state: State) -> Rows:
    """Rows without a symbol count; a tier without any row is absent."""
    held = {key.tier_text: venue_volume(lines).values() for key, lines in state.items() if key.week_ending == week}
    there = {tier: list(rows) for tier, rows in held.items() if rows}
    volumes = {tier: sum((Decimal(str(row[0])) for row in rows), Decimal(0)) for tier, rows in there.items()}
    whole = sum(volumes.values(), Decimal(0))
    return {
        (tier,): (
            volumes[tier],
            sum(int(str(row[1])) for row in rows),
            ratio(volumes[tier], whole),
            len(there),
            len(there) == 3,
        )
        for tier, rows in there.items()
    }


MEASURES: dict[str, Callable[[tuple[Line, ...]], Rows]] = {
    "venue_volume": venue_volume,
    "symbol_summary": symbol_summary,
    "symbol_venue_share": symbol_venue_share,
    "symbol_hhi": symbol_hhi,
}
