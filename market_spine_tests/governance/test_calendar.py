"""Calendar vintages on record, captures from them, and files of corrections."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from market_spine.assets.capture import capture
from market_spine.cli.calendar import EXAMPLE
from market_spine.domain.errors import CalendarError, CaptureConflict
from market_spine.domain.vintages import corrected
from market_spine.domain.weeks import weeks_between
from market_spine.governance.calendar import (
    Library,
    current_vintage,
    installed,
    is_in_force,
    read_correction,
    record_correction,
)
from market_spine.store import vintages
from market_spine.store.ledger import transaction
from market_spine.store.schema import DELIVERIES
from market_spine.store.store import Store
from market_spine.store.trust_tables import CALENDAR_VINTAGES
from market_spine.store.vintages import Recorded
from market_spine_tests.domain.vintage_lab import CARTER, MLK, closed, library, opened
from market_spine_tests.governance.calendar_desk import (
    REAL,
    Desk,
    desk_at,
    knowing,
    without,
)
from market_spine_tests.store.builders import RUN, T0
from market_spine_tests.store.processes import at_once

MLK_WEEK, CARTER_WEEK = date(2025, 1, 24), date(2025, 1, 10)


@pytest.fixture
def desk(sqlite_store: Store) -> Iterator[Desk]:
    with desk_at(sqlite_store) as made:
        yield made


def every(store: Store) -> list[Recorded]:
    with store.control.read() as connection:
        return vintages.every(connection)


def put(store: Store, *found: Any) -> list[Recorded]:
    with transaction(store.control, store.home, RUN, CALENDAR_VINTAGES.name) as draft:
        return [vintages.put(draft, one, "a reason", "operations") for one in found]


# Vintages on record, on both databases


def test_vintages_come_back_as_they_were_put_in(store: Store) -> None:
    """Prevents a vintage whose text a database changes, and one that cannot be found by its number."""
    with store.control.read() as connection:
        assert vintages.newest(connection) is None
        assert vintages.every(connection) == []
        assert vintages.by_number(connection, 1) is None
    mlk = corrected(library(), opened(MLK))
    first, second = put(store, library(), mlk)
    assert first == Recorded(1, library(), "a reason", "operations", T0)
    assert second == replace(first, number=2, vintage=mlk)
    with store.control.read() as connection:
        assert vintages.newest(connection) == vintages.by_number(connection, 2) == second
        assert vintages.every(connection) == [first, second]
        row = connection.execute(sa.select(CALENDAR_VINTAGES).order_by(CALENDAR_VINTAGES.c.vintage)).mappings().first()
    assert row is not None
    assert (row["exchange_code"], row["library_version"], row["content_hash"], row["execution_id"]) == (
        "XNYS",
        "4.13.2",
        library().content_hash,
        RUN.execution_id,
    )


@pytest.mark.parametrize("change", [{"content_hash": "0" * 64}, {"document": library().document() + " "}], ids=list)
def test_a_damaged_vintage_is_refused(store: Store, change: dict[str, str]) -> None:
    """Prevents weeks from being captured from a calendar that nobody recorded."""
    put(store, library())
    with store.control.write() as connection:
        connection.execute(sa.update(CALENDAR_VINTAGES).values(**change))
    with store.control.read() as connection, pytest.raises(CalendarError, match="damaged") as caught:
        vintages.newest(connection)
    assert caught.value.remedy


def test_a_build_is_recorded_once_with_what_it_replaces(store: Store) -> None:
    """Prevents a row for every run, and a newer library that goes unnoticed because it says the same."""
    first = current_vintage(store, RUN, REAL)
    assert (first.number, first.reason, first.actor) == (1, "exchange_calendars 4.13.2", "exchange_calendars")
    assert current_vintage(store, RUN, REAL) == first
    newer = Library("4.14.0", lambda version: replace(library(), library_version=version))
    second = current_vintage(store, RUN, newer)
    assert (second.number, second.reason) == (2, "exchange_calendars 4.13.2 -> 4.14.0")
    assert second.vintage.content_hash == first.vintage.content_hash
    assert every(store) == [first, second]


def test_corrections_go_on_holding_on_a_newer_build(store: Store) -> None:
    """Prevents an upgrade that undoes corrections, or that lets an earlier one win over a later one."""
    for one in (opened(MLK), closed(CARTER, MLK)):
        record_correction(store, RUN, one, without(CARTER))
    before = every(store)[-1].vintage
    assert before.session_count(CARTER_WEEK) == before.session_count(MLK_WEEK) == 4.0
    after = current_vintage(store, RUN, REAL)
    assert (after.number, after.vintage.corrections) == (4, before.corrections)
    assert after.vintage.content_hash == before.content_hash == library().content_hash


def test_a_correction_is_recorded_once_whatever_its_file_is_called(store: Store) -> None:
    """Prevents a second vintage from the same correction; the build is recorded before it where there is none."""
    mlk = opened(MLK)
    recorded, is_new = record_correction(store, RUN, mlk, REAL)
    assert (recorded.number, recorded.reason, recorded.actor, is_new) == (2, mlk.reason, mlk.actor, True)
    for one in (mlk, replace(mlk, name="renamed.yaml")):
        assert record_correction(store, RUN, one, REAL) == (recorded, False)
    assert len(every(store)) == 2


def test_a_correction_that_was_overruled_can_be_applied_again(store: Store) -> None:
    """Prevents a correction from passing for in force because it is on record somewhere."""
    for number, one in enumerate((opened(MLK), closed(MLK), opened(MLK)), start=2):
        recorded, is_new = record_correction(store, RUN, one, REAL)
        assert (recorded.number, is_new) == (number, True)
    assert [one.vintage.session_count(MLK_WEEK) for one in every(store)] == [4.0, 5.0, 4.0, 5.0]


def test_what_the_library_says_already_is_still_recorded(store: Store) -> None:
    """Prevents a correction that a later library would undo from being dropped because today's agrees with it."""
    assert not is_in_force(library(), closed(CARTER))
    recorded, is_new = record_correction(store, RUN, closed(CARTER), REAL)
    assert (recorded.number, is_new, recorded.vintage.content_hash) == (2, True, library().content_hash)
    assert is_in_force(recorded.vintage, closed(CARTER))
    assert current_vintage(store, RUN, without(CARTER)).vintage.content_hash == library().content_hash


