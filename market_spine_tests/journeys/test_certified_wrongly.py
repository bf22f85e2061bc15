"""What must never be certified, or stay so: windows over replaced weeks, odd policies, lost keys, altered rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from market_spine.assets.scope import scope_of
from market_spine.domain.errors import StoreError
from market_spine.domain.tiers import Tier
from market_spine.feeds.otc import FEED
from market_spine.governance import certificates
from market_spine.governance.policy import UseCase
from market_spine.governance.readiness import assess, judge_weeks
from market_spine.sources.synthetic import SyntheticSource
from market_spine.store.ledger import Run
from market_spine.store.verify import verify
from market_spine_tests.journeys.stage import OTC, T1, T2, Clock, Scene, copied, key, staged

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("certified")]
BEFORE, WEEK = "2025-11-07", "2025-11-14"
KEYS = tuple(key(week, tier) for week in (BEFORE, WEEK) for tier in (T1, T2, OTC))
PUBLISHED = datetime(2025, 12, 15, 16, tzinfo=UTC)
SOURCE = "seed=7,scale=0.02,revision_hours=240,fault=restatement:OTC:2025-11-07:3"


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Two weeks, certified for everything; the source has another delivery of the earlier one by now."""
    with staged(
        tmp_path_factory.mktemp("certified") / "home", SyntheticSource.from_spec(SOURCE), Clock(PUBLISHED)
    ) as made:
        made.refresh(*KEYS)
        made.clock.forward(hours=49)
        judge(made)
        assert set(states(made).values()) == {"CERTIFIED"}
        made.clock.forward(hours=40)
        yield made


@pytest.fixture
def scene(certified: Scene, tmp_path: Path) -> Iterator[Scene]:
    with copied(certified, tmp_path) as made:
        yield made


def judge(scene: Scene) -> None:
    judge_weeks(scene.spine.store, Run("judge", "judge", scene.clock()), scope_of(FEED))


def states(scene: Scene) -> dict[tuple[str, str], str]:
    rows = scene.sql("SELECT CAST(week_ending AS VARCHAR), ready_for, state FROM core_data_readiness")
    return {(week, use_case): state for week, use_case, state in rows}


def altered(scene: Scene, statement: str) -> None:
    with scene.spine.store.control.write() as connection:
        assert connection.execute(sa.text(statement)).rowcount >= 1
    scene.shown.batches = -1  # it looks again after transactions only


def test_a_window_over_a_restated_week_is_not_certified(scene: Scene) -> None:
    """Prevents a certificate, kept or new, on a six-week mean of a delivery that was replaced: only the raw of the week
    before is new, nothing between it and the window has been made again."""
    scene.run("otc.ingest_week", key(BEFORE))
    for _ in range(2):  # neither at once nor when the restatement has settled
        judge(scene)
        assert states(scene)[WEEK, "trading"] == "BLOCKED"
        assert scene.counts("otc_symbol_rolling_6w_ready('trading')") == (0,)
        scene.clock.forward(hours=100)


def test_a_load_judges_what_it_did_not_make(scene: Scene) -> None:
    """Prevents the weeks after a restated one from staying certified until somebody asks."""
    outcome = scene.run("otc.weekly_refresh", key(BEFORE), publish=True)
    assert outcome.is_complete
    assert set(states(scene).values()) == {"BLOCKED", "PRELIMINARY", "CERTIFIED"}
    assert states(scene)[WEEK, "trading"] == "BLOCKED"  # its windows read the earlier week
    assert states(scene)[WEEK, "research"] == "CERTIFIED"  # Tier 1 was not touched


