"""Faults of the synthetic source: every one seen in the bytes, alone and with the others."""

from __future__ import annotations

import itertools
from collections import Counter
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_spine.domain.errors import SourceError
from market_spine.domain.keys import WeekKey
from market_spine.domain.publication import publication_instant
from market_spine.domain.tiers import Tier
from market_spine.feeds.otc import OTC
from market_spine.sources.delivery import Delivery, Empty, EmptyKind
from market_spine.sources.synthetic import SyntheticSource
from market_spine.sources.synthetic_faults import FAULTS, HEADER, Fault
from market_spine_tests.sources.synthetic_rows import KEY, SMALL, WEEK, Row, faulty, made, plain, rows

# --- every fault in the bytes -----------------------------------------------------------------------------------------


def changed(data: bytes) -> list[tuple[Row, Row]]:
    """Pairs (before, after) of the rows that differ, where the number of rows is the same."""
    after = rows(data)
    assert len(after) == len(plain())
    return [(one, two) for one, two in zip(plain(), after, strict=True) if one != two]


@pytest.mark.parametrize(
    ("fault", "column", "value"),
    [
        ("blank-symbol", "symbol", lambda row: ""),
        ("zero-volume", "shares", lambda row: "0"),
        ("negative-values", "shares", lambda row: f"-{row.shares}"),
        ("wrong-tier", "tier", lambda row: "NMS Tier 1"),
        ("future-date", "updated", lambda row: "2035-12-18"),
    ],
)
@pytest.mark.parametrize("n", [1, 4])
def test_row_faults_change_one_column_of_n_rows(fault: str, column: str, value, n: int) -> None:  # type: ignore[no-untyped-def]
    """Prevents a fault that touches more, fewer or other fields than it says."""
    pairs = changed(faulty(f"{fault}:{n}"))
    assert len(pairs) == n
    assert [two for _, two in pairs] == [one._replace(**{column: value(one)}) for one, _ in pairs]


def test_blank_symbols_stand_on_different_venues_first() -> None:
    """Prevents blank symbols from colliding on one venue while others have none."""
    venues = [two.mpid for _, two in changed(faulty("blank-symbol:4"))]
    assert len(set(venues)) == 4


def test_partial_venues_keeps_the_largest() -> None:
    """Prevents a partial file that is recognised by its tiny row count instead of its venue count."""
    counts = Counter(row.mpid for row in plain())
    kept = {mpid for mpid, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:2]}
    assert rows(faulty("partial-venues:2")) == [row for row in plain() if row.mpid in kept]


@pytest.mark.parametrize("n", [1, 45, 165])
def test_many_venues_has_exactly_n(n: int) -> None:
    """Prevents the 45-of-165 scenario from losing venues where a small week has fewer rows than venues."""
    found = rows(faulty(f"many-venues:{n}"))
    assert {row.mpid for row in found} == {f"X{number:03d}" for number in range(n)}
    keys = [(row.symbol, row.mpid) for row in found]
    assert keys == sorted(set(keys))
    assert {row.symbol for row in found} == {row.symbol for row in plain()}


def test_165_venues_every_week_but_45_in_one() -> None:
    """Prevents the general fault from overruling the particular one."""
    spec = f"{SMALL},fault=many-venues:OTC:2025-11-14:45,fault=many-venues:OTC:*:165"
    for week, n in ((WEEK, 45), (WEEK + timedelta(days=7), 165)):
        assert len({row.mpid for row in rows(made(spec, WeekKey(week, Tier.OTC)))}) == n


def test_duplicate_rows_are_exact() -> None:
    """Prevents near-duplicates, which are summed instead of dropped."""
    extra = Counter(rows(faulty("duplicate-rows:3"))) - Counter(plain())
    assert len(extra) == extra.total() == 3
    assert set(extra) <= set(plain())


