"""Reconciling through a real store: what is told when, what is told once, and when it closes. Dates by hand."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest

from market_spine.domain import reference
from market_spine.domain.captures import Stage
from market_spine.domain.contracts import Table
from market_spine.domain.errors import PolicyError
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.domain.weeks import weeks_between
from market_spine.feeds.otc import OTC as FEED
from market_spine.governance.anomalies import Changes
from market_spine.governance.expectations import chain_of, due_at, reconcile
from market_spine.governance.policy import Schedule, load_schedules
from market_spine.store import heartbeats
from market_spine.store.anomalies import open_rows
from market_spine.store.commit import commit
from market_spine.store.ledger import Run
from market_spine.store.store import Store
from market_spine_tests.store.builders import SALES, T0, batch, derived, raw

WEEKLY, RECHECK, CALENDAR, HEALTH = load_schedules(FEED)
TABLES: dict[str, Table] = {
    "otc_raw": FEED.raw,
    "reference_trading_calendar": reference.TRADING_CALENDAR,
    "otc_venue_volume": replace(SALES, name="venue_volume"),
    "otc_tier_split": replace(SALES, name="tier_split", stage=Stage.AGGREGATED, by_tier=False),
    "otc_symbol_hhi": replace(SALES, name="symbol_hhi", stage=Stage.AGGREGATED),
    "otc_venue_share": replace(SALES, name="venue_share", stage=Stage.AGGREGATED),
}
SHORT = {name: TABLES[name] for name in ("otc_raw", "otc_venue_volume", "otc_tier_split")}


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_the_chain_of_a_schedule() -> None:
    """Prevents waiting, per tier, for a table that has no tiers, or for the calendar's measures."""
    assert chain_of(WEEKLY, TABLES) == {
        Stage.INGESTED: ("otc_raw",),
        Stage.NORMALIZED: ("otc_venue_volume",),
        Stage.AGGREGATED: ("otc_symbol_hhi", "otc_venue_share"),
    }
    assert chain_of(CALENDAR, TABLES) == {Stage.INGESTED: ("reference_trading_calendar",)}
    with pytest.raises(PolicyError, match="weekly_refresh: no table"):
        chain_of(WEEKLY, {"otc_venue_volume": TABLES["otc_venue_volume"]})


class Journey:
    """A store, and what a pass finds at each moment."""

    def __init__(self, store: Store, schedules: Collection[Schedule], tables: Mapping[str, Table]) -> None:
        self.store, self.schedules, self.tables = store, list(schedules), tables

    def arrive(self, when: str, *texts: str, **more: Any) -> None:
        seconds = (utc(when) - T0).total_seconds()
        captures = [raw(WeekKey.from_string(text), seconds, **more) for text in texts]
        commit(self.store.control, self.store.home, batch(*captures, run=Run("run", "business", utc(when))))

    def look(self, when: str) -> Changes:
        return reconcile(self.store, Run("look", "daily", utc(when)), FEED, self.schedules, self.tables)

    def told(self, when: str) -> dict[str, list[tuple[str, str, str]]]:
        changes = self.look(when)
        kinds = {"opened": changes.opened, "changed": changes.changed, "resolved": changes.resolved}
        return {
            word: [(row["code"], f"{row['tier']}:{row['week_ending']}", row["message"]) for row in rows]
            for word, rows in kinds.items()
            if rows
        }

    def open(self) -> list[dict[str, Any]]:
        with self.store.control.read() as connection:
            return open_rows(connection)

    def beat(self) -> Any:
        with self.store.control.read() as connection:
            return heartbeats.last(connection, "expectations")


