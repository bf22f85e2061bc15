"""Random histories: what can happen, and a scene on which it happens to the real platform and to the model at once.

What belongs here: deliveries and rounds, playing them, reading answers in the model's form. What does not: claims
(`test_histories`), and the answers themselves (`history_model`).
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from market_spine.assets.capture import Options
from market_spine.assets.compute import compute
from market_spine.assets.ingest import ingest
from market_spine.assets.spine import Spine
from market_spine.assets.tables import steps_of
from market_spine.domain.captures import Action, RevisionPolicy, View
from market_spine.domain.contracts import Feed
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.feeds.otc import OTC
from market_spine.sources.delivery import Delivery, Empty, EmptyKind, Inventory, Part, WeekSource
from market_spine.store.ledger import Run
from market_spine.store.manifest import Capture, Question
from market_spine.store.store import Store
from market_spine_tests.journeys.history_model import HEADER, History, Line, Rows, State, file_of, is_fit

BLOCKS = 26
START = datetime(2026, 1, 5, 12, tzinfo=UTC)
TIERS = (Tier.OTC, Tier.NMS_TIER_1)
# Of a block's weeks the third sees the second through its six weeks, and just not the first.
OFFSETS = (0, 1, 6)
SLOTS = [
    [WeekKey(date(2020, 1, 3) + timedelta(weeks=12 * block + offset), tier) for offset, tier in product(OFFSETS, TIERS)]
    for block in range(BLOCKS)
]
DERIVED = ("venue_volume", "symbol_summary", "venue_share", "symbol_venue_share", "symbol_hhi", "tier_split")
COMPUTED = (*DERIVED, "symbol_rolling_6w")
COMPARED = tuple(name for name in COMPUTED if name != "venue_share")

AMOUNTS = [
    *((Decimal(shares), trades) for shares, trades in [("100", 1), ("300", 7), ("0.000001", 1), ("95", 2)]),
    *((Decimal(shares), trades) for shares, trades in [("1234567890.654321", 99_999), ("105", 3), ("0", 0)]),
    *((Decimal(shares), trades) for shares, trades in [("-1", 1), ("250", -1)]),
]
UNFIT = [Line("QA", "VEN1", Decimal(0), 5, "One"), Line("QA", "VEN1", Decimal(7), 0, "One")]
LINES = [
    Line(symbol, mpid, shares, trades, issue)
    for issue, mpid, (shares, trades), symbol in product(
        ("One", "Two"), ("VEN1", "VEN2", "VEN3", ""), AMOUNTS, ("QA", "QB", "NA", "")
    )
] + 4 * UNFIT
BAD = (b"", b"<html><body>Not found</body></html>", HEADER.encode(), HEADER.encode() + b"\nOTC|QA|broken\n")


@dataclass(frozen=True)
class Edit:
    """A restatement of what the partition last delivered: line ``at`` is replaced by ``lines`` (none: removed)."""

    at: int
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Again:
    """The same lines once more, in another order."""

    turn: int


@dataclass(frozen=True)
class Round:
    """What happens at one moment: files for some places of some blocks. None: the source has nothing."""

    seconds: int
    policy: RevisionPolicy
    arrivals: dict[tuple[int, int], tuple[Line, ...] | Edit | Again | bytes | None]


some_lines = st.lists(st.sampled_from(LINES), min_size=1, max_size=6).map(tuple)
edits = st.builds(Edit, st.integers(0, 5), st.lists(st.sampled_from(LINES), max_size=2).map(tuple))
arrivals = st.one_of(
    some_lines, edits, edits, edits, st.builds(Again, st.integers(0, 5)), st.sampled_from([*BAD, None])
)
# Mostly one tier, so that what arrives in one round is what an earlier one brought.
places = st.sampled_from([0, 0, 0, 2, 2, 2, 4, 4, 4, 1, 3, 5])
by_block = st.lists(st.dictionaries(places, arrivals, min_size=1, max_size=4), min_size=BLOCKS, max_size=BLOCKS).map(
    lambda blocks: {(block, slot): what for block, each in enumerate(blocks) for slot, what in each.items()}
)
rounds = st.builds(
    Round,
    st.sampled_from([0, 0, 1, 61, 90_000]),
    st.sampled_from([RevisionPolicy.VERSIONED, RevisionPolicy.VERSIONED, *RevisionPolicy]),
    by_block,
)
histories = st.lists(rounds, min_size=3, max_size=5)


@dataclass
class Shelf:
    """A source that has what was put on it."""

    kind = series = "file"
    files: dict[WeekKey, bytes] = field(default_factory=dict)

    def inventory(self, feed: Feed, now: datetime) -> Inventory:
        return Inventory(tuple(sorted(self.files)))

    def fetch(self, feed: Feed, key: WeekKey, now: datetime) -> Delivery | Empty:
        if key not in self.files:
            return Empty(key, EmptyKind.NO_ROWS, "nothing here", "put something there")
        part = Part(f"{key.tier}_{key.week_ending}.csv", self.files[key])
        return Delivery(key, (part,), self.kind, part.name, WeekSource.PATH, now)


@dataclass
class Scene:
    """The platform and its model, side by side."""

    spine: Spine
    shelf: Shelf
    model: History = field(default_factory=History)
    now: datetime = START
    states: list[State] = field(default_factory=list)
    delivered: dict[WeekKey, tuple[Line, ...]] = field(default_factory=dict)

    @property
    def keys(self) -> list[WeekKey]:
        return sorted(key for slots in SLOTS for key in slots)

    def play(self, history: Sequence[Round]) -> None:
        for each in history:
            self.now += timedelta(seconds=each.seconds)
            self.arrive(each)
            self.compute_all()
            self.states.append(self.model.landed(self.now + timedelta(days=1)))

    def arrive(self, told: Round) -> None:
        """Ingest the files of a round; actions, revisions and row counts are the model's."""
        wanted = sorted(SLOTS[block][slot] for block, slot in told.arrivals)
        by_key = {SLOTS[block][slot]: what for (block, slot), what in told.arrivals.items()}
        self.shelf.files, good = self.files_of(by_key)
        report = ingest(self.spine, OTC, wanted, self.run(), Options(told.policy, min_records=1))
        actions = {one.week_key: one.action for one in report.results}
        actions |= {one.key: Action.SKIPPED for one in report.unchanged}
        assert actions == self.actions(wanted, good, told.policy)
        for one in report.results:
            if one.action is not Action.BLOCKED:
                held = self.model.captures[one.week_key][-1]
                assert one.revision == held.revision
                assert one.action is Action.SKIPPED or one.record_count == len(held.lines)

    def files_of(
        self, arrived: Mapping[WeekKey, tuple[Line, ...] | Edit | Again | bytes | None]
    ) -> tuple[dict[WeekKey, bytes], dict[WeekKey, tuple[Line, ...]]]:
        """The files on the shelf, and the lines of those that are good."""
        files, good = {}, {}
        for key, what in sorted(arrived.items(), key=lambda item: item[0]):
            if isinstance(what, bytes):
                files[key] = what
            elif what is not None and (lines := self.lines_of(key, what)):
                good[key] = self.delivered[key] = lines
                files[key] = file_of(Tier(key.tier_text), lines)
        return files, good

    def lines_of(self, key: WeekKey, what: tuple[Line, ...] | Edit | Again) -> tuple[Line, ...]:
        last = self.delivered.get(key, ())
        if isinstance(what, Edit):
            at = what.at % (len(last) + 1)
            return (*last[:at], *what.lines, *last[at + 1 :])
        if isinstance(what, Again):
            return last[what.turn :][::-1] + last[: what.turn]
        return what

    def actions(
        self, wanted: Sequence[WeekKey], good: Mapping[WeekKey, tuple[Line, ...]], policy: RevisionPolicy
    ) -> dict[WeekKey, Action]:
        """What the model does with the round. The same bytes for two partitions of one run are refused."""
        seen: set[bytes] = set()
        found: dict[WeekKey, Action] = {}
        taken: dict[WeekKey, tuple[Line, ...]] = {}
        for key in wanted:
            if policy is RevisionPolicy.SKIP and key in self.model.captures:
                found[key] = Action.SKIPPED
            elif key in self.shelf.files:
                if key in good and self.shelf.files[key] not in seen:
                    taken[key] = good[key]
                else:
                    found[key] = Action.BLOCKED
                seen.add(self.shelf.files[key])
        return found | self.model.deliver(taken, policy, self.now)

    def compute_all(self, names: Sequence[str] = COMPUTED) -> int:
        """Compute these tables for every partition; how many captures that made."""
        made = 0
        for name in names:
            step = steps_of(OTC)[name]
            keys = self.keys if step.table.by_tier else sorted({WeekKey(key.week_ending, None) for key in self.keys})
            report = compute(self.spine, step, keys, self.run())
            unfit = {key for key, lines in self.model.latest().items() if not is_fit(lines)}
            assert report.blocked.keys() == (unfit if name == "venue_volume" else set())
            made += len(report.written)
        return made

    def run(self) -> Run:
        return Run("an-execution", "a-correlation", self.now)

    def select(self, view: View, as_of: datetime | None = None) -> dict[str, dict[WeekKey, Capture]]:
        names = {OTC.sql_name(name): name for name in ("raw", *COMPARED)}
        chosen: dict[str, dict[WeekKey, Capture]] = {name: {} for name in names.values()}
        for one in self.spine.store.select(Question(tuple(names), view, as_of)):
            assert one.key not in chosen[names[one.table_name]], "two captures of one partition answer"
            chosen[names[one.table_name]][one.key] = one
        return chosen

    def contents(self) -> dict[str, list[dict[str, Any]]]:
        """The rows of every capture of every compared table, by capture id."""
        names = {OTC.sql_name(name): table for name, table in self.tables.items()}
        rows: dict[str, list[dict[str, Any]]] = {}
        with self.spine.store.engine() as engine:
            held = self.spine.store.show_all(engine, names, Question(tuple(names), View.ALL_REVISIONS))
            for name, captures in held.items():
                rows |= {one.capture_id: [] for one in captures}
                cursor = engine.execute(f"SELECT * FROM {name}")
                columns = [column[0] for column in cursor.description or ()]
                for values in cursor.fetchall():
                    row = dict(zip(columns, values, strict=True))
                    rows[row["capture_id"]].append(row)
        return rows

    @property
    def tables(self) -> dict[str, Any]:
        return {"raw": OTC.raw} | {name: steps_of(OTC)[name].table for name in COMPARED}