@pytest.mark.parametrize("week", [WEEK, date(2026, 3, 6)])
def test_tape_move_divides_a_row_and_keeps_its_volume(week: date) -> None:
    """Prevents the two halves from adding up to another volume, fractions included."""
    key = WeekKey(week, Tier.OTC)
    before, after = rows(made(SMALL, key)), rows(faulty("tape-move:9", key=key))
    by_key: dict[tuple[str, str], list[Row]] = {}
    for row in after:
        by_key.setdefault((row.symbol, row.mpid), []).append(row)
    divided = [pair for pair in by_key.values() if len(pair) == 2]
    assert len(divided) == len({pair[0].symbol for pair in divided}) == 9
    whole = {(row.symbol, row.mpid): row for row in before}
    for one, two in divided:
        original = whole[one.symbol, one.mpid]
        assert two.issue == f"{original.issue} (moved)" != one.issue == original.issue
        assert float(one.shares) + float(two.shares) == pytest.approx(float(original.shares), abs=1e-6)
        assert int(one.trades) + int(two.trades) == int(original.trades)
        assert min(int(one.trades), int(two.trades)) >= 1
    assert len(after) == len(before) + 9


def test_malformed_lines_take_turns() -> None:
    """Prevents only one way of not parsing."""
    lines = faulty("malformed-lines:6").decode().splitlines()[1:]
    assert len(lines) == len(plain())
    assert sum(line.count("|") == 3 for line in lines) == 2
    assert sum("|not reported|" in line for line in lines) == 2
    assert sum("|many|" in line for line in lines) == 2


def test_truncated_file_ends_within_a_line() -> None:
    """Prevents a truncation that looks like a shorter complete file."""
    data, whole = faulty("truncated-file:10"), made(SMALL)
    assert whole.startswith(data)
    assert not data.endswith(b"\n")
    lines = data.decode().split("\n")
    assert len(lines) == 1 + len(plain()) - 10
    assert lines[-1] != "|".join(plain()[-11])


def test_late_tier_has_no_rows_until_n_hours_after() -> None:
    """Prevents the late tier from being not due, which is no trouble, or from staying away for ever."""
    source = SyntheticSource.from_spec(f"{SMALL},fault=late-tier:OTC:2025-11-14:30")
    due = publication_instant(WEEK, Tier.OTC)
    early = source.fetch(OTC, KEY, due + timedelta(hours=30, seconds=-1))
    assert isinstance(early, Empty)
    assert early.kind is EmptyKind.NO_ROWS
    assert "2025-12-16T17:00:00Z" in early.remedy
    late = source.fetch(OTC, KEY, due + timedelta(hours=30))
    assert isinstance(late, Delivery)
    assert late.parts[0].data == made(SMALL)


def test_restatement_shows_two_days_after_publication() -> None:
    """Prevents a restatement that was always there: the first capture must be of the original."""
    source = SyntheticSource.from_spec(f"{SMALL},fault=restatement:OTC:2025-11-14:3")
    due = publication_instant(WEEK, Tier.OTC)
    answers = [source.fetch(OTC, KEY, due + timedelta(hours=hours)) for hours in (0, 47, 48)]
    first, before, after = (answer.parts[0].data for answer in answers if isinstance(answer, Delivery))
    assert first == before == made(SMALL)
    assert after == faulty("restatement:3", version=2) != first


def test_restatement_changes_rows_and_removes_a_symbol() -> None:
    """Prevents restated rows without a later date, and a removal that nobody could see."""
    after = rows(faulty("restatement:3", version=2))
    gone = {row.symbol for row in plain()} - {row.symbol for row in after}
    assert len(gone) == 1
    kept = [row for row in plain() if row.symbol not in gone]
    pairs = [(one, two) for one, two in zip(kept, after, strict=True) if one != two]
    assert len(pairs) == 3
    for one, two in pairs:
        more = {"shares": str(int(one.shares) + 100), "trades": str(int(one.trades) + 1), "updated": "2025-12-17"}
        assert two == one._replace(**more)


def test_added_symbols_come_with_the_revision() -> None:
    """Prevents a late revision that changes what was there."""
    assert faulty("added-symbols:4") == made(SMALL)
    after = rows(faulty("added-symbols:4", version=2))
    assert after[: len(plain())] == plain()
    added = after[len(plain()) :]
    assert [row.symbol for row in added] == ["SZ0000", "SZ0001", "SZ0002", "SZ0003"]
    assert {row.updated for row in added} == {"2025-12-17"}


