"""Telling people: the sensor that drafts notices from the record and sends what is due, and the test of a channel.

What belongs here: when that happens, in how much time, over which channel first. What does not: what is told to whom
(`governance.notices`), the life of a receipt (`governance.receipts`), addresses and apprise (`channels`).

No run waits for a channel, and no channel for another one: a tick tries each channel until it fails once, those that
failed before last, and ends long before Dagster would end it.
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any

import dagster as dg

from market_spine.assets.scope import scope_of
from market_spine.assets.spine import Spine
from market_spine.automation.channels import Channel, Channels, Message
from market_spine.domain.contracts import Feed
from market_spine.domain.errors import ChannelError
from market_spine.domain.operations import NoticeEvent, NoticeKind
from market_spine.governance.notices import Drafted, draft
from market_spine.governance.receipts import FAILING_AFTER, claim, observe_channels, settle
from market_spine.governance.subscriptions import is_snoozed, rank
from market_spine.store import notices as rows_of
from market_spine.store.ledger import Run, newest_seq
from market_spine.store.store import Store

SECONDS = 30  # between two looks; one without news takes about 10 ms
BUDGET = 25.0  # seconds in which sends begin; with the last one's 10 a tick stays below the 60 at which Dagster ends it
BUNDLE = 3  # more notices than these, due to one subscriber at once, are one message
MOST = 30  # titles in one message
Row = Mapping[str, Any]


@dataclass
class Delivery:
    """What a tick sent: messages by channel, and of each channel that was tried, why it failed, or None."""

    sent: int = 0
    outcomes: dict[str, str | None] = field(default_factory=dict)

    @property
    def failures(self) -> list[str]:
        return [error for error in self.outcomes.values() if error is not None]


def notification_sensor(feed: Feed) -> dg.SensorDefinition:
    """Tells the subscribers of ``feed``; on by default."""
    name = f"{feed.name}_notification_sensor"

    @dg.sensor(
        name=name,
        minimum_interval_seconds=SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells subscribers what is wrong, once for each root cause, and when it is over; tries again.",
    )
    def tell(
        context: dg.SensorEvaluationContext, spine: dg.ResourceParam[Spine], channels: dg.ResourceParam[Channels]
    ) -> dg.SkipReason:
        started, now = time.monotonic(), spine.clock()
        spine.store.ensure()
        cursor = json.loads(context.cursor or "{}")
        seen = _seen(spine.store, feed, now)
        if seen is None:
            return dg.SkipReason("nobody has subscribed")
        if cursor.get("seen") == seen["seen"] and not cursor.get("is_unsettled") and not seen["is_due"]:
            return dg.SkipReason("nothing was recorded, and nothing is due")
        run = Run.of_look(f"sensor:{name}", now)
        drafted, found = tell_all(spine, feed, channels, run, started + BUDGET)
        for row in drafted.told:
            context.log.info(f"{row['event']}: notice {row['id']} to {row['tellings']}: {row['title']}")
        for error in found.failures:
            context.log.warning(error)
        context.update_cursor(json.dumps({"seen": seen["seen"], "is_unsettled": drafted.is_unsettled}))
        return dg.SkipReason(f"{len(drafted.told)} drafted, {found.sent} sent, {len(found.failures)} channels failed")

    return tell


def _seen(store: Store, feed: Feed, now: datetime) -> dict[str, Any] | None:
    """What a look depends on: the newest transaction, who is snoozed, what is due; None where nobody is to be told."""
    with store.control.read() as connection:
        there = rows_of.subscriptions(connection)
        if not there:
            return None
        asleep = [one["id"] for one in there if is_snoozed(one, now)]
        is_due = bool(rows_of.due(connection, feed.domain, now))
        return {"seen": [newest_seq(connection), asleep], "is_due": is_due}


def tell_all(
    spine: Spine, feed: Feed, channels: Channels, run: Run, until: float = math.inf
) -> tuple[Drafted, Delivery]:
    """Draft what there is to tell of ``feed`` at ``run.now``, and send what is due."""
    drafted = draft(spine.store, run, feed, scope_of(feed).use_cases)
    return drafted, deliver(spine, feed, channels, run, until)


def deliver(spine: Spine, feed: Feed, channels: Channels, run: Run, until: float) -> Delivery:
    """Send what is due of ``feed`` at ``run.now``. No send begins after ``until``, a reading of the monotonic clock."""
    with spine.store.control.read() as connection:
        due = rows_of.due(connection, feed.domain, run.now)
    by_channel: dict[str, list[Row]] = {}
    for row in due:
        by_channel.setdefault(row["channel"], []).append(row)
    found = Delivery()
    # What failed before waits behind what works: four channels that hang would take the whole of a tick.
    for name, rows in sorted(by_channel.items(), key=lambda one: min(row["attempt_count"] for row in one[1])):
        if time.monotonic() > until:
            break
        _deliver_over(spine, run, channels, name, rows, until, found)
    observe_channels(spine.store, _at(run, spine.clock), feed.domain, _outcomes(found, by_channel))
    return found


def _outcomes(found: Delivery, tried: Mapping[str, Sequence[Row]]) -> dict[str, str | None]:
    """What is worth an anomaly: a channel over which nothing arrived twice, and one that works again."""
    attempts = {name: max(row["attempt_count"] for row in rows) + 1 for name, rows in tried.items()}
    return {name: error for name, error in found.outcomes.items() if error is None or attempts[name] >= FAILING_AFTER}


def _deliver_over(
    spine: Spine, run: Run, channels: Channels, name: str, rows: Sequence[Row], until: float, found: Delivery
) -> None:
    """Send ``rows`` over one channel, until it fails once or there is no time left."""
    channel = _found(channels, name)
    for bundle in _bundles(rows, isinstance(channel, Channel) and channel.has_incidents):
        if time.monotonic() > until:
            return
        claimed = claim(spine.store, _at(run, spine.clock), [row["id"] for row in bundle])
        if not claimed:
            continue
        error = _sent(channel, claimed)
        settle(spine.store, _at(run, spine.clock), claimed, error)
        found.outcomes[name] = error
        if error is not None:
            return
        found.sent += 1


def _found(channels: Channels, name: str) -> Channel | ChannelError:
    """The channel, or why there is none: to send over it fails, and costs an attempt as any failure does."""
    try:
        return channels.find(name)
    except ChannelError as error:
        return error


def _sent(channel: Channel | ChannelError, claimed: Sequence[Row]) -> str | None:
    """Why a message did not arrive; None where it did."""
    try:
        if isinstance(channel, ChannelError):
            raise channel
        channel.send(_message(claimed))
    except ChannelError as error:
        return error.cause
    return None


def _bundles(rows: Sequence[Row], is_one_by_one: bool) -> list[list[Row]]:
    """The receipts that go together: many at once to one subscriber; a digest always by itself."""
    bundles: list[list[Row]] = []
    for _, group in groupby(sorted(rows, key=_order), key=_order):
        mine = list(group)
        is_whole = len(mine) > BUNDLE and not is_one_by_one and mine[0]["kind"] != NoticeKind.DIGEST
        bundles += [mine] if is_whole else [[row] for row in mine]
    return bundles


def _order(row: Row) -> tuple[int, bool]:
    return (row["subscription_id"], row["kind"] == NoticeKind.DIGEST)


def _message(rows: Sequence[Row]) -> Message:
    """One receipt as it is, or the titles of many, as grave as the gravest of them."""
    over = (NoticeEvent.CLOSED, NoticeEvent.TOLD)
    severity = max((row["severity"] for row in rows if row["event"] not in over), key=rank, default="")
    if len(rows) == 1:
        (row,) = rows
        return Message(row["title"], row["body"], severity, row["kind"] == NoticeKind.DIGEST, row["dedupe_key"])
    lines = [row["title"] for row in rows[:MOST]] + ([f"and {len(rows) - MOST} more"] if len(rows) > MOST else [])
    return Message(f"{len(rows)} notices", "\n".join([*lines, "", "more: spine notify notices"]), severity)


def _at(run: Run, clock: Callable[[], datetime]) -> Run:
    """The same writer, at this moment: sending takes seconds."""
    return Run(run.execution_id, run.correlation_id, clock())


def try_channel(store: Store, run: Run, domains: Sequence[str], channel: Channel) -> None:
    """Send a message that says what it is; a channel that works is failing no more. ChannelError where it fails."""
    channel.send(Message("Market Spine: a test", "This channel works. Nothing has to be done."))
    for domain in domains:
        observe_channels(store, run, domain, {channel.name: None})
