"""Notices: one for each root cause, told once, told again only when it is graver, and its end to who was told."""

from __future__ import annotations

import json
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from market_spine.domain.contracts import Severity
from market_spine.domain.errors import QueryError
from market_spine.domain.operations import Mode
from market_spine.feeds.otc import FEED
from market_spine.governance.matters import CHANNEL_FAILING, matters
from market_spine.governance.notices import acknowledge
from market_spine.governance.receipts import ATTEMPTS, CUT_OFF, claim, observe_channels, retry
from market_spine.governance.subscriptions import Wish, subscribe, unsubscribe
from market_spine.store.ledger import Run
from market_spine.store.operations_tables import NOTICE_RECEIPTS, NOTICES
from market_spine.store.store import Store
from market_spine.store.verify import verify
from market_spine_tests.governance.anomaly_desk import T1, WHOLE, holds, seen, weeks_later
from market_spine_tests.governance.notice_board import Board, use_cases
from market_spine_tests.store.builders import T0

GAP, MISSED, ZERO = "NOT_DELIVERED", "MISSED_RUNS", "TRADES_WITHOUT_SHARES"
INFO, WARN, ERROR, CRITICAL = Severity
TITLE = "not delivered, OTC 2025-11-14"


@pytest.fixture
def board(sqlite_store: Store) -> Board:
    return Board(sqlite_store)


def test_one_root_cause_is_one_notice(store: Store) -> None:
    """Prevents a message for each of five findings of one missing file (on both databases)."""
    board = Board(store)
    board.subscribe()
    board.look(seen(GAP, severity=ERROR), seen(MISSED, WHOLE, ERROR), seen("INCOMPLETE_TIER_SPLIT", WHOLE))
    assert board.draft() == [("desk", "opened", f"ERROR: {TITLE}")]
    assert board.body() == (
        "NOT_DELIVERED in OTC:2025-11-14\n"
        "since 2025-12-15 15:02 UTC, week 2025-11-14, tier OTC\n"
        "2 more findings follow from it\n"
        "next: spine backfill --from 2025-11-14 --to 2025-11-14 --tier OTC\n"
        "more: spine anomalies show 1\n"
        "seen to: spine notify ack 1"
    )
    assert board.draft() == []
    assert board.notices() == [("OPEN", "ERROR", 1)]


def test_what_is_found_again_is_not_told_again(board: Board) -> None:
    """Prevents a telephone that rings with every look at the same thing."""
    board.subscribe()
    for _ in range(3):
        board.look(seen(GAP, severity=ERROR))
        board.draft()
    assert [event for _, event, _ in board.states()] == ["opened"]


def test_graver_is_told_again_and_milder_is_not(board: Board) -> None:
    """Prevents silence when a warning becomes critical, and a message with every change to and fro."""
    board.subscribe()
    board.subscribe("pager", CRITICAL)
    told = []
    for severity in (WARN, CRITICAL, WARN, CRITICAL):
        board.look(seen(GAP, severity=severity))
        told.append(board.draft())
    raised = f"now CRITICAL: {TITLE}"
    assert told == [
        [("desk", "opened", f"WARN: {TITLE}")],
        [("desk", "raised", raised), ("pager", "raised", raised)],
        [],
        [],
    ]
    assert board.notices() == [("OPEN", "CRITICAL", 2)]


def test_its_end_is_told_to_who_was_told_and_it_may_come_again(board: Board) -> None:
    """Prevents "closed" to somebody who never heard of it, and a second outage that is taken for the first."""
    board.subscribe()
    board.look(seen(GAP, severity=ERROR))
    board.draft()
    board.send()
    board.subscribe("late")
    board.look(holds(GAP, message="arrived 2025-12-15 15:05 UTC"))
    assert board.draft() == [("desk", "closed", f"closed: {TITLE}")]
    assert board.body() == (
        "holds again: arrived 2025-12-15 15:05 UTC (a check)\nit was told of first at 2025-12-15 15:03 UTC"
    )
    assert board.draft() == []
    board.look(seen(GAP, severity=ERROR))
    assert {name for name, event, _ in board.draft() if event == "opened"} == {"desk", "late"}
    assert [state for state, _, _ in board.notices()] == ["CLOSED", "OPEN"]


