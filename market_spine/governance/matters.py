"""What there is to tell now, as it is on record: one matter for each root cause, with all that follows from it.

What belongs here: from open anomalies, lost and gained readiness, restatements and failed work to matters, and their
texts. What does not: who is told of them, and whether they were told before (`notices`).

A week that lost its certificates, and work that was given up, belong to the root cause in the same place where there is
one: they make it graver, and are no matters of their own.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from market_spine.domain.contracts import Feed, Severity
from market_spine.domain.keys import WeekKey
from market_spine.domain.operations import NoticeKind
from market_spine.domain.tiers import ALL_TIERS
from market_spine.governance.calendar import CORRECTED
from market_spine.governance.causes import DAMAGED, roots
from market_spine.governance.expectations import MINUTE
from market_spine.governance.policy import UseCase
from market_spine.governance.remedies import steps
from market_spine.governance.restatement import RESTATED
from market_spine.governance.subscriptions import rank
from market_spine.store import anomalies, presence, work
from market_spine.store import notices as rows_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

CHANNEL_FAILING = "CHANNEL_FAILING"
LONGEST = 400  # characters of a finding's own words; a message on a telephone is read to its third line
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Matter:
    """One thing to tell. ``since`` is when it became as grave as it is; ``lines`` are its text.

    ``ready_for`` are the uses that it is about, none where it is about a partition. ``is_over`` asks for nothing.
    """

    key: str
    kind: NoticeKind
    severity: Severity
    week: date | None
    tier: str
    title: str
    lines: tuple[str, ...]
    since: datetime
    ready_for: tuple[str, ...] = ()
    anomaly_id: int | None = None
    work_item_id: int | None = None
    channel: str = ""
    is_over: bool = False


@dataclass
class _Root:
    """An anomaly that stands for itself, with what belongs to it."""

    row: Row
    since: datetime
    follows: int = 0
    lost: list[Row] = field(default_factory=list)
    work: list[Row] = field(default_factory=list)

    def takes_lost(self, one: Row, use: UseCase) -> bool:
        """Whether the root explains why its week is not certified for ``use`` any more."""
        is_reason = self.row["code"] in (RESTATED, CORRECTED) or self.row["severity"] == Severity.CRITICAL
        is_there = self.row["tier"] == ALL_TIERS or self.row["tier"] in use.tiers
        return is_reason and is_there and bool(self.row["week_ending"] == one["week_ending"])

    def takes_work(self, item: Row) -> bool:
        """Whether the root explains that a load of its partition was given up."""
        is_of_loads = self.row["code"] not in (CHANNEL_FAILING, DAMAGED)
        is_grave = rank(self.row["severity"]) >= rank(Severity.ERROR) and is_of_loads
        tiers = {self.row["tier"], item["tier"]}
        is_there = len(tiers) == 1 or ALL_TIERS in tiers
        return is_grave and is_there and bool(self.row["week_ending"] == item["week_ending"])


def matters(connection: Connection, feed: Feed, use_cases: Mapping[str, UseCase]) -> list[Matter]:
    """Everything of ``feed`` that somebody has to look at, one for each root cause, in the order of its finding."""
    held = anomalies.open_rows(connection, feed.domain)
    found = _roots(held, rows_of.grave_since(connection, feed.domain))
    lost = [one for one in rows_of.lost(connection, feed.domain) if one["ready_for"] in use_cases]
    alone: dict[date, list[Row]] = {}
    for one in lost:
        root = next((root for root in found if root.takes_lost(one, use_cases[one["ready_for"]])), None)
        (root.lost if root else alone.setdefault(one["week_ending"], [])).append(one)
    failed: list[Row] = []
    for item in work.failed(connection, feed.domain):
        root = next((root for root in found if root.takes_work(item)), None)
        (root.work if root else failed).append(item)
    there = presence.current(connection, [feed.sql_name("raw")])[feed.sql_name("raw")]
    told = [_of_root(root, feed, there) for root in found]
    told += [_of_week(feed, week, rows) for week, rows in alone.items()]
    return [*told, *(_of_work(item) for item in failed)]


def _roots(held: Sequence[Row], since: Mapping[tuple[int, str], datetime]) -> list[_Root]:
    by_id = {row["id"]: row for row in held}
    follows = Counter(_top(row, by_id) for row in held if row["cause_id"] is not None)
    told = [row for row in roots(held) if row["severity"] != Severity.INFO or row["code"] == RESTATED]
    return [_Root(row, since[row["id"], row["severity"]], follows[row["id"]]) for row in told]


def _top(row: Row, by_id: Mapping[int, Row]) -> int:
    """What ``row`` follows from in the end; the table of explanations has no circle."""
    while row["cause_id"] in by_id:
        row = by_id[row["cause_id"]]
    return int(row["id"])


def _of_root(root: _Root, feed: Feed, there: Collection[WeekKey]) -> Matter:
    row = root.row
    own = _severity_of_restatement(row) if row["code"] == RESTATED else Severity(row["severity"])
    given_up = max((item["id"] for item in root.work), default=None)
    moments = [one["lost_at"] for one in root.lost] + [item["updated_at"] for item in root.work]
    severity = max(own, Severity.ERROR, key=rank) if moments else own
    details = json.loads(row["details_json"])
    kind = {RESTATED: NoticeKind.RESTATEMENT, CHANNEL_FAILING: NoticeKind.CHANNEL}.get(row["code"], NoticeKind.ANOMALY)
    channel = details["channel"] if kind is NoticeKind.CHANNEL else ""
    # A further restatement takes the place of the one before in the same row, and is told by itself.
    version = f":{row['capture_id']}" if kind is NoticeKind.RESTATEMENT else ""
    return Matter(
        f"anomaly:{row['fingerprint']}{version}",
        kind,
        severity,
        row["week_ending"],
        row["tier"],
        f"{words(row['code'])}: {channel}" if channel else f"{words(row['code'])}, {place(row)}",
        (*_said(root), *_next(row, feed, there)),
        max([root.since, *moments]),
        anomaly_id=row["id"],
        work_item_id=given_up,
        channel=channel,
    )


def words(code: str) -> str:
    """A code as people read it."""
    return code.replace("_", " ").lower()


def place(row: Row) -> str:
    """Tier and week of a row."""
    return f"{'all tiers' if row['tier'] == ALL_TIERS else row['tier']} {row['week_ending']}"


def cut(text: str, most: int = LONGEST) -> str:
    """``text`` on one line, with its end left out where it is too long."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 4]} ..."