def test_a_tier_that_comes_a_week_late(store: Store) -> None:
    """Prevents a gap that is never told, told anew every minute, or not closed when the tier arrives at last."""
    journey = Journey(store, [WEEKLY], {"otc_raw": FEED.raw})
    assert journey.told("2025-12-15 15:30") == {}  # an empty store
    journey.arrive("2025-12-15 16:00", "NMS_TIER_1:2025-11-28")
    journey.arrive("2025-12-22 16:00", "NMS_TIER_1:2025-12-05")
    assert journey.told("2025-12-29 14:59") == {}
    journey.arrive("2025-12-29 16:00", "NMS_TIER_1:2025-12-12", "NMS_TIER_2:2025-11-28")
    gap, missed = ("NOT_DELIVERED", "OTC:2025-11-28"), ("MISSED_RUNS", "ALL:2025-11-28")
    early = "published 2025-12-29 15:00 UTC, expected by 2025-12-30 15:00 UTC: not there yet"
    since = "not there since 2025-12-30 15:00 UTC"
    absent = "1 of 3 expected partitions absent: OTC"
    assert journey.told("2025-12-29 16:30") == {"opened": [(*gap, early)]}
    assert journey.told("2025-12-30 15:00") == {}
    assert journey.told("2025-12-30 15:01") == {
        "opened": [(*missed, absent)],
        "changed": [(*gap, since)],
    }
    cause, effect = sorted(journey.open(), key=lambda row: row["code"] != gap[0])
    assert (cause["severity"], effect["cause_id"]) == ("ERROR", cause["id"])
    assert journey.told("2026-01-02 15:01") == {"changed": [(*gap, f"{since}: 3 days")]}
    assert journey.told("2026-01-02 15:02") == {}
    assert journey.beat()["beat_at"] == utc("2026-01-02 15:02")
    journey.arrive("2026-01-05 15:30", "NMS_TIER_1:2025-12-19", "NMS_TIER_2:2025-12-05", "OTC:2025-12-05")
    assert journey.told("2026-01-06 15:01") == {"changed": [(*gap, f"{since}: 7 days")]}
    journey.arrive("2026-01-06 21:00", "OTC:2025-11-28")  # 7 days and 6 hours after the deadline
    assert journey.told("2026-01-06 21:01") == {
        "opened": [("LATE_DATA", "OTC:2025-11-28", "Late data: arrived 174.0 hours after the deadline")],
        "resolved": [(*gap, f"{since}: 7 days"), (*missed, absent)],
    }
    (late,) = journey.open()
    assert (late["severity"], late["category"], late["pipeline"]) == (
        "ERROR",
        "FRESHNESS",
        f"{FEED.domain}.weekly_refresh",
    )
    assert journey.told("2026-01-06 21:02") == {}
    assert journey.beat()["detail"] == "0 opened, 0 changed, 0 resolved"


def test_a_late_week_closes_with_a_note_when_it_is_no_longer_watched(store: Store) -> None:
    """Prevents a closed finding without a reason. OTC 2026-02-20, week 13, is due 2026-03-23 14:00 UTC."""
    journey = Journey(store, [WEEKLY], {"otc_raw": FEED.raw})
    journey.arrive("2025-12-15 16:00", "NMS_TIER_1:2025-11-28")
    journey.arrive("2025-12-31 16:00", "OTC:2025-11-28")
    assert "LATE_DATA" in {row["code"] for row in journey.look("2025-12-31 16:01").opened}
    assert "LATE_DATA" not in {row["code"] for row in journey.look("2026-03-23 13:59").resolved}
    closed = [row for row in journey.look("2026-03-23 14:00").resolved if row["code"] == "LATE_DATA"]
    assert [row["resolution_note"] for row in closed] == ["holds again: its week is not among the 12 watched"]