def test_what_was_over_before_it_was_sent_is_not_sent(board: Board) -> None:
    """Prevents a message at night about something that is mended; one that may have arrived is told its end."""
    board.subscribe()
    board.look(seen(GAP, severity=ERROR), seen(GAP, T1, ERROR))
    board.draft()
    claim(board.store, board._run(), [1])  # and then killed
    board.look(holds(GAP), holds(GAP, T1))
    assert [title for _, _, title in board.draft()] == [f"closed: {TITLE}"]
    assert board.states() == [
        ("desk", "opened", "SUPPRESSED"),
        ("desk", "opened", "SUPPRESSED"),
        ("desk", "closed", "PENDING"),
    ]


def test_an_effect_whose_cause_is_found_is_told_by_its_cause(board: Board) -> None:
    """Prevents two open notices about one thing after its cause came to light."""
    board.subscribe()
    board.look(seen(MISSED, WHOLE, ERROR))
    board.draft()
    board.send()
    board.look(seen(GAP, severity=ERROR))
    assert [(event, title) for _, event, title in board.draft()] == [
        ("opened", f"ERROR: {TITLE}"),
        ("closed", "closed: missed runs, all tiers 2025-11-14"),
    ]
    assert board.body().startswith("explained by anomaly 2")


def test_what_is_only_just_recorded_waits_for_what_explains_it(board: Board) -> None:
    """Prevents an effect from being told in the second before its cause is recorded; it is told at the next look."""
    board.subscribe()
    board.look(seen(GAP, severity=ERROR))
    from market_spine.governance.notices import draft

    soon = Run("r", "c", board.now + timedelta(seconds=9))
    found = draft(board.store, soon, FEED, use_cases())
    assert (found.told, found.is_unsettled) == ((), True)
    assert board.draft() != []


# Subscription, finding -> told or not.
WANTED: list[tuple[dict[str, Any], Any, bool]] = [
    ({"severity": WARN}, seen(GAP), True),
    ({"severity": ERROR}, seen(GAP), False),
    ({"severity": INFO}, seen(GAP, severity=INFO), False),  # what had to be expected asks for nothing
    ({"severity": WARN, "domain": FEED.domain}, seen(GAP), True),
    ({"severity": WARN, "domain": "another.feed"}, seen(GAP), False),
    ({"severity": WARN, "ready_for": "trading"}, seen(GAP), True),
    ({"severity": WARN, "ready_for": "research"}, seen(GAP), False),  # which uses Tier 1 only
    ({"severity": WARN, "ready_for": "research"}, seen(GAP, T1), True),
    ({"severity": WARN, "ready_for": "research"}, seen(MISSED, WHOLE), True),
    ({"severity": WARN, "ready_for": "gone"}, seen(GAP), False),
    ({"severity": WARN, "mode": Mode.DIGEST}, seen(GAP), False),
]


@pytest.mark.parametrize(("wish", "finding", "is_told"), WANTED)
def test_who_is_told_of_what(board: Board, wish: dict[str, Any], finding: Any, is_told: bool) -> None:
    """Prevents messages that nobody asked for, and silence to who did."""
    board.subscribe(**wish)
    board.look(finding)
    assert bool(board.draft()) is is_told


def test_nobody_is_told_of_what_was_before(board: Board) -> None:
    """Prevents twenty messages about last month on the day on which somebody subscribes."""
    board.look(seen(GAP, severity=ERROR))
    board.subscribe()
    assert board.draft() == []
    board.look(seen(GAP, severity=CRITICAL))
    assert [event for _, event, _ in board.draft()] == ["opened"]


