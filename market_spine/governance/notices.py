"""Notices on record: who is told of what there is to tell, told once, told of its end, and what became of each telling.

What belongs here: comparing what there is to tell with what was told, and acknowledging. What
does not: what there is to tell (`matters`), the daily digest (`digests`), sending (`receipts`, `automation.notify`).

What is compared is the record as it stands, not what passed since the last look: a look that was missed loses nothing,
and what opened and closed meanwhile troubles nobody.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from market_spine.domain.contracts import Feed, Severity
from market_spine.domain.errors import QueryError
from market_spine.domain.operations import Mode, NoticeEvent, NoticeKind, NoticeState, ReceiptState
from market_spine.governance.matters import Matter, gained, matters
from market_spine.governance.policy import UseCase
from market_spine.governance.subscriptions import chooser, covers, is_snoozed, rank
from market_spine.store import anomalies
from market_spine.store import notices as rows_of
from market_spine.store.ledger import Draft, Run, transaction
from market_spine.store.operations_tables import NOTICES
from market_spine.store.store import Store

if TYPE_CHECKING:
    from sqlalchemy import Connection

SETTLING = timedelta(seconds=10)  # cause and effect are recorded one after the other; what is younger waits for a look
OVERTAKEN = "overtaken: what was told next says it all"
SEE = "see them with: spine notify notices --all"
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Drafted:
    """What a look put on record, as rows of core_notices; whether something is too young to be told by now."""

    told: tuple[Row, ...] = ()
    is_unsettled: bool = False


@dataclass
class _Plan:
    """What follows from one look, as a list of changes that `carry_out` makes."""

    now: datetime
    subscriptions: Sequence[Row]
    held: Mapping[str, Row]  # open notices by key
    receipts: Mapping[int, Sequence[Row]]  # of open notices
    use_cases: Mapping[str, UseCase]
    changes: list[_Change] = field(default_factory=list)
    is_unsettled: bool = False

    def look(self, wanted: Collection[Matter]) -> None:
        failing = {one.channel for one in wanted if one.channel}
        for matter in wanted:
            notice = self.held.get(matter.key)
            if notice is None or _is_graver(matter, notice):
                self._tell(matter, notice, failing)

    def _tell(self, matter: Matter, notice: Row | None, failing: Collection[str]) -> None:
        if matter.since > self.now - SETTLING:
            self.is_unsettled = True
            return
        chosen = self._chosen(matter, failing)
        if chosen or notice:
            event = NoticeEvent.TOLD if matter.is_over else NoticeEvent.RAISED if notice else NoticeEvent.OPENED
            self.changes.append(_Change(event, notice, matter, chosen))

    def _chosen(self, matter: Matter, failing: Collection[str]) -> list[Row]:
        """Who is told: from its own beginning on, and of a failing channel over the other ones, whoever is there."""
        there = [one for one in self.subscriptions if one["created_at"] <= matter.since]
        if matter.kind is NoticeKind.CHANNEL:
            there = [one for one in there if one["channel"] not in failing]
            return [one for one in there if self._wants(one, matter) and not one["ready_for"]] or there
        return [one for one in there if self._wants(one, matter)]

    def _wants(self, one: Row, matter: Matter) -> bool:
        is_grave = rank(matter.severity) >= rank(one["min_severity"])
        return is_grave and covers(one, matter.tier, matter.ready_for, self.use_cases)

    def close(self, wanted: Collection[Matter], ends: Mapping[int, str]) -> None:
        """End the notices that nothing stands behind any more; who was told of one is told of its end."""
        there = {one.key for one in wanted}
        by_id = {one["id"]: one for one in self.subscriptions}
        for notice in [one for key, one in self.held.items() if key not in there]:
            heard = {one["subscription_id"]: one for one in self.receipts.get(notice["id"], ()) if _may_be_heard(one)}
            told = [by_id[number] for number in heard if number in by_id]
            self.changes.append(_Change(NoticeEvent.CLOSED, notice, None, told, ends.get(notice["id"], "")))

    def news(self, found: Collection[Matter]) -> None:
        """Tell what asks for nothing, but not to who hears of the same week by the end of a notice."""
        ended = {
            (one["id"], change.notice["week_ending"])
            for change in self.changes
            for one in change.told
            if change.event is NoticeEvent.CLOSED and change.notice
        }
        for matter in found:
            self._tell(matter, None, ())
        for change in self.changes:
            if change.matter and change.matter.is_over:
                week = change.matter.week
                change.told = [one for one in change.told if (one["id"], week) not in ended]


@dataclass
class _Change:
    """One notice that is opened, raised, closed, or told once."""

    event: NoticeEvent
    notice: Row | None
    matter: Matter | None
    told: list[Row]
    end: str = ""


def _is_graver(matter: Matter, notice: Row) -> bool:
    is_given_up = matter.work_item_id is not None and notice["work_item_id"] is None
    return is_given_up or rank(matter.severity) > rank(notice["severity"])


def _may_be_heard(receipt: Row) -> bool:
    """Whether it arrived, or may have: an attempt is counted before it is made."""
    return bool(receipt["state"] == ReceiptState.SENT or receipt["attempt_count"] > 0)


def draft(store: Store, run: Run, feed: Feed, use_cases: Mapping[str, UseCase]) -> Drafted:
    """Put on record what is to be told of ``feed`` at ``run.now``, and to whom; nobody waits where that is nothing."""
    with store.control.read() as connection:
        plan = _planned(connection, feed, use_cases, run.now)
        woken = _woken(connection, feed, run.now)
    if not plan.changes and not woken:
        return Drafted(is_unsettled=plan.is_unsettled)
    with transaction(store.control, store.home, run, NOTICES.name) as desk:
        plan = _planned(desk.connection, feed, use_cases, run.now)
        told = [_carry_out(desk, feed, plan, change) for change in plan.changes]
        for receipt in _woken(desk.connection, feed, run.now):
            changes = {"state": ReceiptState.PENDING.value, "next_attempt_at": run.now, "last_error": None}
            rows_of.put_receipt(desk, receipt | changes)
    return Drafted(tuple(told), plan.is_unsettled)


def _planned(connection: Connection, feed: Feed, use_cases: Mapping[str, UseCase], now: datetime) -> _Plan:
    is_meant = chooser(feed.domain, Mode.IMMEDIATE)
    subscribed = [one for one in rows_of.subscriptions(connection) if is_meant(one)]
    held = {one["dedupe_key"]: one for one in rows_of.notices(connection, feed.domain)}
    receipts: dict[int, list[Row]] = {}
    for one in rows_of.of_open_notices(connection, feed.domain):
        receipts.setdefault(one["notice_id"], []).append(one)
    plan = _Plan(now, subscribed, held, receipts, use_cases)
    if not subscribed and not held:
        return plan
    wanted = matters(connection, feed, use_cases)
    plan.look(wanted)
    plan.close(wanted, _ends(connection, [one for key, one in held.items() if key not in {one.key for one in wanted}]))
    curious = [one["created_at"] for one in subscribed if one["min_severity"] == Severity.INFO]
    if curious:
        found = gained(connection, feed, min(curious))
        told = rows_of.known(connection, [one.key for one in found])
        plan.news([one for one in found if one.key not in told])
        plan.changes = [one for one in plan.changes if one.told or one.notice]
    return plan


def _ends(connection: Connection, ended: Collection[Row]) -> dict[int, str]:
    """Notice -> why nothing stands behind it any more."""
    found = {}
    for notice in ended:
        row = anomalies.by_id(connection, notice["anomaly_id"]) if notice["anomaly_id"] else None
        if row is None:
            found[notice["id"]] = {
                NoticeKind.READINESS: "certified again",
                NoticeKind.WORK: "done, or asked for again",
            }.get(notice["kind"], "no longer so")
        elif row["resolved_at"] is not None:
            found[notice["id"]] = f"{row['resolution_note']} ({row['resolved_by']})"
        elif row["cause_id"] is not None:
            found[notice["id"]] = f"explained by anomaly {row['cause_id']}, which is told of by itself"
        else:
            found[notice["id"]] = "no longer so grave, or told anew"
    return found


def _carry_out(desk: Draft, feed: Feed, plan: _Plan, change: _Change) -> Row:
    notice = rows_of.put_notice(desk, _as_noticed(desk, feed, plan.now, change))
    heard = {one["id"] for one in change.told}
    for one in plan.receipts.get(notice["id"], ()):
        is_overtaken = change.event is NoticeEvent.CLOSED or one["subscription_id"] in heard
        if one["state"] == ReceiptState.PENDING and is_overtaken:
            changes = {"state": ReceiptState.SUPPRESSED.value, "next_attempt_at": None, "last_error": OVERTAKEN}
            rows_of.put_receipt(desk, {**one, **changes})
    for subscription in change.told:
        rows_of.put_receipt(desk, _receipt(notice, subscription, change, plan.now))
    return notice | {"event": change.event.value, "tellings": len(change.told)}


def _as_noticed(desk: Draft, feed: Feed, now: datetime, change: _Change) -> dict[str, Any]:
    before, matter = change.notice, change.matter
    times = (before["times_told"] if before else 0) + bool(change.told or before is None)
    if matter is None:
        return {**(before or {}), "state": NoticeState.CLOSED.value, "times_told": times, "last_at": now}
    state = NoticeState.CLOSED if matter.is_over else NoticeState.OPEN
    return {
        "id": before["id"] if before else desk.next_number(NOTICES.c.id),
        "dedupe_key": matter.key,
        "kind": matter.kind.value,
        "domain": feed.domain,
        "severity": max([matter.severity, *([before["severity"]] if before else [])], key=rank),
        "ready_for": ",".join(matter.ready_for),
        "week_ending": matter.week,
        "tier": matter.tier,
        "title": matter.title,
        "body": "\n".join(matter.lines),
        "anomaly_id": matter.anomaly_id,
        "work_item_id": matter.work_item_id or (before["work_item_id"] if before else None),
        "state": state.value,
        "note": before["note"] if before else "",
        "actor": before["actor"] if before else "",
        "times_told": times,
        "first_at": before["first_at"] if before else now,
        "last_at": now,
    }


def _receipt(notice: Row, subscription: Row, change: _Change, now: datetime) -> dict[str, Any]:
    title, body = said(notice, change.event, change.end)
    return new_receipt(notice, subscription, change.event, title, body, now)


def new_receipt(
    notice: Row, subscription: Row, event: NoticeEvent, title: str, body: str, now: datetime
) -> dict[str, Any]:
    """The receipt of a telling that is still to be sent, or that a snooze suppresses."""
    state = ReceiptState.SUPPRESSED if is_snoozed(subscription, now) else ReceiptState.PENDING
    return {
        "id": None,
        "notice_id": notice["id"],
        "subscription_id": subscription["id"],
        "channel": subscription["channel"],
        "telling": notice["times_told"],
        "event": event.value,
        "title": title,
        "body": body,
        "state": state.value,
        "attempt_count": 0,
        "next_attempt_at": now if state is ReceiptState.PENDING else None,
        "last_error": None if state is ReceiptState.PENDING else "snoozed",
        "created_at": now,
        "sent_at": None,
    }


def said(notice: Row, event: NoticeEvent, end: str = "") -> tuple[str, str]:
    """Title and text of one telling."""
    title, body = notice["title"], notice["body"]
    if event is NoticeEvent.CLOSED:
        return f"closed: {title}", f"{end}\nit was told of first at {notice['first_at']:%Y-%m-%d %H:%M UTC}"
    if event is NoticeEvent.TOLD:
        return title, body
    head = f"{'now ' if event is NoticeEvent.RAISED else ''}{notice['severity']}: {title}"
    return head, f"{body}\nseen to: spine notify ack {notice['id']}"


def _woken(connection: Connection, feed: Feed, now: datetime) -> list[dict[str, Any]]:
    """Receipts whose snooze is over, of what still holds; a digest of a day that is gone is not sent."""
    awake = {one["id"] for one in rows_of.subscriptions(connection) if not is_snoozed(one, now)}
    return [
        one
        for one in rows_of.snoozed(connection, feed.domain)
        if one["subscription_id"] in awake and one["kind"] != NoticeKind.DIGEST and _still_holds(one)
    ]


def _still_holds(receipt: Row) -> bool:
    if receipt["event"] in (NoticeEvent.OPENED, NoticeEvent.RAISED):
        return bool(receipt["notice_state"] == NoticeState.OPEN)
    return True


def acknowledge(store: Store, run: Run, number: int, note: str, actor: str) -> Row:
    """Say that somebody has a notice in hand: digests do not remind of it any more. QueryError where it is not open."""
    with transaction(store.control, store.home, run, NOTICES.name) as desk:
        row = rows_of.notice(desk.connection, number)
        if row is None:
            raise QueryError(f"there is no notice {number}", SEE)
        if row["state"] != NoticeState.OPEN:
            by = f" by {row['actor']}" if row["actor"] else ""
            raise QueryError(f"notice {number} is {row['state']}{by}", SEE)
        state = NoticeState.ACKNOWLEDGED.value
        return rows_of.put_notice(desk, row | {"state": state, "note": note.strip(), "actor": actor})
