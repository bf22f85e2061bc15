"""The daily digest: what is open, what came and went in a day, how ready the newest weeks are, in Markdown.

What belongs here: this text, and its notice, one a domain and day. What does not: immediate notices (`notices`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from market_spine.domain.contracts import Feed, Severity
from market_spine.domain.operations import Mode, NoticeEvent, NoticeKind, NoticeState
from market_spine.domain.publication import NEW_YORK
from market_spine.domain.tiers import ALL_TIERS
from market_spine.governance.matters import Matter, cut, given_up, matters, place, words
from market_spine.governance.notices import Row, new_receipt
from market_spine.governance.policy import UseCase
from market_spine.governance.subscriptions import chooser, covers, rank
from market_spine.store import anomalies, readiness, work
from market_spine.store import notices as rows_of
from market_spine.store.ledger import Run, transaction
from market_spine.store.operations_tables import NOTICES
from market_spine.store.store import Store

if TYPE_CHECKING:
    from sqlalchemy import Connection

SHOWN = 10  # lines of each part; the counts are of all
WEEKS = 4
DAY = timedelta(days=1)
EVERYTHING: Row = {"min_severity": Severity.INFO.value, "ready_for": "", "domain": ""}
UseCases = Mapping[str, UseCase]


def draft_digest(store: Store, run: Run, feed: Feed, use_cases: UseCases) -> Row | None:
    """Put today's digest of ``feed`` on record for everybody who wants one; None where it is, or where nobody does.

    The day is New York's at ``run.now``.
    """
    key = f"digest:{feed.domain}:{run.now.astimezone(NEW_YORK).date()}"
    is_meant = chooser(feed.domain, Mode.DIGEST)
    with store.control.read() as connection:
        if rows_of.known(connection, [key]) or not any(map(is_meant, rows_of.subscriptions(connection))):
            return None
    with transaction(store.control, store.home, run, NOTICES.name) as desk:
        wanted = [one for one in rows_of.subscriptions(desk.connection) if is_meant(one)]
        if rows_of.known(desk.connection, [key]) or not wanted:
            return None
        title, body = digest(desk.connection, feed, use_cases, run.now)
        row = _notice(desk.next_number(NOTICES.c.id), key, feed, title, body, run.now)
        notice = rows_of.put_notice(desk, row)
        for one in wanted:
            told = digest(desk.connection, feed, use_cases, run.now, one)
            rows_of.put_receipt(desk, new_receipt(notice, one, NoticeEvent.TOLD, *told, run.now))
        return notice


def _notice(number: int, key: str, feed: Feed, title: str, body: str, now: datetime) -> dict[str, Any]:
    return {
        "id": number,
        "dedupe_key": key,
        "kind": NoticeKind.DIGEST.value,
        "domain": feed.domain,
        "severity": Severity.INFO.value,
        "ready_for": "",
        "week_ending": None,
        "tier": ALL_TIERS,
        "title": title,
        "body": body,
        "state": NoticeState.CLOSED.value,
        "note": "",
        "actor": "",
        "times_told": 1,
        "first_at": now,
        "last_at": now,
    }


def digest(
    connection: Connection, feed: Feed, use_cases: UseCases, now: datetime, subscription: Row = EVERYTHING
) -> tuple[str, str]:
    """Title and Markdown of the digest at ``now``, of what ``subscription`` asks for."""

    def is_meant(row: Row) -> bool:
        is_grave = rank(row["severity"]) >= rank(subscription["min_severity"])
        return is_grave and covers(subscription, row["tier"], (), use_cases)

    seen_to = {
        one["dedupe_key"]: one
        for one in rows_of.notices(connection, feed.domain)
        if one["state"] == NoticeState.ACKNOWLEDGED
    }
    found = sorted(matters(connection, feed, use_cases), key=lambda one: -rank(one.severity))
    found = [one for one in found if is_meant({"severity": one.severity, "tier": one.tier})]
    pending = [one for one in found if one.key not in seen_to]
    parts = [
        *_open(pending, len(found) - len(pending)),
        *_last_day([row for row in anomalies.since(connection, feed.domain, now - DAY) if is_meant(row)], now - DAY),
        *_readiness(connection, feed, subscription["ready_for"]),
        *_failed(work.failed(connection, feed.domain)),
    ]
    counts = [f"{number} {one}" for one in reversed(Severity) if (number := sum(x.severity is one for x in pending))]
    day = now.astimezone(NEW_YORK).date()
    return f"{feed.domain} {day}: {', '.join(counts) or 'nothing is wrong'}", "\n".join(parts)


def _listed(lines: Sequence[str], none: str) -> Iterator[str]:
    yield from (f"* {one}" for one in lines[:SHOWN])
    if len(lines) > SHOWN:
        yield f"* and {len(lines) - SHOWN} more"
    if not lines:
        yield none


def _open(found: Sequence[Matter], seen_to: int) -> Iterator[str]:
    yield "## Open"
    yield ""
    yield from _listed([f"**{one.severity}** {one.title}: {cut(one.lines[0], 160)}" for one in found], "Nothing.")
    if seen_to:
        yield f"* acknowledged: {seen_to}"
    if found:
        yield ""
        yield "Next: `spine doctor`, `spine anomalies list`"
    yield ""


def _last_day(rows: Sequence[Row], since: datetime) -> Iterator[str]:
    opened = [row for row in rows if row["detected_at"] > since and row["cause_id"] is None]
    closed = [row for row in rows if row["resolved_at"] is not None and row["resolved_at"] > since]
    yield "## In the last day"
    yield ""
    for verb, some in (("opened", opened), ("closed", closed)):
        told = [f"{words(row['code'])} {place(row)}" for row in some[:SHOWN]]
        more = [f"{len(some) - SHOWN} more"] if len(some) > SHOWN else []
        yield f"* {verb}: {len(some)}" + (f" ({', '.join([*told, *more])})" if some else "")
    yield ""


def _readiness(connection: Connection, feed: Feed, ready_for: str) -> Iterator[str]:
    weeks: dict[Any, list[str]] = {}
    for (week, use), row in sorted(readiness.held(connection, feed.domain).items()):
        if ready_for in ("", use):
            weeks.setdefault(week, []).append(f"{use} {row['state']}")
    yield "## Readiness of the newest weeks"
    yield ""
    newest = sorted(weeks, reverse=True)[:WEEKS]
    yield from _listed([f"{week}: {', '.join(weeks[week])}" for week in newest], "No week was judged yet.")
    yield ""


def _failed(items: Sequence[Row]) -> Iterator[str]:
    yield "## Work given up"
    yield ""
    yield from _listed([f"{place(item)}: {given_up(item)}" for item in items], "None.")