def test_work_that_was_given_up(board: Board) -> None:
    """Prevents a load that failed for good without a word (F259), and a second message where its cause is known."""
    board.subscribe()
    board.fail_work()
    assert board.draft() == [("desk", "opened", "ERROR: given up, OTC 2025-11-14")]
    assert board.body().splitlines()[0] == (
        "work item 1 (weekly_refresh) was given up after 3 attempts: the source is down"
    )
    assert "next: spine work retry 1" in board.body()
    board.send()
    board.fail_work(state="COMPLETE")
    assert [event for _, event, _ in board.draft()] == ["closed"]
    board.look(seen("SOURCE_UNAVAILABLE", severity=ERROR, details={"next": "set the key"}))
    assert [event for _, event, _ in board.draft()] == ["opened"]
    board.fail_work(2, generation=2)
    assert board.draft() == [("desk", "raised", "now ERROR: source unavailable, OTC 2025-11-14")]
    assert "work item 2 (weekly_refresh) was given up after 3 attempts" in board.body()


def test_a_week_that_lost_its_certificate(board: Board) -> None:
    """Prevents traders from using a week that is certified no more, and two messages where a finding says why."""
    board.subscribe(ready_for="trading", severity=ERROR)
    board.subscribe("research", ERROR, ready_for="research")
    board.judge("CERTIFIED")
    board.judge("BLOCKED", "CERTIFIED")
    assert board.draft() == [("desk", "opened", "ERROR: no longer certified, week 2025-11-14")]
    assert board.body().startswith("not for trading: 2 tables are out of date\nsince")
    board.send()
    board.judge("CERTIFIED", "BLOCKED")
    assert board.draft() == [("desk", "closed", "closed: no longer certified, week 2025-11-14")]


def test_a_restatement_tells_what_it_changed(board: Board) -> None:
    """Prevents downstream users from not hearing that numbers changed (F260), or hearing twice with the certificate."""
    board.subscribe(severity=WARN)
    rows = {"rows": {"changed": 3, "unchanged": 90}}
    restated: dict[str, Any] = {"severity": INFO, "message": "FINRA restated the week: shares +4.1 %"}
    board.judge("CERTIFIED")
    board.look(seen("RESTATED", **restated, details=rows, capture_id="c1"))
    assert board.draft() == [("desk", "opened", "WARN: restated, OTC 2025-11-14")]
    board.send()
    board.judge("BLOCKED", "CERTIFIED")
    assert board.draft() == [("desk", "raised", "now ERROR: restated, OTC 2025-11-14")]
    assert board.body().splitlines()[0] == "FINRA restated the week: shares +4.1 %"
    assert "no longer certified for trading" in board.body()
    assert "next: spine captures impact otc_raw --week-ending 2025-11-14 --tier OTC" in board.body()
    board.send()
    board.look(seen("RESTATED", **restated, details=rows, capture_id="c2"))  # once more
    assert sorted(event for _, event, _ in board.draft()) == ["closed", "opened"]


def test_a_restatement_that_changed_nothing_is_no_warning(board: Board) -> None:
    """Prevents a warning about a corrected issue name."""
    board.subscribe(severity=WARN)
    board.subscribe("curious", INFO)
    board.look(seen("RESTATED", severity=INFO, details={"rows": {"unchanged": 90}}))
    assert [name for name, _, _ in board.draft()] == ["curious"]


def test_a_week_that_became_ready_is_told_to_who_wants_to_know(board: Board) -> None:
    """Prevents polling for the moment at which a week may be used, and telling everybody of it."""
    board.subscribe(severity=WARN)
    board.subscribe("quant", INFO, ready_for="trading")
    board.subscribe("other", INFO, ready_for="research")
    board.judge("CERTIFIED")
    assert board.draft() == [("quant", "told", "ready for trading, week 2025-11-14")]
    assert board.draft() == []
    assert board.notices() == [("CLOSED", "INFO", 1)]


def test_who_hears_of_the_end_does_not_hear_of_the_beginning_too(board: Board) -> None:
    """Prevents "certified again" and "ready" about one week at one moment."""
    board.subscribe("quant", INFO)
    board.judge("CERTIFIED")
    board.draft()
    board.judge("BLOCKED", "CERTIFIED")
    board.draft()
    board.send()
    board.judge("CERTIFIED", "BLOCKED")
    assert [(event, title) for _, event, title in board.draft()] == [
        ("closed", "closed: no longer certified, week 2025-11-14")
    ]


