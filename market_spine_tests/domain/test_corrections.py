"""Corrections as YAML gives them: what is understood, and every way in which one is refused."""

from __future__ import annotations

from datetime import UTC, date, datetime, time

import pytest
import yaml

from market_spine.domain.corrections import Change, Correction, correction_from, session_of, words
from market_spine.domain.errors import CalendarError
from market_spine.domain.sessions import Session

HEAD = "reason: MLK Day 2025 was an OTC trading day\nactor: operations\ndated: 2025-02-03\nexchange: XNYS\n"
MLK = HEAD + "open: [2025-01-20]\n"


def read(text: str) -> Correction:
    return correction_from(yaml.safe_load(text), "2025-02-03-mlk.yaml")


def test_a_correction_in_full() -> None:
    """Prevents a key that is read and lost, and changes in the order of the keys instead of the days."""
    text = HEAD + 'open: [2025-01-20]\nclose: [2025-01-09]\nearly_close: {2025-07-03: "13:00"}\n'
    assert read(text) == Correction(
        reason="MLK Day 2025 was an OTC trading day",
        actor="operations",
        dated=date(2025, 2, 3),
        changes=(
            Change(date(2025, 1, 9), None),
            Change(date(2025, 1, 20), time(16, 0)),
            Change(date(2025, 7, 3), time(13, 0)),
        ),
        name="2025-02-03-mlk.yaml",
    )


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "open: ['2025-01-20']",
        HEAD + "open: [2025-01-20, 2025-01-20]",
        HEAD + "open: [2025-01-20]\nclose: []\nearly_close: {}",
        HEAD.replace("2025-02-03", "'2025-02-03'") + "open:\n- 2025-01-20",
    ],
)
def test_spellings_of_one_correction(text: str) -> None:
    """Prevents a quoted date, a repeated one or an empty list from making another correction, or none."""
    assert read(text) == read(MLK)


def test_the_written_form_reads_back() -> None:
    """Prevents a stored correction that cannot be read, or reads as another."""
    one = read(HEAD + 'close: [2025-01-21, 2025-01-09]\nearly_close: {"2025-07-03": "9:31", 2025-07-02: "15:59"}')
    assert one.mapping() == {
        "reason": "MLK Day 2025 was an OTC trading day",
        "actor": "operations",
        "dated": "2025-02-03",
        "exchange": "XNYS",
        "open": [],
        "close": ["2025-01-09", "2025-01-21"],
        "early_close": {"2025-07-02": "15:59", "2025-07-03": "09:31"},
    }
    assert correction_from(one.mapping(), one.name) == one