def test_revision_hours_move_the_revision() -> None:
    """Prevents an option that is read and not used."""
    source = SyntheticSource.from_spec(f"{SMALL},revision_hours=1,fault=added-symbols:OTC:2025-11-14:4")
    due = publication_instant(WEEK, Tier.OTC)
    versions = [source.fetch(OTC, KEY, due + timedelta(minutes=minutes)) for minutes in (59, 60)]
    assert [answer.headers["version"] for answer in versions if isinstance(answer, Delivery)] == ["1", "2"]


def test_faults_hit_only_their_address() -> None:
    """Prevents a fault in one partition from spoiling its neighbours."""
    spec = f"{SMALL},fault=zero-volume:OTC:2025-11-14:2"
    for key in (WeekKey(WEEK + timedelta(days=7), Tier.OTC), WeekKey(WEEK, Tier.NMS_TIER_1)):
        assert made(spec, key) == made(SMALL, key)


# --- composition ------------------------------------------------------------------------------------------------------

BY_ROW = ["blank-symbol", "zero-volume", "negative-values", "future-date", "wrong-tier"]


def test_row_faults_compose_without_overlapping() -> None:
    """Prevents two faults on one row, of which a check would see only the first."""
    pairs = changed(faulty(*(f"{fault}:3" for fault in BY_ROW)))
    assert len(pairs) == 15
    assert all(sum(a != b for a, b in zip(one, two, strict=True)) == 1 for one, two in pairs)


@given(st.permutations([f"fault={name}:OTC:2025-11-14:2" for name in FAULTS]))
@settings(max_examples=10)
def test_all_faults_compose_in_any_order(options: list[str]) -> None:
    """Prevents a recipe whose bytes depend on how its options were sorted; and no fault may break another."""
    source = SyntheticSource.from_spec(",".join([SMALL, *options]))
    straight = SyntheticSource.from_spec(",".join([SMALL, *(f"fault={name}:OTC:2025-11-14:2" for name in FAULTS)]))
    assert source.recipe == straight.recipe
    assert [source.content(KEY, version) for version in (1, 2)] == [straight.content(KEY, v) for v in (1, 2)]


@pytest.mark.parametrize("fault", BY_ROW)
def test_revision_leaves_the_other_faults_where_they_were(fault: str) -> None:
    """Prevents version 2 from differing by more than the restatement."""
    first, second = (set(rows(faulty(f"{fault}:3", "restatement:3", version=version))) for version in (1, 2))
    spoilt = first - set(plain())
    assert len(spoilt) == 3
    assert spoilt <= second


def test_the_same_fault_at_two_addresses_adds_up() -> None:
    """Prevents the general and the particular fault from hitting the same rows."""
    data = made(f"{SMALL},fault=zero-volume:OTC:*:2,fault=zero-volume:OTC:2025-11-14:3")
    assert len(changed(data)) == 5


@pytest.mark.parametrize(
    "fault",
    ["zero-volume:9999", "partial-venues:10", "many-venues:1001", "tape-move:9999", "truncated-file:9999"],
)
def test_faults_larger_than_the_week_are_refused(fault: str) -> None:
    """Prevents a fault that quietly does less than was asked."""
    name = fault.partition(":")[0]
    with pytest.raises(SourceError, match=f"fault {name} wants [0-9]+ .*has [0-9]+") as caught:
        faulty(fault)
    assert f"{name}:OTC:2025-11-14:" in caught.value.remedy


def test_every_fault_changes_something() -> None:
    """Prevents a fault in the table that does nothing."""
    due = publication_instant(WEEK, Tier.OTC)
    for name in FAULTS:
        source = SyntheticSource(scale=0.02, faults=(Fault(name, Tier.OTC, WEEK, 2),))
        answers = [source.fetch(OTC, KEY, due + timedelta(hours=hours)) for hours in (0, 48)]
        assert [isinstance(a, Delivery) and a.parts[0].data for a in answers] != [made(SMALL)] * 2, name


def test_all_pairs_of_faults_compose() -> None:
    """Prevents a pair of faults of which one breaks on what the other left."""
    pairs = list(itertools.combinations(FAULTS, 2))
    assert len(pairs) == 91
    for one, two in pairs:
        for version in (1, 2):
            assert faulty(f"{one}:2", f"{two}:2", version=version).startswith(HEADER.encode())
