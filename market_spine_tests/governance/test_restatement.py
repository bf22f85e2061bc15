"""Restatements on record: which capture restates which, what was made of it, what certifies it, and how it is told."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from market_spine.assets.scope import scope_of
from market_spine.domain.captures import RevisionPolicy
from market_spine.domain.contracts import Category, Severity
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.feeds.otc import FEED
from market_spine.governance.anomalies import Observation, record, resolve
from market_spine.governance.restatement import (
    RESTATED,
    Impact,
    Move,
    Names,
    Superseded,
    Total,
    impact,
    tell_restatements,
)
from market_spine.store.commit import NewCapture, commit
from market_spine.store.files import write_files
from market_spine.store.ledger import Run, transaction
from market_spine.store.manifest import Capture, by_ids
from market_spine.store.restatements import certified_since, made_from, predecessor, superseded_since, untold
from market_spine.store.store import Store
from market_spine.store.trust_tables import CERTIFICATE_LOG, CERTIFICATES, READINESS
from market_spine_tests.governance.ledger import week
from market_spine_tests.store.builders import DOMAIN, OTC, RAW, RUN, WEEK, at, batch, derived, raw
from market_spine_tests.store.good_rows import GOOD

USE_CASES = ("trading", "compliance", "research")
OVERWRITE = RevisionPolicy.OVERWRITE
T1 = WeekKey(WEEK, Tier.NMS_TIER_1)


def arrive(
    store: Store, *contents: str, key: WeekKey = OTC, policy: RevisionPolicy = RevisionPolicy.VERSIONED
) -> list[str]:
    """One raw capture after the other, an hour apart; their ids. The last one follows ``policy``."""
    ids = []
    for number, content in enumerate(contents):
        is_last = number == len(contents) - 1
        new = raw(key, 3600 * number, content, policy=policy if is_last else RevisionPolicy.VERSIONED)
        commit(store.control, store.home, batch(new))
        ids.append(new.capture_id)
    return ids


def held(store: Store, capture_id: str) -> Capture:
    with store.control.read() as connection:
        return by_ids(connection, [capture_id])[capture_id]


@pytest.mark.parametrize(
    ("contents", "policy", "expected"),
    [
        ("a", RevisionPolicy.VERSIONED, None),
        ("ab", RevisionPolicy.VERSIONED, 0),
        ("aba", RevisionPolicy.VERSIONED, 1),  # taken back: that is a restatement of the second
        ("aa", RevisionPolicy.VERSIONED, None),  # forced, with nothing new in it
        ("abb", RevisionPolicy.VERSIONED, 0),
        ("ab", OVERWRITE, 0),  # both have revision 1, and the first has left the history
        ("abc", OVERWRITE, 1),
        ("aa", OVERWRITE, None),
    ],
)
def test_what_a_capture_restates(store: Store, contents: str, policy: RevisionPolicy, expected: int | None) -> None:
    """Prevents a repetition from counting as a restatement, and an overwritten one from counting as none."""
    ids = arrive(store, *contents, policy=policy)
    arrive(store, "z", key=T1)  # of another tier: never its predecessor
    with store.control.read() as connection:
        found = predecessor(connection, by_ids(connection, ids)[ids[-1]])
        told = untold(connection, RAW, RESTATED)
    wanted = None if expected is None else ids[expected]
    assert (found.capture_id if found else None) == wanted
    assert [(before.capture_id, after.capture_id) for before, after in told] == ([(wanted, ids[-1])] if wanted else [])


def told_of(capture_id: str, code: str = RESTATED, key: WeekKey = OTC) -> Observation:
    place = (DOMAIN, "ingest_week", RAW, FEED.raw.stage, key, code)
    return Observation(*place, Severity.INFO, Category.FRESHNESS, message=capture_id, capture_id=capture_id)


def untold_ids(store: Store, **more: Any) -> list[str]:
    with store.control.read() as connection:
        return [after.capture_id for _, after in untold(connection, RAW, RESTATED, **more)]


def test_what_was_told_is_not_told_again(store: Store) -> None:
    """Prevents a restatement from being told again after somebody closed it, and one that another finding hides."""
    _, second = arrive(store, "a", "b")
    record(store, RUN, [told_of(second, "LATE_DATA"), told_of("another")], "check")
    assert untold_ids(store) == [second]
    assert untold_ids(store, weeks=[WEEK]) == [second]
    assert untold_ids(store, weeks=[week(-1), week(1)]) == []
    assert untold_ids(store, weeks=[]) == []
    changes = record(store, RUN, [told_of(second)], "check")
    assert untold_ids(store) == []
    resolve(store, RUN, changes.changed[0]["id"], "FINRA told us", "ops")
    assert untold_ids(store) == []


def test_a_forced_capture_is_not_told_again(store: Store) -> None:
    """Prevents the same bytes, taken once more, from being a second restatement of what was told and settled."""
    _, second = arrive(store, "a", "b")
    forced = raw(OTC, 7200, "b")
    record(store, RUN, [told_of(second)], "check")
    commit(store.control, store.home, batch(forced))
    assert untold_ids(store) == []
    commit(store.control, store.home, batch(raw(OTC, 10800, "a")))  # taken back: that is one again
    assert len(untold_ids(store)) == 1


def test_many_weeks_are_one_statement(store: Store) -> None:
    """Prevents a judgement of all weeks that asks once a week: nothing was restated, two statements in all."""
    keys = [WeekKey(week(number), tier) for number in range(-20, 1) for tier in Tier]
    commit(store.control, store.home, batch(*(raw(key) for key in keys)))
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        asked.append(statement)

    sa.event.listen(store.control.engine, "before_cursor_execute", note)
    changes = tell_restatements(store, RUN, FEED, scope_of(FEED))
    sa.event.remove(store.control.engine, "before_cursor_execute", note)
    assert (changes.opened, changes.changed, changes.resolved) == ([], [], [])
    assert len([one for one in asked if one.lstrip().startswith("SELECT")]) == 2


def test_what_was_made_from_a_capture(store: Store) -> None:
    """Prevents measures of a merged delivery from passing for measures of the one before, and windows from missing."""
    first = raw(content="a")
    volume = derived([first])
    merged = raw(seconds=3600, content="b", inputs=(first.capture_id,), policy=RevisionPolicy.MERGE)
    again = derived([merged], content="e")
    later = raw(WeekKey(week(1), Tier.OTC), content="c")
    window = derived([later, first], table_name="otc_rolling", capture_id="window")
    for one in (first, volume, merged, again, later, window):
        commit(store.control, store.home, batch(one))
    with store.control.read() as connection:
        made = {
            one: {each.capture_id for each in made_from(connection, by_ids(connection, [one])[one])}
            for one in (first.capture_id, merged.capture_id)
        }
    assert made == {
        first.capture_id: {first.capture_id, volume.capture_id, "window"},
        merged.capture_id: {merged.capture_id, again.capture_id},
    }


@contextmanager
def written(store: Store, number: int) -> Iterator[Any]:
    """A draft of a later transaction."""
    run = Run(f"run-{number}", "business", at(7200 + number))
    with transaction(store.control, store.home, run, READINESS.name) as draft:
        yield draft


def certify(store: Store, number: int, ready_for: str, event: str = "issued", capture_id: str = "") -> str:
    """A link of the chain about the ``number``-th certificate, and the verdict that it stands for."""
    identity = f"{ready_for}-{number}"
    document = json.dumps({"evidence": {"captures": [{"capture_id": capture_id}]}}, separators=(",", ":"))
    with written(store, number) as draft:
        if event == "issued":
            named = {"certificate_id": identity, "ready_for": ready_for, "document": document}
            draft.put(CERTIFICATES, GOOD["core_certificates"] | named)
        seq = draft.next_number(CERTIFICATE_LOG.c.seq)
        link = {
            "seq": seq,
            "certificate_id": identity,
            "event": event,
            "entry_hash": hashlib.sha256(str(seq).encode()).hexdigest(),
        }
        draft.put(CERTIFICATE_LOG, GOOD["core_certificate_log"] | link)
        held = event == "issued"
        verdict = {"ready_for": ready_for, "id": USE_CASES.index(ready_for), "is_ready": int(held)}
        verdict |= {"state": "CERTIFIED" if held else "BLOCKED", "certificate_id": identity if held else None}
        draft.put(READINESS, GOOD["core_data_readiness"] | verdict)
    return identity


def test_only_a_later_certificate_certifies(store: Store) -> None:
    """Prevents a certificate of the numbers before from closing a restatement, or an older loss from being its work."""
    (first,) = arrive(store, "a")
    certify(store, 1, "trading", capture_id=first)
    certify(store, 1, "trading", "superseded")  # by whatever was wrong then
    certify(store, 2, "trading", capture_id=first)
    certify(store, 3, "research", capture_id=first)
    new = raw(seconds=3600, content="b")
    commit(store.control, store.home, batch(new))
    second = new.capture_id

    def asked() -> tuple[dict[str, set[str]], list[str]]:
        with store.control.read() as connection:
            after = by_ids(connection, [second])[second]
            ended = [row["certificate_id"] for row in superseded_since(connection, after)]
            return certified_since(connection, [first, second]), ended

    assert asked() == ({}, [])
    certify(store, 2, "trading", "superseded")
    assert asked() == ({}, ["trading-2"])
    certify(store, 4, "trading", capture_id=second)
    assert asked() == ({second: {"trading"}}, ["trading-2"])  # the first is no longer current, whatever certified it
    certify(store, 4, "trading", "superseded")
    assert asked() == ({}, ["trading-2", "trading-4"])


def test_a_restatement_closes_with_the_last_use_case_of_its_tier(store: Store) -> None:
    """Prevents Tier 1 from being settled for all by research, which waits 24 hours, where trading waits 48."""
    ids = [arrive(store, "a", "b", key=key)[-1] for key in (OTC, T1)]
    record(store, RUN, [told_of(one, key=key) for one, key in zip(ids, (OTC, T1), strict=True)], "check")

    def closed(weeks: Sequence[date] | None = None) -> list[tuple[str, str]]:
        changes = tell_restatements(store, RUN, FEED, scope_of(FEED), weeks)
        return sorted((row["tier"], row["resolution_note"]) for row in changes.resolved)

    for number, ready_for in enumerate(("compliance", "research")):
        certify(store, number, ready_for, capture_id=ids[1])
        assert closed() == []
    certify(store, 2, "trading", capture_id=ids[0])
    assert closed([week(1)]) == []
    note = "holds again: certified again: compliance"
    assert closed() == [("NMS_TIER_1", f"{note}, research, trading"), ("OTC", f"{note}, trading")]
    assert closed() == []


def rows_in(store: Store, new: NewCapture, rows: Sequence[tuple[str, str, int]]) -> None:
    """A raw capture with real rows: symbol, venue, shares."""
    with store.engine() as engine:
        columns = ", ".join(f"{column.name} {column.type}" for column in FEED.raw.columns)
        engine.execute(f"CREATE TABLE rows ({columns})")
        for number, (symbol, mpid, shares) in enumerate(rows, start=2):
            values = [WEEK, "OTC", 1, number, symbol, "Issue", "Venue", mpid, shares, 1, WEEK]
            engine.execute(f"INSERT INTO rows VALUES ({', '.join('?' * len(values))})", values)
        sealed = write_files(engine, "rows", FEED.raw, store.home.captures, {OTC: (new.file_path, new.capture_id)})[OTC]
    commit(store.control, store.home, batch(replace(new, file_sha256=sealed.sha256, file_bytes=sealed.size)))


def test_measures_of_two_versions_are_not_compared(store: Store) -> None:
    """Prevents a change of the code from being told as FINRA's, and a measure of one side from being compared."""
    before, after = raw(content="a"), raw(seconds=3600, content="b")
    rows_in(store, before, [("AAA", "ALPX", 5)])
    rows_in(store, after, [])
    for one, version in ((before, "1.0"), (after, "1.1")):
        commit(store.control, store.home, batch(derived([one], version=version, table_name="otc_symbol_hhi")))
    commit(store.control, store.home, batch(derived([before], table_name="otc_venue_share", capture_id="share")))
    found = impact(store, FEED, scope_of(FEED).derived, *(held(store, one.capture_id) for one in (before, after)))
    assert found.not_compared == {
        "symbol_hhi": "otc_symbol_hhi was made by versions 1.0 and 1.1",
        "venue_share": "there is no otc_venue_share of what was captured 2025-12-15 16:00 UTC",
    }
    # A capture without rows: everything is gone, and a sum of nothing is 0.
    assert (found.symbols.removed, found.venues.removed, found.symbols.after) == (("AAA",), ("ALPX",), 0)
    assert found.totals["total_shares"] == Total(Decimal(5), Decimal(0))
    assert "shares -100.0 % (-5); HHI not compared: otc_symbol_hhi was made by versions" in found.message