def test_an_old_gap_stays_open_until_it_is_filled(store: Store) -> None:
    """Prevents a week that was never delivered from being forgotten with time, and from being found again daily."""
    journey = Journey(store, [replace(WEEKLY, watch_weeks=1)], {"otc_raw": FEED.raw})
    journey.arrive("2025-12-15 16:00", "NMS_TIER_1:2025-11-28", "NMS_TIER_2:2025-11-28")
    gap = {"NOT_DELIVERED", "MISSED_RUNS"}
    assert gap == {row["code"] for row in journey.look("2025-12-31 16:00").opened if row["week_ending"].month == 11}
    journey.arrive("2026-01-05 16:00", *(f"{tier}:2025-12-05" for tier in Tier), "NMS_TIER_1:2025-12-19")
    for when in ("2026-01-05 16:01", "2026-01-06 16:01"):
        changes = journey.look(when)
        assert not [row for row in (*changes.changed, *changes.resolved) if row["week_ending"].month == 11]
    journey.arrive("2026-01-07 16:00", "OTC:2025-11-28")
    resolved = journey.look("2026-01-07 16:01").resolved
    assert {row["code"] for row in resolved if row["week_ending"].month == 11} == gap


def test_a_capture_that_is_never_finished_is_told_until_it_is(store: Store) -> None:
    """Prevents raw without its measures from going unnoticed, through the real tables of the store."""
    journey = Journey(store, [WEEKLY], SHORT)
    seconds = (utc("2025-12-29 16:00") - T0).total_seconds()
    new = raw(WeekKey.from_string("OTC:2025-11-28"), seconds)
    commit(store.control, store.home, batch(new, run=Run("run", "business", utc("2025-12-29 16:00"))))

    def told(when: str) -> dict[str, list[tuple[str, str, str]]]:
        of_otc = {
            word: [row for row in rows if row[1] == "OTC:2025-11-28"] for word, rows in journey.told(when).items()
        }
        return {word: rows for word, rows in of_otc.items() if rows}

    row = ("INCOMPLETE_STAGE_CHAIN", "OTC:2025-11-28", "NORMALIZED: otc_venue_volume is not there")
    assert told("2025-12-29 17:00") == {}
    assert told("2025-12-29 17:01") == {"opened": [row]}
    assert told("2025-12-29 17:02") == {}
    commit(store.control, store.home, batch(derived([new]), run=Run("run", "business", utc("2025-12-29 17:30"))))
    assert told("2025-12-29 17:31") == {"resolved": [row]}


def test_a_calendar_that_is_watched_is_expected_with_the_first_tier(store: Store) -> None:
    """Prevents a week whose sessions are unknown when its first tier comes; it is told in the calendar's own domain.

    As shipped it is not watched: it comes with the week, and a week without it has an incomplete chain.
    """
    assert not CALENDAR.is_watched
    journey = Journey(store, [WEEKLY, RECHECK, replace(CALENDAR, watch_weeks=12), HEALTH], TABLES)
    journey.arrive(
        "2025-12-15 16:00", "ALL:2025-11-28", table_name="reference_trading_calendar", domain=reference.DOMAIN
    )
    assert journey.told("2025-12-22 14:59") == {}
    ((gap,),) = journey.told("2025-12-22 15:00").values()
    assert gap[:2] == ("NOT_DELIVERED", "ALL:2025-12-05")
    (row,) = journey.open()
    assert (row["domain"], row["table_name"]) == (reference.DOMAIN, "reference_trading_calendar")
    assert journey.told("2025-12-23 15:01")["opened"] == [
        ("MISSED_RUNS", "ALL:2025-12-05", "1 of 1 expected partitions absent: ALL")
    ]


def test_a_history_that_is_loaded_at_once_is_neither_late_nor_missing(store: Store) -> None:
    """Prevents 36 late findings after the first backfill of twelve weeks."""
    journey = Journey(store, [WEEKLY], {"otc_raw": FEED.raw})
    weeks = weeks_between(date(2025, 9, 12), date(2025, 12, 12))
    due = [f"{tier}:{week}" for tier in Tier for week in weeks if due_at(WEEKLY, week, tier) <= utc("2025-12-30 16:00")]
    journey.arrive("2025-12-30 16:00", *due)
    assert len(due) == 14 + 12 + 12
    assert journey.told("2025-12-30 16:01") == {}
    assert journey.open() == []
