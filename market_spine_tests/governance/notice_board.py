"""Notices for tests: a desk of anomalies with subscribers, of whom each look says what they are told.

What belongs here: subscribing, looking, sending without a channel, putting work and verdicts on record. What does not:
claims.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from market_spine.domain.contracts import Severity
from market_spine.feeds.otc import FEED
from market_spine.governance.digests import draft_digest
from market_spine.governance.notices import draft
from market_spine.governance.policy import UseCase, load_use_cases
from market_spine.governance.receipts import claim, settle
from market_spine.governance.subscriptions import Wish, snooze, subscribe
from market_spine.store import notices
from market_spine.store.ledger import transaction
from market_spine.store.operations_tables import NOTICES, WORK_ITEMS
from market_spine.store.trust_tables import CERTIFICATES, READINESS, READINESS_LOG
from market_spine_tests.governance.anomaly_desk import Desk
from market_spine_tests.store.good_rows import GOOD

Told = list[tuple[str, str, str]]  # subscription, event, title


def use_cases() -> dict[str, UseCase]:
    return load_use_cases(FEED)


class Board(Desk):
    """A desk at which people have subscribed."""

    def subscribe(
        self, name: str = "desk", severity: Severity = Severity.WARN, channel: str | None = None, **more: Any
    ) -> None:
        subscribe(self.store, self._run(), Wish(name, channel or name, severity, **more), "ops")

    def snooze(self, name: str, until: datetime | None) -> None:
        snooze(self.store, self._run(), name, until, "ops")

    def wait(self, minutes: int) -> None:
        self.minutes += minutes

    def draft(self) -> Told:
        """What a look, a minute on, puts on record as told to whom."""
        before = self._last()
        run = self._run()
        draft(self.store, run, FEED, use_cases())
        return self._after(before)

    def digest(self) -> Told:
        before = self._last()
        draft_digest(self.store, self._run(), FEED, use_cases())
        return self._after(before)

    def _receipts(self) -> list[dict[str, Any]]:
        with self.store.control.read() as connection:
            return notices.receipts(connection)

    def _last(self) -> int:
        return max((row["id"] for row in self._receipts()), default=0)

    def _after(self, number: int) -> Told:
        rows = [row for row in self._receipts() if row["id"] > number]
        return [(row["subscription"], row["event"], row["title"]) for row in rows]

    def send(self, error: str | None = None) -> list[int]:
        """Everything that is due now, as if a channel had taken it, or had failed; the attempts of each."""
        run = self._run()
        with self.store.control.read() as connection:
            due = [row["id"] for row in notices.due(connection, FEED.domain, run.now)]
        claimed = claim(self.store, run, due)
        if claimed:
            settle(self.store, run, claimed, error)
        return [row["attempt_count"] for row in claimed]

    def states(self) -> list[tuple[str, str, str]]:
        """Subscription, event and state of every receipt."""
        return [(row["subscription"], row["event"], row["state"]) for row in self._receipts()]

    def body(self) -> str:
        """The newest text that was drafted."""
        return str(self._receipts()[-1]["body"])

    def notices(self) -> list[tuple[str, str, int]]:
        """State, severity and tellings of every notice."""
        return [(row["state"], row["severity"], row["times_told"]) for row in self.rows(NOTICES)]

    def fail_work(self, number: int = 1, state: str = "FAILED", **more: Any) -> None:
        """A work item of the OTC tier that was given up, or that became something else."""
        run = self._run()
        fields = {
            "id": number,
            "state": state,
            "attempt_count": 3,
            "last_error": "the source is down",
            "updated_at": run.now,
            "completed_at": run.now if state == "COMPLETE" else None,
        }
        with transaction(self.store.control, self.store.home, run, WORK_ITEMS.name) as desk:
            desk.put(WORK_ITEMS, {**GOOD["core_work_items"], **fields, **more})

    def judge(self, state: str, before: str | None = None, use: str = "trading", number: int = 1) -> None:
        """The verdict on the week for a use, and the line of the log. CERTIFIED needs a certificate on record."""
        run, is_ready = self._run(), state == "CERTIFIED"
        certificate = "c" * 64 if is_ready else None
        issues = json.dumps([{"code": "CRITICAL_ANOMALIES", "message": "2 tables are out of date"}])
        row = {
            **GOOD["core_data_readiness"],
            "id": number,
            "ready_for": use,
            "is_ready": int(is_ready),
            "state": state,
            "certificate_id": certificate,
            "certified_at": run.now if is_ready else None,
            "certified_by": "automated_check" if is_ready else None,
            "blocking_issues": issues,
            "judged_at": run.now,
        }
        line = {
            **GOOD["core_readiness_log"],
            "ready_for": use,
            "from_state": before,
            "to_state": state,
            "certificate_id": certificate,
            "judged_at": run.now,
        }
        with transaction(self.store.control, self.store.home, run, READINESS.name) as desk:
            if is_ready and not self.rows(CERTIFICATES):
                desk.put(CERTIFICATES, GOOD["core_certificates"])
            desk.put(READINESS, row)
            desk.put(READINESS_LOG, line | {"seq": desk.next_number(READINESS_LOG.c.seq)})