def test_a_snooze_holds_back_and_then_tells_what_still_holds(board: Board) -> None:
    """Prevents messages during a snooze, and something that began in it from never being told."""
    board.subscribe()
    board.snooze("desk", board.now + timedelta(hours=1))
    board.look(seen(GAP, severity=ERROR), seen(GAP, T1, ERROR))
    board.draft()
    assert board.send() == []
    assert {state for _, _, state in board.states()} == {"SUPPRESSED"}
    board.look(holds(GAP, T1))
    board.draft()
    board.wait(60)
    board.draft()
    assert board.send() == [1]
    assert sorted(board.states()) == [("desk", "opened", "SENT"), ("desk", "opened", "SUPPRESSED")]


def test_an_end_during_a_snooze_is_told_after_it(board: Board) -> None:
    """Prevents somebody who was told of an outage from believing in it for ever."""
    board.subscribe()
    board.look(seen(GAP, severity=ERROR))
    board.draft()
    board.send()
    board.snooze("desk", board.now + timedelta(hours=1))
    board.look(holds(GAP))
    board.draft()
    assert board.states()[-1] == ("desk", "closed", "SUPPRESSED")
    board.snooze("desk", None)
    board.draft()
    assert board.states()[-1] == ("desk", "closed", "PENDING")


def test_what_waits_when_a_snooze_begins_is_held_back(board: Board) -> None:
    """Prevents a message a minute after somebody asked for none; and one to who has left."""
    board.subscribe()
    board.subscribe("gone")
    board.look(seen(GAP, severity=ERROR))
    board.draft()
    board.snooze("desk", board.now + timedelta(hours=1))
    unsubscribe(board.store, board._run(), "gone", "ops")
    assert board.states() == [("desk", "opened", "PENDING"), ("gone", "opened", "SUPPRESSED")]
    assert board.send() == []
    assert {state for _, _, state in board.states()} == {"SUPPRESSED"}


def test_acknowledged_is_not_reminded_of_but_told_when_graver(board: Board) -> None:
    """Prevents a daily reminder of what somebody sees to, and an acknowledgement that hides what became worse."""
    board.subscribe()
    board.subscribe("boss", INFO, mode=Mode.DIGEST)
    board.look(seen(GAP, severity=WARN))
    board.draft()
    row = acknowledge(board.store, board._run(), 1, " FINRA was asked ", "ops")
    assert (row["state"], row["note"], row["actor"]) == ("ACKNOWLEDGED", "FINRA was asked", "ops")
    assert board.digest() == [("boss", "told", f"{FEED.domain} 2025-12-15: nothing is wrong")]
    assert "* acknowledged: 1" in board.body()
    board.look(seen(GAP, severity=ERROR))
    assert [event for _, event, _ in board.draft()] == ["raised"]
    assert board.notices()[0][0] == "OPEN"


def test_what_cannot_be_acknowledged(board: Board) -> None:
    """Prevents an acknowledgement that silently does nothing."""
    with pytest.raises(QueryError, match="there is no notice 7"):
        acknowledge(board.store, board._run(), 7, "", "ops")
    board.subscribe()
    board.look(seen(GAP, severity=ERROR))
    board.draft()
    acknowledge(board.store, board._run(), 1, "", "ops")
    with pytest.raises(QueryError, match="notice 1 is ACKNOWLEDGED by ops"):
        acknowledge(board.store, board._run(), 1, "", "ops")


