"""A week on its way to use: loaded, preliminary, certified as time passes, restated, de-certified, certified again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from market_spine.assets.scope import scope_of
from market_spine.governance.readiness import Transition, judge_weeks
from market_spine.sources.synthetic import SyntheticSource
from market_spine.store.certificates import history
from market_spine.store.ledger import Run
from market_spine.store.readiness import history as verdicts
from market_spine_tests.journeys.stage import FEW, OTC, T1, T2, Clock, Scene, copied, key, staged

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("way of a week")]
WEEK = "2025-11-14"
KEYS = tuple(key(WEEK, tier) for tier in (T1, T2, OTC))
PUBLISHED = datetime(2025, 12, 15, 15, tzinfo=UTC)  # Tier 2 and OTC of the week; Tier 1 a fortnight before
SOURCE = "seed=7,scale=0.02,revision_hours=240,fault=restatement:OTC:2025-11-14:3"


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A home in which the week was loaded on the day of its publication."""
    with staged(
        tmp_path_factory.mktemp("loaded") / "home", SyntheticSource.from_spec(SOURCE), Clock(PUBLISHED)
    ) as made:
        made.refresh(*KEYS)
        yield made


@pytest.fixture
def scene(loaded: Scene, tmp_path: Path) -> Iterator[Scene]:
    with copied(loaded, tmp_path) as made:
        yield made


@pytest.fixture
def certified(scene: Scene) -> Scene:
    """The same, certified for everything."""
    scene.clock.forward(hours=49)
    judge(scene)
    assert set(states(scene).values()) == {"CERTIFIED"}
    return scene


def judge(scene: Scene) -> list[Transition]:
    """What the readiness sensor does."""
    run = Run("judge", "judge", scene.clock())
    return judge_weeks(scene.spine.store, run, scope_of(scene.feed))


def states(scene: Scene) -> dict[str, str]:
    return dict(scene.sql("SELECT ready_for, state FROM core_data_readiness"))


def test_the_way_of_a_week(scene: Scene) -> None:
    """Prevents a week from being used before it is settled, and from staying certified when it is restated."""
    _preliminary(scene)
    _certified(scene)
    _restated(scene)
    _certified_again(scene)


def _preliminary(scene: Scene) -> None:
    seen = judge(scene)
    assert {(one.before, one.verdict.state.value) for one in seen} == {(None, "PRELIMINARY")}
    assert judge(scene) == []  # nothing new, so nothing on record
    scene.clock.forward(hours=48)
    assert {one.verdict.use_case.name for one in judge(scene)} == {"research"}  # 24 hours for Tier 1
    assert states(scene) == {"trading": "PRELIMINARY", "compliance": "PRELIMINARY", "research": "CERTIFIED"}


def _certified(scene: Scene) -> None:
    scene.clock.forward(seconds=1)
    assert {one.verdict.use_case.name for one in judge(scene)} == {"trading", "compliance"}
    assert set(states(scene).values()) == {"CERTIFIED"}
    (row,) = scene.sql("SELECT certified_at, certified_by FROM core_data_readiness WHERE ready_for = 'trading'")
    assert row == (PUBLISHED + timedelta(hours=48, seconds=1), "automated_check")
    rows = scene.counts("otc_symbol_hhi")
    assert scene.counts("otc_symbol_hhi_ready('trading')") == rows
    assert scene.one("SELECT count(DISTINCT tier) FROM otc_symbol_hhi_ready('research')") == (1,)
    assert scene.one("SELECT bool_or(is_preliminary OR is_corrected) FROM otc_week_quality") == (False,)


