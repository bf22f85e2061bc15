"""Corrections of the trading calendar over a loaded store: what is made again, what is left alone, and what was known.

Fourteen weeks, 2024-12-06 .. 2025-03-07, are loaded with a library from before 2025-01-09 was closed. Then 2025-01-09
is corrected to be closed, a library arrives that knows it, and 2025-01-20 (MLK Day) is corrected to be open.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from market_spine.assets.rebuild import rebuild
from market_spine.assets.scope import scope_of
from market_spine.assets.tables import tables_of
from market_spine.automation import launch
from market_spine.automation.calendar import Applied, Followed, apply_correction, follow_up, plan
from market_spine.domain.captures import View
from market_spine.domain.contracts import Feed
from market_spine.domain.corrections import Correction
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.domain.weeks import weeks_between
from market_spine.feeds.otc import FEED
from market_spine.governance.calendar import Library, installed
from market_spine.governance.readiness import judge_weeks
from market_spine.governance.staleness import Place
from market_spine.sources.synthetic import SyntheticSource
from market_spine.store import vintages
from market_spine.store.ledger import Run
from market_spine.store.manifest import Question
from market_spine.store.vintages import Recorded
from market_spine_tests.domain.vintage_lab import CARTER, MLK, closed, opened
from market_spine_tests.governance.calendar_desk import BASELINE, PER_DAY, SIX_WEEKS, without
from market_spine_tests.journeys.stage import Clock, Scene, staged

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("calendar")]
LOADED = datetime(2025, 4, 7, 12, tzinfo=UTC)  # all tiers of 2025-03-07 are due
WEEKS = weeks_between(date(2024, 12, 6), date(2025, 3, 7))
KEYS = [WeekKey(week, tier) for week in WEEKS for tier in Tier]
CARTER_WEEK, MLK_WEEK, END = date(2025, 1, 10), date(2025, 1, 24), date(2025, 3, 7)
SESSIONS = "reference_trading_calendar"
NAMES = (SESSIONS, *(name for name in tables_of(FEED) if name != SESSIONS))
Ids = dict[Place, str]


def reached(week: date, six: date, thirteen: date) -> set[Place]:
    """Volume per day of ``week``, and the windows from it to the last ones that hold it."""
    spans = {PER_DAY: week, SIX_WEEKS: six, BASELINE: thirteen}
    return {
        Place(name, WeekKey(one, tier))
        for name, last in spans.items()
        for one in weeks_between(week, last)
        for tier in Tier
    }


OF_CARTER = reached(CARTER_WEEK, date(2025, 2, 14), END)  # 13 weeks would end on 2025-04-04
OF_MLK = reached(MLK_WEEK, date(2025, 2, 28), END)


@dataclass
class Corrected(Scene):
    """A scene that remembers the current captures after each act, and what each act was told."""

    after: dict[str, Ids] = field(default_factory=dict)
    moments: dict[str, datetime] = field(default_factory=dict)
    applied: dict[str, Applied] = field(default_factory=dict)
    followed: dict[str, Followed] = field(default_factory=dict)
    found: dict[str, Any] = field(default_factory=dict)

    def held(self) -> Ids:
        captured = self.spine.store.select(Question(NAMES))
        return {Place(one.table_name, one.key): one.capture_id for one in captured}

    def note(self, act: str) -> None:
        self.after[act], self.moments[act] = self.held(), self.clock()
        self.clock.forward(days=1)

    def new(self, act: str, before: str) -> set[Place]:
        """The partitions that have another capture after ``act`` than after the act before it."""
        held = self.after[before]
        return {place for place, capture_id in self.after[act].items() if held.get(place) != capture_id}

    def correct(self, act: str, correction: Correction) -> None:
        self.applied[act] = apply_correction(self.spine, correction, [FEED], self.instance, "CRITICAL")
        self.note(f"{act} applied")
        self.found[act] = self.open()
        self.followed[act] = follow_up(self.spine, self.applied[act], [FEED], self.instance, "CRITICAL")
        self.note(f"{act} followed")

    def open(self) -> list[tuple[Any, ...]]:
        """The anomalies of corrections that are open."""
        return self.sql(
            "SELECT table_name, week_ending, tier, severity, category, pipeline, message, details_json"
            " FROM core_anomalies WHERE code = 'CALENDAR_CORRECTED' AND resolved_at IS NULL ORDER BY ALL"
        )

    def judge(self) -> None:
        judge_weeks(self.spine.store, Run("judge", "judge", self.clock()), scope_of(FEED))

    def states(self) -> dict[tuple[date, str], tuple[str, str | None]]:
        rows = self.sql("SELECT week_ending, ready_for, state, certificate_id FROM core_data_readiness")
        return {(week, use_case): (state, certificate) for week, use_case, state, certificate in rows}

    def vintages(self) -> list[Recorded]:
        with self.spine.store.control.read() as connection:
            return vintages.every(connection)


def use(library: Library) -> pytest.MonkeyPatch:
    """``library`` as the installed one, until it is undone."""
    patch = pytest.MonkeyPatch()
    for module in ("assets", "automation"):
        patch.setattr(f"market_spine.{module}.calendar.installed", lambda: library)
    return patch


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corrected]:
    """The whole story; the tests look at what it left."""
    source = SyntheticSource.from_spec("seed=7,scale=0.02")
    with staged(tmp_path_factory.mktemp("calendar") / "home", source, Clock(LOADED)) as home:
        stage = Corrected(home.spine, home.clock, home.instance, shown=home.shown)
        old = use(without(CARTER))
        try:
            stage.refresh(*KEYS)
            stage.clock.forward(days=3)
            stage.judge()
            stage.note("loaded")
            stage.found["certified"] = stage.states()
            stage.correct("carter", replace(closed(CARTER), reason="a day of mourning"))
        finally:
            old.undo()
        stage.run("otc.aggregate_week", *KEYS)
        stage.note("upgraded")
        stage.correct("mlk", replace(opened(MLK), reason="MLK Day 2025 was an OTC trading day"))
        yield stage


ACTS = [
    ("carter", "loaded", CARTER_WEEK, OF_CARTER, 3 + 18 + 27),
    ("mlk", "upgraded", MLK_WEEK, OF_MLK, 3 + 18 + 21),
]


def test_the_story_began_as_it_should(scene: Corrected) -> None:
    """Prevents the tests below from passing on weeks that were never loaded."""
    assert len(scene.after["loaded"]) == len(WEEKS) * (1 + 1 + 3 * (len(NAMES) - 2))  # calendar and split by week
    assert scene.counts(f"{SESSIONS}_asof('{scene.moments['loaded']}')") == (14 * 5 - 4,)  # 12-25, 01-01, 01-20, 02-17
    assert {state for state, _ in scene.found["certified"].values()} == {"CERTIFIED"}


@pytest.mark.parametrize(("act", "before", "week", "expected", "count"), ACTS, ids=["carter", "mlk"])
def test_the_plan_lists_exactly_what_is_reached(
    scene: Corrected, act: str, before: str, week: date, expected: set[Place], count: int
) -> None:
    """Prevents a forgotten window, and work on what the correction does not reach."""
    made = scene.applied[act].plan
    assert [one.week for one in made.weeks] == [week]
    assert set(made.partitions) == expected
    assert len(expected) == count


@pytest.mark.parametrize(("act", "before", "week", "expected", "count"), ACTS, ids=["carter", "mlk"])
def test_applying_captures_one_week_and_following_up_the_rest(
    scene: Corrected, act: str, before: str, week: date, expected: set[Place], count: int
) -> None:
    """Prevents a capture too many or too few: exactly the plan, in two steps, and every other capture as it was."""
    assert scene.new(f"{act} applied", before) == {Place(SESSIONS, WeekKey(week, None))}
    assert scene.new(f"{act} followed", f"{act} applied") == expected
    assert {Place(name, key) for name, keys in scene.followed[act].partitions.items() for key in keys} == expected
    for outcome in (scene.applied[act].outcome, scene.followed[act].outcome):
        assert outcome.is_complete, outcome


@pytest.mark.parametrize(
    ("act", "week", "day", "changed"),
    [
        ("carter", CARTER_WEEK, "2025-01-09", ("09:30-16:00", "closed", "5 to 4 sessions: a day of mourning", 2)),
        (
            "mlk",
            MLK_WEEK,
            "2025-01-20",
            ("closed", "09:30-16:00", "4 to 5 sessions: MLK Day 2025 was an OTC trading day", 4),
        ),
    ],
    ids=["carter", "mlk"],
)
def test_what_was_made_directly_from_it_is_an_anomaly_meanwhile(
    scene: Corrected, act: str, week: date, day: str, changed: tuple[str, str, str, int]
) -> None:
    """Prevents a correction that nobody is told of, or of which everybody is told for ever (F183, F292)."""
    before, after, words, number = changed
    assert [row[:6] for row in scene.found[act]] == [
        (PER_DAY, week, tier.value, "WARN", "DEPENDENCY", "finra.otc_transparency.aggregate_week") for tier in Tier
    ]
    assert {row[6] for row in scene.found[act]} == {f"the trading calendar of {week} changed from {words}"}
    details = json.loads(scene.found[act][0][7])
    assert (details["vintage"], details["days"]) == (number, [{"day": day, "before": before, "after": after}])
    assert scene.open() == []
    resolved = scene.sql(
        "SELECT count(*), count(DISTINCT id) FROM core_anomalies WHERE code = 'CALENDAR_CORRECTED' AND week_ending = ?",
        week,
    )
    assert resolved == [(3, 3)]


def test_a_library_that_says_the_same_changes_nothing_but_the_record(scene: Corrected) -> None:
    """Prevents an upgrade from making everything again, and a week that is captured twice for it."""
    assert scene.new("upgraded", "carter followed") == set()
    found = scene.vintages()
    assert [one.reason for one in found] == [
        "exchange_calendars 4.0",
        "a day of mourning",
        f"exchange_calendars 4.0 -> {installed().version}",
        "MLK Day 2025 was an OTC trading day",
    ]
    assert found[1].vintage.content_hash == found[2].vintage.content_hash
    assert [len(one.vintage.corrections) for one in found] == [0, 1, 1, 2]


def test_january_has_twenty_and_then_twenty_one_sessions(scene: Corrected) -> None:
    """Prevents the known answer of the documents from being missed (KA-76)."""
    (month,) = scene.applied["mlk"].plan.months
    assert (month.year, month.month, month.before, month.after) == (2025, 1, 20, 21)
    assert [one.vintage.session_count_of_month(2025, 1) for one in scene.vintages()] == [21, 20, 20, 21]


def test_what_was_known_before_is_still_divided_by_the_old_sessions(scene: Corrected) -> None:
    """Prevents a correction that rewrites what was answered before it."""
    query = "SELECT DISTINCT session_count FROM otc_volume_per_day{} WHERE week_ending = ?"
    known = [(CARTER_WEEK, [5.0, 4.0, 4.0]), (MLK_WEEK, [4.0, 4.0, 5.0])]
    for week, expected in known:
        for act, count in zip(("loaded", "carter followed", "mlk followed"), expected, strict=True):
            as_of = f"_asof('{scene.moments[act]}')"
            assert scene.sql(query.format(as_of), week) == [(count,)], (week, act)
        assert scene.sql(query.format(""), week) == [(expected[-1],)]
        assert scene.sql(query.format("_first_release()"), week) == [(expected[0],)]


def test_the_windows_are_divided_by_all_their_sessions(scene: Corrected) -> None:
    """Prevents a window over the old divisor. 2025-02-14: Jan 10 and 24 and four weeks of 5, 5, 5, 5 sessions."""
    query = (
        "SELECT max(session_count_6w) FROM otc_symbol_volume_per_day_6w{} WHERE week_ending = DATE '2025-02-14'"
        " AND weeks_in_window = 6"
    )
    for act, sessions in (("loaded", 29.0), ("carter followed", 28.0), ("mlk followed", 29.0)):
        assert scene.one(query.format(f"_asof('{scene.moments[act]}')")) == (sessions,), act


def test_other_weeks_of_the_calendar_are_untouched(scene: Corrected) -> None:
    """Prevents revisions of weeks whose sessions never changed."""
    rows = scene.sql(
        "SELECT week_ending, max(revision), count(*) FROM core_manifest WHERE table_name = ? GROUP BY 1 ORDER BY 1",
        SESSIONS,
    )
    assert rows == [(week, *((2, 2) if week in (CARTER_WEEK, MLK_WEEK) else (1, 1))) for week in WEEKS]


def test_certificates_were_superseded_exactly_where_the_plan_said(scene: Corrected) -> None:
    """Prevents a certificate that goes on vouching for the old divisor, or one that falls for no reason."""
    planned = {(row["week_ending"], row["ready_for"]) for row in scene.applied["carter"].plan.certificates}
    assert {week for week, _ in planned} == set(weeks_between(CARTER_WEEK, END))
    assert len(planned) == 9 * 3
    before, after = scene.found["certified"], scene.states()
    changed = {place for place in before if after[place][1] != before[place][1]}
    assert changed == planned  # those of MLK Day are among them
    assert {state for state, _ in after.values()} == {"CERTIFIED"}


@pytest.mark.parametrize(
    "correction", [opened(MLK), replace(opened(MLK), name="renamed.yaml")], ids=["same", "renamed"]
)
def test_a_second_application_does_nothing(scene: Corrected, correction: Correction) -> None:
    """Prevents a repeated command from recording or making anything."""
    correction = replace(correction, reason="MLK Day 2025 was an OTC trading day")
    assert plan(scene.spine.store, correction, [FEED]).is_done
    before, batches = scene.held(), scene.counts("core_batches")
    applied = apply_correction(scene.spine, correction, [FEED], scene.instance, "CRITICAL")
    followed = follow_up(scene.spine, applied, [FEED], scene.instance, "CRITICAL")
    assert (applied.is_new, applied.recorded.number, applied.outcome.run_ids, followed.partitions) == (False, 4, [], {})
    assert (scene.held(), scene.counts("core_batches")) == (before, batches)


@pytest.mark.extended
def test_a_rebuild_agrees_and_restores_the_vintages(scene: Corrected, tmp_path: Path) -> None:
    """Prevents captures that only today's library could make, and vintages that a lost database takes with it."""
    root = tmp_path / "home"
    shutil.copytree(scene.spine.store.home.root, root)
    with staged(root, scene.spine.source, scene.clock) as copy:
        report = rebuild(copy.spine, [FEED], swap=False)
        assert (report.differences, report.kept) == ([], 0)
        copy.spine.store.control.dispose()
        for path in root.glob("control.db*"):
            path.unlink()
        report = rebuild(copy.spine, [FEED])
        assert (report.differences, report.swapped) == ([], True)
        restored = Corrected(copy.spine, copy.clock, copy.instance)
        assert restored.vintages() == scene.vintages()
        assert restored.held() == scene.held()
        assert plan(
            copy.spine.store, replace(opened(MLK), reason="MLK Day 2025 was an OTC trading day"), [FEED]
        ).is_done
        restored.shown.close()