def test_retries_wait_60_120_and_240_seconds_and_end(board: Board) -> None:
    """Prevents a channel that is down from being tried for ever, or at every look."""
    board.subscribe()
    board.look(seen(GAP, severity=ERROR))
    board.draft()
    moments = []
    for _ in range(20):
        if board.send("the other side answered 500"):
            moments.append(board.minutes)
    assert [later - first for first, later in pairwise(moments)] == [1, 2, 4]
    (row,) = board.rows(NOTICE_RECEIPTS)
    assert (row["state"], row["attempt_count"], row["last_error"]) == ("FAILED", 4, "the other side answered 500")
    retry(board.store, board._run(), [1])
    assert board.send() == [1]
    assert board.states() == [("desk", "opened", "SENT")]
    with pytest.raises(QueryError, match="not FAILED, or not there: receipt 1"):
        retry(board.store, board._run(), [1])


def test_an_attempt_that_takes_its_process_with_it_is_counted(board: Board) -> None:
    """Prevents a message that kills its sender from being tried for ever; it is sent again after each kill."""
    board.subscribe()
    board.look(seen(GAP, severity=ERROR))
    board.draft()
    claimed = 0
    for _ in range(40):
        claimed += len(claim(board.store, board._run(), [1]))
    (row,) = board.rows(NOTICE_RECEIPTS)
    assert (claimed, row["state"], row["last_error"]) == (ATTEMPTS, "FAILED", CUT_OFF)


def test_a_claimed_receipt_is_nobody_elses(board: Board) -> None:
    """Prevents two senders at one moment from both sending it."""
    board.subscribe()
    board.look(seen(GAP, severity=ERROR))
    board.draft()
    run = board._run()
    assert [len(claim(board.store, run, [1])) for _ in range(2)] == [1, 0]


def test_a_failing_channel_is_told_over_the_others(board: Board) -> None:
    """Prevents the news that mail is down from being sent by mail only, or to nobody."""
    for name, severity in (("mail", WARN), ("desk", WARN), ("pager", CRITICAL)):
        board.subscribe(name, severity)
    board.wait(5)
    observe_channels(board.store, board._run(), FEED.domain, {"mail": "channel mail: no answer in time", "slack": None})
    assert board.draft() == [("desk", "opened", "ERROR: channel failing: mail")]
    assert board.body().startswith("channel mail: no answer in time\n")
    assert "next: spine notify test mail" in board.body()
    observe_channels(board.store, board._run(), FEED.domain, {"desk": "no answer in time"})
    assert board.draft() == [("pager", "opened", "ERROR: channel failing: desk")]  # the only one that is left
    (first, second) = (row for row in board.rows() if row["code"] == CHANNEL_FAILING)
    assert (str(first["week_ending"]), first["tier"], first["fingerprint"] != second["fingerprint"]) == (
        "2025-12-19",
        "ALL",
        True,
    )
    board.wait(60 * 24 * 7)
    observe_channels(board.store, board._run(), FEED.domain, {"mail": None, "desk": "no answer in time"})
    assert [row["code"] for row in board.rows() if row["resolved_at"] is None] == [CHANNEL_FAILING]


def test_a_digest_comes_once_a_day(board: Board) -> None:
    """Prevents a second digest from a repeated health job, and none after it ran before somebody subscribed."""
    assert board.digest() == []
    board.subscribe("boss", WARN, mode=Mode.DIGEST)
    board.look(seen(GAP, severity=ERROR, message="not there"), seen(ZERO, T1, CRITICAL))
    board.fail_work(tier="NMS_TIER_2")
    assert board.digest() == [("boss", "told", f"{FEED.domain} 2025-12-15: 1 CRITICAL, 2 ERROR")]
    lines = board.body().splitlines()
    assert lines[:5] == [
        "## Open",
        "",
        f"* **CRITICAL** trades without shares, NMS_TIER_1 2025-11-14: {ZERO} in NMS_TIER_1:2025-11-14",
        "* **ERROR** not delivered, OTC 2025-11-14: not there",
        "* **ERROR** given up, NMS_TIER_2 2025-11-14: work item 1 (weekly_refresh) was given up after 3 attempts: the "
        "source is down",
    ]
    assert "* opened: 2 (not delivered OTC 2025-11-14, trades without shares NMS_TIER_1 2025-11-14)" in lines
    assert "* closed: 0" in lines
    assert "No week was judged yet." in lines
    assert board.digest() == []
    board.wait(24 * 60)
    board.judge("PRELIMINARY")
    assert [title for _, _, title in board.digest()] == [f"{FEED.domain} 2025-12-16: 1 CRITICAL, 2 ERROR"]
    assert "* 2025-11-14: trading PRELIMINARY" in board.body()