@contextmanager
def scene(template: Path) -> Iterator[Scene]:
    """A store of its own, in memory where the machine has such a folder: nothing here is about durability."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        home = Path(folder) / "home"
        shutil.copytree(template, home)
        shelf = Shelf()
        told = Scene(Spine(Store.at(home, threads=1), shelf, lambda: told.now), shelf)
        yield told
        told.spine.store.control.dispose()


def rows_of(name: str, stored: Sequence[Mapping[str, Any]]) -> Rows:
    """Stored rows in the model's form: the grain without the partition, then every other column in order."""
    table = steps_of(OTC)[name].table
    partition = ("week_ending", "tier") if table.by_tier else ("week_ending",)
    grain = [column for column in table.grain if column not in partition]
    values = [column.name for column in table.columns if column.name not in table.grain]
    found = {tuple(row[column] for column in grain): tuple(row[column] for column in values) for row in stored}
    assert len(found) == len(stored)
    return found


def raw_lines(stored: Sequence[Mapping[str, Any]]) -> Counter[Line]:
    return Counter(
        Line(row["symbol"], row["mpid"], row["total_shares"], row["total_trades"], row["issue_name"]) for row in stored
    )


def is_same(stored: Rows, wanted: Rows) -> bool:
    """Exact values exactly, quotients to 1e-12."""
    return stored.keys() == wanted.keys() and all(
        math.isclose(float(str(one)), float(other), rel_tol=1e-12, abs_tol=1e-15)
        if isinstance(other, Fraction) and one is not None
        else one == other
        for grain in wanted
        for one, other in zip(stored[grain], wanted[grain], strict=True)
    )