def _said(root: _Root) -> Iterator[str]:
    row = root.row
    yield cut(row["message"])
    yield f"since {row['detected_at']:{MINUTE}}, week {row['week_ending']}, tier {row['tier']}"
    if root.follows:
        yield f"{root.follows} more finding{' follows' if root.follows == 1 else 's follow'} from it"
    if root.lost:
        yield f"no longer certified for {', '.join(one['ready_for'] for one in root.lost)}"
    for item in root.work:
        yield given_up(item)


def given_up(item: Row) -> str:
    """What became of a failed work item, in a sentence."""
    tried = f"{item['attempt_count']} attempt{'' if item['attempt_count'] == 1 else 's'}"
    what = f"work item {item['id']} ({item['pipeline'].rpartition('.')[2]}) was given up after {tried}"
    return f"{what}: {cut(item['last_error'])}" if item["last_error"] else what


def _next(row: Row, feed: Feed, there: Collection[WeekKey]) -> Iterator[str]:
    found = steps(row, feed, there)
    yield f"next: {next((one for one in found if one.startswith('spine ')), found[0])}"
    yield f"more: spine anomalies show {row['id']}"


def _severity_of_restatement(row: Row) -> Severity:
    """A restatement is known to happen; what it changed is worth telling, and where it changed nothing it is not."""
    counts = json.loads(row["details_json"]).get("rows", {})
    return Severity.WARN if sum(counts.values()) > counts.get("unchanged", 0) else Severity.INFO


def _of_week(feed: Feed, week: date, rows: Sequence[Row]) -> Matter:
    uses = tuple(one["ready_for"] for one in rows)
    issues = {issue["message"] for one in rows for issue in json.loads(one["blocking_issues"])}
    since = max(one["lost_at"] for one in rows)
    return Matter(
        f"readiness:{feed.domain}:{week}",
        NoticeKind.READINESS,
        Severity.ERROR,
        week,
        ALL_TIERS,
        f"no longer certified, week {week}",
        (
            f"not for {', '.join(uses)}: {cut('; '.join(sorted(issues)) or 'nothing stands against it but its age')}",
            f"since {since:{MINUTE}}, week {week}",
            f"next: spine readiness {feed.domain} --week-ending {week}",
        ),
        since,
        ready_for=uses,
    )


def _of_work(item: Row) -> Matter:
    return Matter(
        f"work:{item['pipeline']}:{item['tier']}:{item['week_ending']}",
        NoticeKind.WORK,
        Severity.ERROR,
        item["week_ending"],
        item["tier"],
        f"given up, {place(item)}",
        (
            given_up(item),
            f"since {item['updated_at']:{MINUTE}}, week {item['week_ending']}, tier {item['tier']}",
            f"next: spine work retry {item['id']}",
        ),
        item["updated_at"],
        work_item_id=item["id"],
    )


def gained(connection: Connection, feed: Feed, since: datetime) -> list[Matter]:
    """Weeks that were certified at ``since`` or later, the uses of one moment together. They ask for nothing."""
    found: dict[tuple[date, datetime], list[str]] = {}
    for row in rows_of.gained(connection, feed.domain, since):
        found.setdefault((row["week_ending"], row["certified_at"]), []).append(row["ready_for"])
    return [
        Matter(
            f"ready:{feed.domain}:{week}:{at:%Y%m%dT%H%M%S%f}",
            NoticeKind.READINESS,
            Severity.INFO,
            week,
            ALL_TIERS,
            f"ready for {', '.join(uses)}, week {week}",
            (f"certified {at:{MINUTE}}", f"more: spine readiness {feed.domain} --week-ending {week}"),
            at,
            ready_for=tuple(uses),
            is_over=True,
        )
        for (week, at), uses in found.items()
    ]