def record_first(root: Path, url: str) -> int:
    store = Store.at(root, url)
    return current_vintage(store, RUN, installed()).number


def record_same(root: Path, url: str) -> tuple[int, bool]:
    recorded, is_new = record_correction(Store.at(root, url), RUN, opened(MLK), installed())
    return recorded.number, is_new


@pytest.mark.slow
def test_several_processes_at_once_record_one_row(store: Store) -> None:
    """Prevents the same build and the same correction from being there once per process."""
    place = (store.home.root, store.control.engine.url.render_as_string(hide_password=False))
    assert at_once(record_first, [place] * 3) == [1, 1, 1]
    told: list[tuple[int, bool]] = at_once(record_same, [place] * 3)
    assert sorted(told) == [(2, False), (2, False), (2, True)]
    assert [one.number for one in every(store)] == [1, 2]


# Captures from the vintage


def test_deliveries_name_the_vintage_and_unchanged_weeks_stay(desk: Desk) -> None:
    """Prevents a capture whose calendar nobody can name, and new captures of weeks that a vintage does not change."""
    weeks = weeks_between(date(2025, 1, 10), date(2025, 1, 31))
    assert len(desk.capture(weeks).written) == 4
    before = desk.calendar()
    record_correction(desk.store, desk.run(), opened(MLK), REAL)
    report = desk.capture(weeks)
    assert [one.week_ending for one in report.written] == [MLK_WEEK]
    after = desk.calendar()
    assert {week for week in weeks if after[week] != before[week]} == {MLK_WEEK}
    assert [one.row_count for one in (before[MLK_WEEK], after[MLK_WEEK])] == [4, 5]
    with desk.store.control.read() as connection:
        select = sa.select(DELIVERIES.c.source_name).distinct().order_by(DELIVERIES.c.source_name)
        named = list(connection.scalars(select))
    assert named == [f"exchange_calendars 4.13.2 XNYS, vintage {number}" for number in (1, 2)]