def test_certificates_are_those_that_rested_on_it(store: Store) -> None:
    """Prevents a certificate of another tier from being laid to it, and one of a later window from missing."""
    before, after = raw(content="a"), raw(seconds=3600, content="b")
    rows_in(store, before, [("AAA", "ALPX", 5)])
    window = derived([before], table_name="otc_symbol_rolling_6w", capture_id="window")
    commit(store.control, store.home, batch(window))
    rests_on = {"trading": before.capture_id, "compliance": "window", "research": "another"}
    for number, (ready_for, capture_id) in enumerate(rests_on.items()):
        certify(store, number, ready_for, capture_id=capture_id)
    rows_in(store, after, [("AAA", "ALPX", 6)])
    for number, ready_for in enumerate(rests_on):
        certify(store, number, ready_for, "superseded")
    found = impact(store, FEED, scope_of(FEED).derived, *(held(store, one.capture_id) for one in (before, after)))
    assert [one.ready_for for one in found.certificates] == ["trading", "compliance"]
    assert {(one.week_ending, one.reason) for one in found.certificates} == {(WEEK, "all criteria hold")}


NOTHING = Names(1, 1, (), ())
A_CAPTURE = Capture(**dict.fromkeys(Capture.__dataclass_fields__))  # type: ignore[arg-type]