REFUSED = [
    ("- 1", "[1] is not a mapping", "reason, actor, dated, exchange, open, close, early_close"),
    ("", "None is not a mapping", "one key a line"),
    (MLK + "opens: [2025-01-21]\nyes: 1", "unknown key opens, True", "the keys are reason"),
    (MLK.replace("reason", "#"), "reason is missing", "e.g. reason: MLK Day"),
    (MLK.replace("operations", '" "'), "actor is missing", "actor: operations"),
    (MLK.replace("dated: 2025-02-03", "dated:"), "dated is missing", "dated: 2025-02-03"),
    (MLK.replace("exchange", "#"), "exchange is missing", "exchange: XNYS"),
    (MLK.replace("XNYS", "XNAS"), "exchange: 'XNAS' has no calendar here", "write exchange: XNYS"),
    (MLK.replace("operations", "no"), "actor: False is not a text", 'in quotes: actor: "False"'),
    (MLK.replace("MLK Day 2025 was an OTC trading day", "[a]"), "reason: ['a'] is not a text", "in words"),
    (MLK.replace("2025-02-03", "soon"), "dated: 'soon' is not a date", "YYYY-MM-DD"),
    (
        MLK.replace("2025-02-03", "2025-02-03 10:00:00"),
        "dated: 2025-02-03 10:00:00 is a moment",
        "its date: 2025-02-03",
    ),
    (HEAD, "changes no day", "open, close or early_close"),
    (HEAD + "open: []\nearly_close: {}", "changes no day", "or remove the correction"),
    (HEAD + "open: 2025-01-20", "open: datetime.date(2025, 1, 20) is not a list", "write open: [2025-01-20]"),
    (HEAD + "close:", "close: None is not a list", "write close: ["),
    (HEAD + "open: [20250120]", "open: 20250120 is not a date", "YYYY-MM-DD"),
    (HEAD + "open: [2025-02-30x]", "open: '2025-02-30x' is not a date", "YYYY-MM-DD"),
    (HEAD + "close: [null]", "close: None is not a date", "YYYY-MM-DD"),
    (HEAD + "close: [2025-01-20 00:00:00]", "close: 2025-01-20 00:00:00 is a moment", "its date: 2025-01-20"),
    (HEAD + "open: [2011-12-30]", "open: 2011-12-30 is outside the trading calendar 2012-01-02 ..", "inside it"),
    (HEAD + "close: [2035-12-31]", "close: 2035-12-31 is outside the trading calendar", "inside it"),
    (HEAD + "open: [2025-01-18]", "open: 2025-01-18 is a Saturday", "Monday to Friday"),
    (HEAD + 'early_close: {2025-01-19: "13:00"}', "early_close: 2025-01-19 is a Sunday", "Monday to Friday"),
    (HEAD + "early_close: [2025-07-03]", "early_close: [datetime.date(2025, 7, 3)] does not give", '{2025-07-03: "13'),
    (
        HEAD + "early_close: {2025-07-03: 13:00}",
        "early_close: 2025-07-03: 780 is not a time",
        "quotes, e.g. 2025-07-03",
    ),
    (HEAD + "early_close: {2025-07-03: noon}", "early_close: 2025-07-03: 'noon' is not a time", "New York time"),
    (HEAD + 'early_close: {2025-07-03: "13:00:00"}', "'13:00:00' is not a time", '2025-07-03: "13:00"'),
    (HEAD + "early_close: {2025-07-03: null}", "early_close: 2025-07-03: None is not a time", '2025-07-03: "13:00"'),
    (HEAD + 'early_close: {2025-07-03: "16:00"}', "'16:00' is not an early close", "regular days stand in open"),
    (HEAD + 'early_close: {2025-07-03: "09:30"}', "'09:30' is not an early close", "after 09:30 and before 16:00"),
    (MLK + "close: [2025-01-20]", "2025-01-20 is named as 09:30-16:00 and as closed", "name the day once"),
    (
        MLK + "early_close: {2025-01-20: '13:00'}",
        "2025-01-20 is named as 09:30-16:00 and as 09:30-13:00 (0.5)",
        "name the day once",
    ),
    (
        HEAD + "early_close: {2025-07-03: '12:00', '2025-07-03': '13:00'}",
        "2025-07-03 is named as 09:30-12:00 (0.5) and as 09:30-13:00 (0.5)",
        "name the day once",
    ),
]


@pytest.mark.parametrize(("text", "cause", "remedy"), REFUSED, ids=[cause for _, cause, _ in REFUSED])
def test_a_correction_that_is_refused(text: str, cause: str, remedy: str) -> None:
    """Prevents a correction that is half applied, and a refusal that names no file, key, value or remedy."""
    with pytest.raises(CalendarError) as caught:
        read(text)
    assert caught.value.cause.startswith("calendar correction 2025-02-03-mlk.yaml: ")
    assert cause in caught.value.cause
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("day", "closes", "expected", "in_words"),
    [
        (date(2025, 1, 20), time(16, 0), (14, 30, 21, 0, 1.0), "09:30-16:00"),  # winter: New York is UTC-5
        (date(2025, 7, 3), time(13, 0), (13, 30, 17, 0, 0.5), "09:30-13:00 (0.5)"),  # summer: UTC-4
        (date(2025, 3, 10), time(15, 59), (13, 30, 19, 59, 0.5), "09:30-15:59 (0.5)"),  # first day of summer time
    ],
)
def test_the_session_of_a_change(
    day: date, closes: time, expected: tuple[int, int, int, int, float], in_words: str
) -> None:
    """Prevents hours of the other season, and an early close that counts a whole session."""
    opens_at = datetime(day.year, day.month, day.day, *expected[:2], tzinfo=UTC)
    closes_at = datetime(day.year, day.month, day.day, *expected[2:4], tzinfo=UTC)
    session = Change(day, closes).session()
    assert session == Session(day, opens_at, closes_at, expected[4])
    assert words(session) == in_words


def test_words_of_no_session_and_of_a_regular_one() -> None:
    """Prevents a closed day from being told as hours, and a close of 16:00 from counting one half."""
    assert Change(date(2025, 1, 9), None).session() is None
    assert words(None) == "closed"
    assert session_of(date(2025, 1, 10)).session_fraction == 1.0