def test_an_application_that_was_cut_off_goes_on(
    scene: Corrected, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents what is recorded and not captured from passing for done: it is in the plan again."""
    root = tmp_path / "home"
    shutil.copytree(scene.spine.store.home.root, root)
    back = replace(closed(MLK), reason="and closed after all")
    real = launch.run

    def cut_off(spine: Any, feed: Feed, launches: Any, *arguments: Any, **more: Any) -> Any:
        return real(spine, feed, [], *arguments, **more)

    with staged(root, scene.spine.source, scene.clock) as copy:
        monkeypatch.setattr(launch, "run", cut_off)
        applied = apply_correction(copy.spine, back, [FEED], copy.instance, "CRITICAL")
        assert (applied.is_new, applied.recorded.number) == (True, 5)
        assert Corrected(copy.spine, copy.clock, copy.instance, shown=copy.shown).open() == []
        monkeypatch.setattr(launch, "run", real)
        again = apply_correction(copy.spine, back, [FEED], copy.instance, "CRITICAL")
        assert (again.is_new, [one.week for one in again.plan.weeks]) == (False, [MLK_WEEK])
        assert set(again.plan.partitions) == OF_MLK
        revisions = copy.spine.store.select(Question((SESSIONS,), View.ALL_REVISIONS, weeks=[MLK_WEEK]))
        assert [one.row_count for one in revisions] == [4, 5, 4]
        assert len(Corrected(copy.spine, copy.clock, copy.instance, shown=copy.shown).open()) == 3