def test_a_digest_of_a_hundred_things_is_short(board: Board) -> None:
    """Prevents a page that nobody reads, and counts of what is shown only."""
    board.subscribe("boss", WARN, mode=Mode.DIGEST)
    board.look(*(seen("UNKNOWN_COLUMNS", weeks_later(number), message="x" * 500) for number in range(40)))
    assert board.digest()[0][2].endswith("40 WARN")
    assert "* and 30 more" in board.body()
    assert len(board.body()) < 4000


def test_a_digest_is_about_what_its_reader_asked_for(board: Board) -> None:
    """Prevents a reader of Tier 1 from paging through the others."""
    board.subscribe("quant", WARN, mode=Mode.DIGEST, ready_for="research")
    board.look(seen(GAP, severity=ERROR), seen(GAP, T1, ERROR))
    board.digest()
    assert "NMS_TIER_1 2025-11-14" in board.body()
    assert "OTC 2025-11-14" not in board.body()


def test_a_digest_of_a_snoozed_day_is_not_sent_later(board: Board) -> None:
    """Prevents the digest of last week after a holiday."""
    board.subscribe("boss", WARN, mode=Mode.DIGEST)
    board.snooze("boss", board.now + timedelta(hours=1))
    board.digest()
    board.wait(120)
    board.draft()
    assert board.states() == [("boss", "told", "SUPPRESSED")]


@pytest.mark.parametrize("name", ["", "Desk", "slack://T0K3N/x", "a b", "x" * 41])
def test_an_address_is_no_name(board: Board, name: str) -> None:
    """Prevents a secret from getting into the database, or into the error, by the wrong option."""
    with pytest.raises(QueryError, match="that is no name") as failure:
        subscribe(board.store, board._run(), Wish(name, "mail"), "ops")
    assert not name or name not in str(failure.value)


def test_subscribing_twice_and_again(board: Board) -> None:
    """Prevents a second subscription from silently replacing the first; an ended one may begin anew."""
    board.subscribe()
    with pytest.raises(QueryError, match="there is a subscription desk already"):
        board.subscribe()
    unsubscribe(board.store, board._run(), "desk", "ops")
    for missing in ("desk", "nobody"):
        with pytest.raises(QueryError, match="there is no subscription"):
            unsubscribe(board.store, board._run(), missing, "ops")
    board.subscribe(severity=CRITICAL)
    with pytest.raises(QueryError, match="is over"):
        board.snooze("desk", T0)


def test_texts_are_short(board: Board) -> None:
    """Prevents a finding's page of text from being the message."""
    board.subscribe()
    board.look(seen(GAP, severity=ERROR, message="a very long line\n" * 200))
    board.draft()
    assert max(map(len, board.body().splitlines())) <= 400
    assert board.body().splitlines()[0].endswith(" ...")


def test_every_row_comes_back_from_the_journal(board: Board) -> None:
    """Prevents notices and receipts that a rebuild loses or doubles."""
    board.subscribe()
    board.look(seen(GAP, severity=ERROR))
    board.draft()
    board.send("the other side answered 500")
    board.look(holds(GAP))
    board.draft()
    assert [json.loads(row["details_json"]) for row in board.rows()] == [{}]
    assert len(board.rows(NOTICES)) == 1
    assert list(verify(board.store)) == []


def test_matters_are_in_a_stable_order(board: Board) -> None:
    """Prevents messages whose order changes from look to look."""
    board.look(*(seen(GAP, weeks_later(number), ERROR) for number in (3, 1, 2)))
    with board.store.control.read() as connection:
        found = matters(connection, FEED, use_cases())
    assert [one.anomaly_id for one in found] == [1, 2, 3]