@pytest.mark.parametrize("stages", [("CALC",), ("RAW", "CALC")])
def test_policies_that_leave_stages_out(scene: Scene, stages: tuple[str, ...]) -> None:
    """Prevents an age that is counted from nothing, and measures of an old delivery beside a new raw."""
    policy = UseCase(name="odd", tiers=tuple(Tier), stages=stages, preliminary_hours=1, description="odd")
    scope = replace(scope_of(FEED), use_cases={"odd": policy})

    def state() -> str:
        verdicts, _ = assess(scene.spine.store, scope, scene.clock(), [key(BEFORE).week_ending])
        return verdicts[0].state.value

    assert state() == "CERTIFIED"
    scene.run("otc.ingest_week", key(BEFORE))
    scene.clock.forward(hours=2)
    assert state() == "BLOCKED"


def test_a_use_that_the_policy_dropped(scene: Scene) -> None:
    """Prevents certificates that nobody judges any more from staying in force for ever."""
    cases = {name: one for name, one in scope_of(FEED).use_cases.items() if name != "compliance"}
    fewer = replace(scope_of(FEED), use_cases=cases)
    told = judge_weeks(scene.spine.store, Run("judge", "judge", scene.clock()), fewer)
    assert {one.message.partition(" for ")[2] for one in told} == {
        "compliance: CERTIFIED -> BLOCKED: the policy has no use case compliance any more"
    }
    assert scene.sql("SELECT DISTINCT ready_for FROM core_certified_captures ORDER BY 1") == [
        ("research",),
        ("trading",),
    ]
    assert judge_weeks(scene.spine.store, Run("judge", "judge", scene.clock()), fewer) == []
    assert certificates.verify(scene.spine.store) == []


def test_a_key_that_cannot_sign_leaves_nothing_certified(scene: Scene) -> None:
    """Prevents a restated week from staying in use because taking it out could not be signed."""
    signing = scene.spine.store.home.keys / "signing.pem"
    signing.chmod(0o640)
    scene.run("otc.ingest_week", key(BEFORE))
    for _ in range(2):  # loud, each time
        with pytest.raises(StoreError, match=r"signing\.pem"):
            judge(scene)
    assert states(scene)[BEFORE, "trading"] == states(scene)[WEEK, "trading"] == "BLOCKED"
    assert scene.counts("otc_symbol_hhi_ready('trading')") == (0,)
    signing.chmod(0o600)
    judge(scene)  # the chain gets the links that it lacks
    assert certificates.verify(scene.spine.store) == []
    reasons = "SELECT DISTINCT reason FROM core_certificate_log WHERE event = 'superseded'"
    assert scene.sql(reasons) == [("no verdict on record names it",)]


def test_a_superseded_certificate_put_in_force_by_hand(scene: Scene) -> None:
    """Prevents a row that somebody altered from serving what the signed chain took out of force, and from being whole
    to whoever verifies."""
    scene.run("otc.ingest_week", key(BEFORE))
    judge(scene)
    altered(
        scene,
        "UPDATE core_data_readiness SET is_ready = 1, state = 'CERTIFIED', certificate_id = (SELECT certificate_id"
        " FROM core_certificates c WHERE c.ready_for = 'trading' AND c.week_ending = core_data_readiness.week_ending)"
        " WHERE ready_for = 'trading'",
    )
    assert scene.counts("otc_symbol_hhi_ready('trading')") == (0,)
    found = verify(scene.spine.store)
    assert {(one.kind, one.name.split()[0]) for one in found} == {("control", "core_data_readiness")}
    assert {one.detail for one in found} == {"the journal has another is_ready, certificate_id, state"}


def test_a_current_capture_exchanged_by_hand(scene: Scene) -> None:
    """Prevents an old revision from answering because one flag was altered."""
    scene.run("otc.ingest_week", key(BEFORE))
    raw = "table_name = 'otc_raw' AND week_ending = '2025-11-07' AND tier = 'OTC'"
    altered(scene, f"UPDATE core_manifest SET is_current = 0 WHERE {raw}")
    altered(scene, f"UPDATE core_manifest SET is_current = 1 WHERE revision = 1 AND {raw}")
    found = verify(scene.spine.store)
    assert [one.detail for one in found] == ["the journal has another is_current"] * 2
    assert all(one.name.startswith("core_manifest finra.otc_transparency:OTC:2025-11-07") for one in found)
