"""Subscriptions: who is told of what, over which channel, and when.

What belongs here: subscribing, ending it, snoozing, and whether a subscription is about something. What does not: what
there is to tell (`matters`), and where a channel leads (`automation.channels`): a subscription only names it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from market_spine.domain.contracts import Severity
from market_spine.domain.errors import QueryError
from market_spine.domain.operations import Mode, ReceiptState
from market_spine.domain.tiers import ALL_TIERS
from market_spine.governance.policy import UseCase
from market_spine.store import notices as rows_of
from market_spine.store.ledger import Draft, Run, transaction
from market_spine.store.operations_tables import SUBSCRIPTIONS
from market_spine.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")  # of a subscription, and of a channel
SEE = "see them with: spine notify list"
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants to be told: of ``domain`` ('' for all), from ``severity`` on, for ``ready_for`` ('' for all
    uses), over the channel of that name."""

    name: str
    channel: str
    severity: Severity = Severity.WARN
    domain: str = ""
    ready_for: str = ""
    mode: Mode = Mode.IMMEDIATE


def is_name(text: str) -> bool:
    """Whether ``text`` can be a name: an address given by mistake is none, so that its secret is never kept."""
    return NAME.fullmatch(text) is not None


def rank(severity: str) -> int:
    """How grave: 0 for INFO."""
    return list(Severity).index(Severity(severity))


def subscribe(store: Store, run: Run, wish: Wish, actor: str) -> Row:
    """Put a subscription on record: it is told of what happens from ``run.now`` on. QueryError where there is one."""
    if not is_name(wish.name):
        raise QueryError("that is no name for a subscription", "use small letters, digits, - and _, e.g. trading-desk")
    with transaction(store.control, store.home, run, SUBSCRIPTIONS.name) as draft:
        held = rows_of.subscription(draft.connection, wish.name)
        if held and held["is_active"]:
            raise QueryError(
                f"there is a subscription {wish.name} already",
                f"spine notify unsubscribe {wish.name}  # or choose another name",
            )
        row = {
            "id": held["id"] if held else None,
            "name": wish.name,
            "channel": wish.channel,
            "domain": wish.domain,
            "min_severity": wish.severity.value,
            "ready_for": wish.ready_for,
            "mode": wish.mode.value,
            "is_active": 1,
            "snoozed_until": None,
            "actor": actor,
            "created_at": run.now,
            "updated_at": run.now,
        }
        return rows_of.put_subscription(draft, row)


def unsubscribe(store: Store, run: Run, name: str, actor: str) -> Row:
    """End a subscription; what is on its way to it is not sent. QueryError where there is none."""
    with _changed(store, run, name) as (draft, row):
        for receipt in rows_of.waiting_for(draft.connection, row["id"]):
            changes = {"state": ReceiptState.SUPPRESSED.value, "next_attempt_at": None, "last_error": "unsubscribed"}
            rows_of.put_receipt(draft, receipt | changes)
        return rows_of.put_subscription(draft, row | {"is_active": 0, "actor": actor, "updated_at": run.now})


def snooze(store: Store, run: Run, name: str, until: datetime | None, actor: str) -> Row:
    """Tell a subscriber nothing until a moment, or (None) again from now on."""
    if until is not None and until <= run.now:
        raise QueryError(
            f"{until:%Y-%m-%d %H:%M} UTC is over", "give a moment to come, or --for 4h; --off ends a snooze"
        )
    with _changed(store, run, name) as (draft, row):
        changes = {"snoozed_until": until, "actor": actor, "updated_at": run.now}
        return rows_of.put_subscription(draft, row | changes)


@contextmanager
def _changed(store: Store, run: Run, name: str) -> Iterator[tuple[Draft, dict[str, Any]]]:
    with transaction(store.control, store.home, run, SUBSCRIPTIONS.name) as draft:
        row = rows_of.subscription(draft.connection, name)
        if row is None or not row["is_active"]:
            raise QueryError(f"there is no subscription {name!r}" if is_name(name) else "there is none so called", SEE)
        yield draft, row


def is_snoozed(subscription: Row, now: datetime) -> bool:
    """Whether nothing is to be sent at ``now``."""
    return subscription["snoozed_until"] is not None and now < subscription["snoozed_until"]


def covers(subscription: Row, tier: str, ready_for: Collection[str], use_cases: Mapping[str, UseCase]) -> bool:
    """Whether a subscription to one use, or to all, is about something in ``tier`` that is about the uses ``ready_for``
    (none: about its partition). A use is concerned by the tiers that it needs, and by what is of all tiers."""
    wanted = subscription["ready_for"]
    if not wanted or wanted in ready_for:
        return True
    if ready_for or wanted not in use_cases:
        return False
    return tier == ALL_TIERS or tier in use_cases[wanted].tiers


def chooser(domain: str, mode: Mode) -> Callable[[Row], bool]:
    """Whether a subscription hears of ``domain`` in this mode."""
    return lambda one: one["mode"] == mode and one["domain"] in ("", domain)