@dataclass
class Judge:
    """Compares answers of the store with the model, each distinct pair once."""

    contents: Mapping[str, list[dict[str, Any]]]
    agreed: dict[str, Rows | Counter[Line]] = field(default_factory=dict)

    def raw(self, what: str, answer: Mapping[WeekKey, Capture], state: State) -> None:
        assert answer.keys() == state.keys(), f"raw {what}"
        for key, capture in answer.items():
            assert raw_lines(self.contents[capture.capture_id]) == Counter(state[key]), f"raw {what} {key}"

    def derived(self, name: str, what: str, answer: Mapping[WeekKey, Capture], wanted: Mapping[WeekKey, Rows]) -> None:
        assert answer.keys() == wanted.keys(), f"{name} {what}"
        for key, capture in answer.items():
            if self.agreed.get(capture.capture_id) == wanted[key]:
                continue
            stored = rows_of(name, self.contents[capture.capture_id])
            assert is_same(stored, wanted[key]), f"{name} {what} {key}: {stored} instead of {wanted[key]}"
            self.agreed[capture.capture_id] = wanted[key]

    def hashes(self, told: Scene) -> None:
        """Captures have one content hash exactly where they have the same rows, in whatever order they came."""
        for name, table in told.tables.items():
            left_out = {"part_no", "line_no", "week_ending"} | ({"tier"} if table.by_tier else set())
            names = [column.name for column in table.columns if column.name not in left_out]
            question = Question((OTC.sql_name(name),), View.ALL_REVISIONS)
            pairs = {
                (one.content_hash, frozenset(Counter(tuple(row[c] for c in names) for row in held).items()))
                for one in told.spine.store.select(question)
                for held in [self.contents[one.capture_id]]
            }
            assert len({one for one, _ in pairs}) == len({other for _, other in pairs}) == len(pairs), name