def told(before: str, after: str, symbols: Names = NOTHING, moves: int = 0) -> str:
    """The sentence, of sums and counts."""
    sums = {"total_shares": Total(Decimal(before), Decimal(after))}
    moved = tuple(Move(f"S{number}", 0.5, 1.0) for number in range(moves))
    rows = {"added": 0, "removed": 0, "changed": 1, "unchanged": 0}
    one = Impact(A_CAPTURE, A_CAPTURE, symbols, NOTHING, rows, sums, moved, (), (None, None), {}, (), ())
    return one.message.removeprefix("FINRA restated the week: ")


NO_SYMBOL = "0 symbols added, 0 removed, 0 changed; "
STILL = "; no symbol's HHI moved by more than 0.05"


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        (told("10", "10"), f"{NO_SYMBOL}shares unchanged{STILL}"),
        (told("0", "10"), f"{NO_SYMBOL}shares +10{STILL}"),  # no percentage of nothing
        (told("1000", "1001"), f"{NO_SYMBOL}shares +0.1 % (+1){STILL}"),
        (told("1001", "1000"), f"{NO_SYMBOL}shares -1 (less than 0.1 %){STILL}"),
        (told("10.5", "10.500001"), f"{NO_SYMBOL}shares +0.000001 (less than 0.1 %){STILL}"),
        (told("100000000", "101234500.50"), f"{NO_SYMBOL}shares +1.2 % (+1,234,500.5){STILL}"),
        (told("10", "0"), f"{NO_SYMBOL}shares -100.0 % (-10){STILL}"),
        (
            told("10", "11", Names(2800, 3000, ("Z",) * 1200, ("A",)), moves=1),
            "1,200 symbols added, 1 removed, 0 changed; shares +10.0 % (+1); 1 symbol's HHI moved by more than 0.05",
        ),
        (
            told("10", "9", Names(1, 2, ("Z",), (), ("A", "B")), moves=1200),
            "1 symbol added, 0 removed, 2 changed; shares -10.0 % (-1); 1,200 symbols' HHI moved by more than 0.05",
        ),
    ],
)
def test_the_sentence(sentence: str, expected: str) -> None:
    """Prevents a sentence that reads wrong for one, none or many, and a small change that reads as 0.0 %."""
    assert sentence == expected


def test_long_lists_are_cut_and_counted() -> None:
    """Prevents an anomaly of megabytes, and one whose count is that of what is shown."""
    names = tuple(f"S{number:04}" for number in range(200))
    moves = tuple(Move(name, 0.1, 0.2) for name in names)
    ended = Superseded("c" * 64, WEEK, "trading", at(0), "restated")
    sums = {"total_shares": Total(Decimal("1.50"), Decimal(2))}
    found = Impact(
        A_CAPTURE, A_CAPTURE, Names(0, 200, names, ()), NOTHING, {}, sums, moves, (), (None, None), {}, (), (ended,)
    ).details()
    assert found["symbols"]["added"] == {"count": 200, "first": list(names[:50])}
    assert (found["hhi_moved"]["count"], len(found["hhi_moved"]["first"])) == (200, 50)
    assert found["totals"] == {"total_shares": {"before": "1.5", "after": "2", "delta": "0.5"}}
    written_down = json.loads(json.dumps(found, default=str))
    assert written_down["certificates"]["first"][0]["superseded_at"] == str(at(0))