def test_a_vintage_that_comes_meanwhile_is_captured_too(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents the slower of two processes from putting the old sessions back over the corrected ones."""
    desk.capture([MLK_WEEK])
    calls = []

    def overtaken(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 1:  # another process corrects and captures, while this one has read vintage 1
            desk.correct(opened(MLK))
        capture(*arguments)

    monkeypatch.setattr("market_spine.assets.calendar.capture", overtaken)
    desk.capture([MLK_WEEK])
    assert desk.calendar()[MLK_WEEK].row_count == 5
    assert len(calls) == 3  # overtaken, the other one, and once more


def test_vintages_without_end_are_an_error(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents two machines with two libraries from overtaking one another for ever."""
    builds = iter(range(100))

    def overtaken(*arguments: Any) -> None:
        version = f"5.{next(builds)}"
        current_vintage(desk.store, desk.run(), Library(version, lambda name: replace(library(), library_version=name)))
        capture(*arguments)

    monkeypatch.setattr("market_spine.assets.calendar.ATTEMPTS", 3)
    monkeypatch.setattr("market_spine.assets.calendar.capture", overtaken)
    with pytest.raises(CaptureConflict, match="each of 3 attempts") as caught:
        desk.capture([MLK_WEEK])
    assert caught.value.remedy.endswith("spine calendar list")


# Files


def test_the_example_is_a_correction(tmp_path: Path) -> None:
    """Prevents a template that is refused."""
    path = tmp_path / "mlk.yaml"
    path.write_text(EXAMPLE)
    found = read_correction(path)
    assert (found.reason, found.name) == ("MLK Day 2025 was an OTC trading day", "mlk.yaml")
    assert corrected(library(), found).session_count(MLK_WEEK) == 5.0


GOOD_FILE = "reason: r\nactor: a\ndated: 2025-02-03\nexchange: XNYS\n"
BAD_FILES = {
    b"open: [": "it is not YAML",
    f"{GOOD_FILE}open: [2025-02-30]".encode(): "it is not YAML",
    b"\xff\xfe\x00": "it cannot be read",
    b"": "None is not a mapping",
    b"- 2025-01-20": "is not a mapping",
    f"{GOOD_FILE}open: [2025-01-20]\nopen: [2025-01-21]".encode(): "line 6: open is there twice",
    f'{GOOD_FILE}early_close: {{2025-01-20: "13:00", 2025-01-20: "14:00"}}'.encode(): "2025-01-20 is there twice",
    f"{GOOD_FILE}open: &a [*a]".encode(): "is not a date",
    f"{GOOD_FILE}".encode(): "changes no day",
}


@pytest.mark.parametrize(("content", "cause"), BAD_FILES.items(), ids=range(len(BAD_FILES)))
def test_a_bad_file_says_what_is_wrong_with_it(tmp_path: Path, content: bytes, cause: str) -> None:
    """Prevents a traceback from YAML, and a second key that silently replaces the first one's days."""
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(CalendarError) as caught:
        read_correction(path)
    assert cause in caught.value.cause
    assert "bad.yaml" in caught.value.cause
    assert caught.value.remedy


@pytest.mark.parametrize("name", ["nowhere.yaml", "."])
def test_a_file_that_is_not_there(tmp_path: Path, name: str) -> None:
    """Prevents an OSError from leaving the door."""
    with pytest.raises(CalendarError, match="cannot be read"):
        read_correction(tmp_path / name)


def test_the_installed_build_is_the_real_one() -> None:
    """Prevents the name of the distribution from being mistaken, and a vintage of another version than it says."""
    assert installed().vintage(installed().version).library_version == installed().version
    assert knowing(opened(MLK), "5.0").vintage("5.0").session_count(MLK_WEEK) == 5.0