def _restated(scene: Scene) -> None:
    first = scene.one("SELECT certificate_id FROM core_data_readiness WHERE ready_for = 'trading'")[0]
    scene.clock.forward(hours=200)
    assert scene.run("otc.ingest_week", *KEYS).is_complete
    assert scene.counts("otc_raw_ready('trading')") != scene.counts("otc_raw")  # before anybody judged
    seen = {one.verdict.use_case.name: one for one in judge(scene)}
    assert set(seen) == {"trading", "compliance"}  # Tier 1 was not restated
    assert seen["trading"].verdict.state.value == "BLOCKED"
    assert [issue.code for issue in seen["trading"].verdict.issues] == ["STALE_DEPENDENCIES", "PRELIMINARY"]
    with scene.spine.store.control.read() as connection:
        assert [one["event"] for one in history(connection, first)] == ["issued", "superseded"]
    scene.refresh(*KEYS)
    assert {one.verdict.state.value for one in judge(scene)} == {"PRELIMINARY"}
    assert scene.counts("otc_symbol_hhi_ready('trading')") == (0,)


def _certified_again(scene: Scene) -> None:
    scene.clock.forward(hours=49)
    judge(scene)
    assert set(states(scene).values()) == {"CERTIFIED"}
    with scene.spine.store.control.read() as connection:
        told = [
            (one["from_state"], one["to_state"])
            for one in verdicts(connection, scene.feed.domain, date(2025, 11, 14), "trading")
        ]
    assert told == [
        (None, "PRELIMINARY"),
        ("PRELIMINARY", "CERTIFIED"),
        ("CERTIFIED", "BLOCKED"),
        ("BLOCKED", "PRELIMINARY"),
        ("PRELIMINARY", "CERTIFIED"),
    ]
    events = scene.sql("SELECT event_type, count(*) FROM core_events WHERE message LIKE '%for trading%' GROUP BY ALL")
    assert events == [("READINESS_CHANGED", 5)]
    assert scene.one("SELECT is_corrected FROM otc_week_quality WHERE tier = 'OTC'") == (True,)


def test_the_same_captures_give_the_same_certificate(certified: Scene, tmp_path: Path) -> None:
    """Prevents the moment, the run or the machine of the judge from being part of what is certified."""
    documents = certificates_of(certified)
    with staged(tmp_path / "other", certified.spine.source, Clock(PUBLISHED)) as other:
        other.refresh(*KEYS)
        other.clock.forward(hours=77)
        judge(other)
        again = certificates_of(other)
    assert set(again) == {"trading", "compliance", "research"}
    assert again == documents


def certificates_of(scene: Scene) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for ready_for, document in scene.sql("SELECT ready_for, document FROM core_certificates"):
        found.setdefault(ready_for, set()).add(document)
    return found


def test_what_a_certificate_says_is_what_is_there(certified: Scene) -> None:
    """Prevents evidence from being written down that no query gives."""
    (document,) = certified.one(
        "SELECT document FROM core_data_readiness JOIN core_certificates USING (certificate_id)"
        " WHERE core_data_readiness.ready_for = 'trading'"
    )
    content = json.loads(document)
    for tier, totals in content["evidence"]["totals"].items():
        asked = "SELECT sum(total_shares)::VARCHAR, sum(total_trades)::VARCHAR FROM otc_raw WHERE tier = ?"
        assert (totals["shares"], totals["trades"]) == certified.one(asked, tier)
    held = {one["capture_id"]: one["content_hash"] for one in content["evidence"]["captures"]}
    known = certified.sql(
        "SELECT capture_id, content_hash FROM core_manifest WHERE is_current = 1 AND domain = 'finra.otc_transparency'"
    )
    assert held == dict(known)


def test_a_judge_that_was_overtaken_judges_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a certificate for captures that were replaced between reading them and the write lock."""
    from market_spine.governance import evidence, readiness

    real, calls = evidence.content, []

    def content(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:  # another process writes now
            scene.run("otc.ingest_week", KEYS[2], options=replace(FEW, force=True))
        return real(*arguments)

    monkeypatch.setattr(readiness, "content", content)
    scene.clock.forward(hours=49)
    judge(scene)
    assert len(calls) == 2
    assert states(scene)["trading"] == "BLOCKED"
