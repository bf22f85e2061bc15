"""Laws of the anomalies over random histories: what the log gives of every past moment, and what is always so."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from market_spine.domain.contracts import Severity
from market_spine.domain.errors import QueryError
from market_spine.domain.tiers import Tier
from market_spine.governance.anomalies import Observation
from market_spine.governance.causes import EXPLANATIONS, cause_of
from market_spine.store.store import Store
from market_spine.store.trust_tables import ANOMALY_LOG
from market_spine_tests.governance.anomaly_desk import Desk, seen, weeks_later

# What explains and is explained, in chains, over weeks, and by being critical; and what is neither.
CODES = ("NOT_DELIVERED", "MISSED_RUNS", "INCOMPLETE_WINDOW", "UNREADABLE", "TOO_FEW_RECORDS", "UNKNOWN_COLUMNS")
WEEKS = (0, 1, 5, 6, 13, 19)
TIERS = (Tier.NMS_TIER_1, Tier.OTC, None)
HOMES = itertools.count()

OBSERVATIONS = st.builds(
    lambda code, week, tier, severity, message, is_open: seen(
        code, weeks_later(week, tier), severity, message=message, is_open=is_open
    ),
    st.sampled_from(CODES),
    st.sampled_from(WEEKS),
    st.sampled_from(TIERS),
    st.sampled_from(Severity),
    st.sampled_from(["once", "more"]),
    st.booleans(),
)


@dataclass(frozen=True)
class Step:
    """One thing that happens: a look, or an anomaly closed by hand; ``waits`` says whether a minute passes before."""

    observed: tuple[Observation, ...] = ()
    counts_repeats: bool = True
    resolves: int = 0
    waits: bool = True


LOOKS = st.builds(Step, st.lists(OBSERVATIONS, max_size=8).map(tuple), st.booleans(), waits=st.booleans())
HANDS = st.builds(Step, resolves=st.integers(1, 8), waits=st.booleans())
HISTORIES = st.lists(st.one_of(LOOKS, LOOKS, LOOKS, HANDS), max_size=8)
State = dict[int, tuple[Any, ...]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for stores, with an empty one to copy."""
    made = tmp_path_factory.mktemp("anomaly_laws")
    empty = Store.at(made / "empty", threads=1)
    empty.ensure()
    empty.control.dispose()
    return made


def played(store: Store, history: Iterable[Step]) -> tuple[Desk, dict[datetime, State], dict[str, tuple[str, str]]]:
    """The desk after ``history``, what was known after each moment of it, and what must be open, by week and tier."""
    desk, known, expected = Desk(store), {}, dict[str, tuple[str, str]]()
    for step in history:
        if not step.waits and desk.minutes:
            desk.minutes -= 1  # the same moment as the step before
        if step.resolves:
            by_id = {row["id"]: row["fingerprint"] for row in desk.rows() if row["resolved_at"] is None}
            if step.resolves in by_id:
                desk.resolve(step.resolves)
                del expected[by_id[step.resolves]]
            else:
                with pytest.raises(QueryError):
                    desk.resolve(step.resolves)
        else:
            desk.look(*step.observed, counts_repeats=step.counts_repeats)
            for one in step.observed:
                expected.pop(one.fingerprint, None)
                if one.is_open:
                    expected[one.fingerprint] = (one.severity.value, one.message)
        known[desk.now] = state(desk.rows())
    return desk, known, expected


def state(rows: Iterable[dict[str, Any]]) -> State:
    names = ("severity", "message", "cause_id", "capture_id")
    return {row["id"]: (*(row[name] for name in names), row["resolved_at"] is None) for row in rows}


def replayed(log: Iterable[dict[str, Any]], until: datetime) -> State:
    """What the log alone says was known at ``until``: of each anomaly the last line that was written by then."""
    found: State = {}
    for line in log:
        if line["changed_at"] <= until:
            names = ("severity", "message", "cause_id", "capture_id")
            found[line["anomaly_id"]] = (*(line[name] for name in names), line["change"] != "resolved")
    return found


def stores(folder: Path) -> Store:
    return Store.at(Path(shutil.copytree(folder / "empty", folder / str(next(HOMES)))), threads=1)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(HISTORIES)
def test_laws_of_every_history(folder: Path, history: list[Step]) -> None:
    """Prevents a log that cannot say what was known when, two open rows of one thing, and links to what is closed."""
    store = stores(folder)
    desk, known, expected = played(store, history)
    rows, log = desk.rows(), desk.rows(ANOMALY_LOG)
    store.control.dispose()
    for moment, observed in known.items():
        assert replayed(log, moment) == observed
    held = [row for row in rows if row["resolved_at"] is None]
    assert {row["fingerprint"]: (row["severity"], row["message"]) for row in held} == expected
    assert len(held) == len(expected)
    assert {row["id"]: row["cause_id"] for row in held} == {row["id"]: cause_of(row, held) for row in held}
    assert [row["id"] for row in rows] == [*range(1, len(rows) + 1)]
    _the_log_agrees(rows, log)


def _the_log_agrees(rows: list[dict[str, Any]], log: list[dict[str, Any]]) -> None:
    """Each row was opened once, closed at most once and last, and seen as often as it says."""
    assert [line["seq"] for line in log] == [*range(1, len(log) + 1)]
    assert [line["changed_at"] for line in log] == sorted(line["changed_at"] for line in log)
    for row in rows:
        lines = [line for line in log if line["anomaly_id"] == row["id"]]
        changes = [line["change"] for line in lines]
        assert changes.index("opened") == 0
        assert changes.count("opened") == 1
        assert ("resolved" in changes) == (row["resolved_at"] is not None) == (changes[-1] == "resolved")
        sightings = [line for line in lines if line["change"] != "resolved" and not line["note"]]
        assert len(sightings) == row["times_seen"]
        assert (lines[0]["changed_at"], sightings[-1]["changed_at"]) == (row["detected_at"], row["last_seen_at"])


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(HISTORIES, st.lists(OBSERVATIONS, min_size=1, max_size=4))
def test_a_line_of_the_log_never_changes(folder: Path, history: list[Step], more: list[Observation]) -> None:
    """Prevents what was once told from being told otherwise later: the log only grows."""
    store = stores(folder)
    desk, _, _ = played(store, history)
    before = desk.rows(ANOMALY_LOG)
    desk.look(*more)
    assert desk.rows(ANOMALY_LOG)[: len(before)] == before
    store.control.dispose()


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(OBSERVATIONS.map(lambda one: replace(one, is_open=True)), unique_by=lambda one: one.fingerprint))
def test_the_order_of_a_look_does_not_decide_what_is_linked(folder: Path, observed: list[Observation]) -> None:
    """Prevents one day's findings from having other causes because they were recorded in another order."""
    links = []
    for each in (observed, observed[::-1]):
        store = stores(folder)
        desk = Desk(store)
        desk.look(*each)
        by_id = {row["id"]: row["fingerprint"] for row in desk.rows()}
        links.append({row["fingerprint"]: row["cause_id"] is not None for row in desk.rows()})
        assert by_id.keys() == {*range(1, len(observed) + 1)}
        store.control.dispose()
    assert links[0] == links[1]


def test_the_histories_are_about_what_can_be_linked() -> None:
    """Prevents the laws above from being true of findings that nothing links."""
    assert {"NOT_DELIVERED", "MISSED_RUNS", "INCOMPLETE_WINDOW"} <= EXPLANATIONS.keys()
