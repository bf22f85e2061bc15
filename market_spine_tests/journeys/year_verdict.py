"""A played year against its oracle: what of the store, the ledger and the runs is not as it must be.

What belongs here: reading what there is, and comparing. What does not: the answers (`year_oracle`, `year_names`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from itertools import pairwise
from typing import Any

import dagster as dg
import sqlalchemy as sa

from market_spine.assets.spine import CLAIM_TAG
from market_spine.assets.wholeness import everything
from market_spine.domain.tiers import Tier
from market_spine.store.operations_tables import EXECUTIONS, WORK_ITEMS, WORK_LOG
from market_spine.store.schema import MANIFEST
from market_spine.store.trust_tables import ANOMALIES, ANOMALY_LOG, READINESS_LOG
from market_spine_tests.journeys.year_daemon import Year
from market_spine_tests.journeys.year_names import INFO, names
from market_spine_tests.journeys.year_oracle import SOON, USES, Oracle, Span
from market_spine_tests.journeys.year_script import Key, sessions_of

Row = Mapping[str, Any]
Place = tuple[str, date, str, str]  # code, week, tier, severity
CERTIFIED = "CERTIFIED"
# What a person would show up as: a command, a note on an anomaly, an item that was asked for by hand.
HANDS_OFF = {"automated_check", "expectations", "work_sensor", "verification"}


@dataclass(frozen=True)
class Left:
    """What a year left behind."""

    year: Year

    def rows(self, table: sa.Table, *order: sa.Column[Any]) -> list[Row]:
        with self.year.scene.spine.store.control.read() as connection:
            return [dict(row) for row in connection.execute(sa.select(table).order_by(*order)).mappings()]

    @cached_property
    def captured(self) -> dict[Key, list[Row]]:
        """The raw captures of every partition, oldest first."""
        found: dict[Key, list[Row]] = defaultdict(list)
        for row in self.rows(MANIFEST, MANIFEST.c.captured_at, MANIFEST.c.revision):
            if row["table_name"] == "otc_raw":
                found[Key(row["week_ending"], Tier(row["tier"]))].append(row)
        return found

    @cached_property
    def items(self) -> dict[Key, list[Row]]:
        """The work items of every partition, oldest first."""
        found: dict[Key, list[Row]] = defaultdict(list)
        for row in self.rows(WORK_ITEMS, WORK_ITEMS.c.id):
            found[Key(row["week_ending"], Tier(row["tier"]))].append(row)
        return found

    @cached_property
    def sessions(self) -> list[tuple[date, float]]:
        """The sessions by which each week's volumes were divided."""
        query = "SELECT DISTINCT week_ending, CAST(session_count AS DOUBLE) FROM otc_volume_per_day"
        return [(week, count) for week, count in self.year.scene.sql(query)]

    @cached_property
    def executions(self) -> list[Row]:
        return self.rows(EXECUTIONS, EXECUTIONS.c.created_at)

    @cached_property
    def certified(self) -> dict[tuple[date, str], list[Span]]:
        """While each week was certified for each use, as the log of verdicts says."""
        found: dict[tuple[date, str], list[Span]] = defaultdict(list)
        since: dict[tuple[date, str], datetime] = {}
        for row in self.rows(READINESS_LOG, READINESS_LOG.c.seq):
            place = row["week_ending"], row["ready_for"]
            if row["to_state"] == CERTIFIED:
                since.setdefault(place, row["judged_at"])
            elif place in since:
                found[place].append(Span(since.pop(place), row["judged_at"]))
        for place, at in since.items():
            found[place].append(Span(at, None))
        return found

    @cached_property
    def named(self) -> dict[Place, list[Span]]:
        """While each anomaly was on record, by its severity."""
        place_of = {row["id"]: row for row in self.rows(ANOMALIES)}
        held: dict[int, tuple[str, datetime]] = {}
        found: dict[Place, list[Span]] = defaultdict(list)

        def close(number: int, at: datetime | None) -> None:
            severity, since = held.pop(number)
            row = place_of[number]
            found[row["code"], row["week_ending"], row["tier"], severity].append(Span(since, at))

        for row in self.rows(ANOMALY_LOG, ANOMALY_LOG.c.seq):
            number, at = row["anomaly_id"], row["changed_at"]
            if number in held and (row["change"] == "resolved" or held[number][0] != row["severity"]):
                close(number, at)
            if row["change"] != "resolved":
                held.setdefault(number, (row["severity"], at))
        for number in list(held):
            close(number, None)
        return {place: _merged(spans) for place, spans in found.items()}


@dataclass(frozen=True)
class Verdict:
    """What a year left behind, and what it had to."""

    left: Left
    oracle: Oracle

    def complaints(self) -> list[str]:
        """Whatever is not as it must be, in words; nothing where all is."""
        return [
            *self.against_the_script(),
            *self._runs(),
            *self._hands(),
            *(f"verify: {one.kind} {one.name}: {one.detail}" for one in everything(self.left.year.scene.spine.store)),
        ]

    def against_the_script(self) -> list[str]:
        """What is not as the script says."""
        return [*self._captures(), *self._certificates(), *self._names(), *self._items()]

    def _captures(self) -> Iterator[str]:
        """Each version once, when it could first be had."""
        for key in sorted(self.left.captured.keys() | self.oracle.captures.keys()):
            wanted, there = self.oracle.captures.get(key, []), self.left.captured.get(key, [])
            told = f"{key.week} {key.tier}"
            if len(wanted) != len(there):
                times = ", ".join(f"{one['captured_at']:%m-%d %H:%M}" for one in there)
                yield f"{told}: {len(there)} captures ({times}), {len(wanted)} versions"
                continue
            for one, row in zip(wanted, there, strict=True):
                if not one.at <= row["captured_at"] <= one.at + SOON:
                    at = row["captured_at"]
                    yield f"{told} version {one.version.number}: captured {at}, not within {SOON} of {one.at}"
            hashes, contents = [row["content_hash"] for row in there], [one.version.content for one in wanted]
            if [hashes.index(one) for one in hashes] != [contents.index(one) for one in contents]:
                yield f"{told}: contents {hashes} are not {contents}"
        for week, count in self.left.sessions:
            if count != sessions_of(week):
                yield f"{week} has {count} sessions, not {sessions_of(week)}"

    def _certificates(self) -> Iterator[str]:
        """Certified from when it must be; for minutes not, where something under it was captured anew."""
        for week in sorted({key.week for key in self.oracle.script.keys}):
            for use in USES:
                wanted, there = self.oracle.certified(week, use), self.left.certified.get((week, use), [])
                excuses = [*(at for span in wanted for at in span if at), *self.oracle.shaken(week, use)]
                for word, span in _differences(wanted, there, self.oracle.script.end):
                    length = (span.end or self.oracle.script.end) - span.begin
                    if length > SOON or not any(timedelta(0) <= span.begin - one <= SOON for one in excuses):
                        yield f"{week} for {use}: {word} from {span.begin} to {span.end}"

    @cached_property
    def wanted_names(self) -> dict[Place, tuple[list[Span], list[Span]]]:
        """What must be named, and what may be, by the same places."""
        found: dict[Place, tuple[list[Span], list[Span]]] = defaultdict(lambda: ([], []))
        for one in names(self.oracle):
            place = (one.code, one.week, one.tier, one.severity)
            found[place][0 if one.is_required else 1].append(one.span)
        return {place: (_merged(must), _merged([*must, *may])) for place, (must, may) in found.items()}

    @cached_property
    def faults(self) -> list[datetime]:
        """When each fault was named that had to be."""
        return [
            span.begin
            for place, (must, _) in self.wanted_names.items()
            for span in self.left.named.get(place, ())
            if place[3] != INFO and any(_is_near(one, span) for one in must)
        ]

    def _names(self) -> Iterator[str]:
        """Every fault by its name, at its place, for as long as it lasts; and nothing else that asks for somebody."""
        for place, (must, _) in sorted(self.wanted_names.items()):
            there = self.left.named.get(place, [])
            for span in must:
                if not any(_is_near(span, one) for one in there):
                    was = ", ".join(map(_span, there)) or "not"
                    yield f"{_told(place)} had to be named {_span(span)}, but was {was}"
        for place, there in sorted(self.left.named.items()):
            _, may = self.wanted_names.get(place, ([], []))
            for span in there if place[3] != INFO else ():
                if not any(_is_within(span, one) for one in may):
                    yield f"{_told(place)} was named {_span(span)}, for nothing in the script"

    def _items(self) -> Iterator[str]:
        """Each ask once, and ended as what came of it; none open, none stuck."""
        for key in sorted(self.left.items.keys() | self.oracle.looks.keys()):
            wanted = self.asks(key)
            there = [(row["created_at"], row["state"]) for row in self.left.items.get(key, [])]
            is_same = len(wanted) == len(there) and all(
                state == ends and timedelta(0) <= at - asked <= SOON
                for (asked, ends), (at, state) in zip(wanted, there, strict=True)
            )
            if not is_same:
                first = next((pair for pair in zip(wanted, there, strict=False) if pair[0][1] != pair[1][1]), "")
                yield f"{key.week} {key.tier}: {len(there)} work items, {len(wanted)} asks; {first}"

    def asks(self, key: Key) -> list[tuple[datetime, str]]:
        """When a partition had to be asked for, and how its items had to end."""
        found: list[tuple[datetime, str]] = []
        for look in self.oracle.looks.get(key, []):
            state = "FAILED" if look.is_failure else "COMPLETE"
            found = [*found, (look.at, state)] if look.is_ask else [*found[:-1], (found[-1][0], state)]
        return found

    def _runs(self) -> Iterator[str]:
        """The ledger says what Dagster's runs say, each run once."""
        runs = {run.run_id: run for run in self.left.year.scene.instance.get_runs()}
        claims = Counter(run.tags[CLAIM_TAG] for run in runs.values() if CLAIM_TAG in run.tags)
        yield from (f"claim {claim} became {count} runs" for claim, count in claims.items() if count > 1)
        settled = defaultdict(list)
        for row in self.left.rows(WORK_LOG, WORK_LOG.c.seq):
            if row["from_state"] == "RUNNING":
                settled[row["execution_id"]].append(row)
        claimed = {run_id for run_id, run in runs.items() if CLAIM_TAG in run.tags}
        yield from (f"run {one} settled no item" for one in claimed - settled.keys())
        yield from (f"items were settled by {one}, which is no run of theirs" for one in settled.keys() - claimed)
        for run_id in claimed & settled.keys():
            is_whole = {row["to_state"] for row in settled[run_id]} == {"COMPLETE"}
            if is_whole and runs[run_id].status is not dg.DagsterRunStatus.SUCCESS:
                yield f"run {run_id} is {runs[run_id].status}, its items are COMPLETE"
        kept = {row["execution_id"]: row["status"] for row in self.left.executions}
        if kept != {run_id: run.status.value for run_id, run in runs.items()}:
            yield f"core_executions has {len(kept)} runs, Dagster {len(runs)}, or their ends differ"
        if self.left.year.counts["repeated requests"]:
            yield f"{self.left.year.counts['repeated requests']} runs were asked for under the key of an earlier one"

    def _hands(self) -> Iterator[str]:
        """Nobody did anything but the daemon's own definitions."""
        schedules = set(self.left.year.daemon.schedules)
        for table, column, known in (
            (WORK_ITEMS, "requested_by", schedules),
            (WORK_LOG, "actor", schedules | HANDS_OFF),
            (READINESS_LOG, "actor", HANDS_OFF),
        ):
            strangers = {row[column] for row in self.left.rows(table)} - known
            yield from (f"{table.name}.{column}: {one}" for one in sorted(strangers))
        for run in self.left.year.scene.instance.get_runs():
            if run.tags.get("dagster/sensor_name") not in {*schedules, *self.left.year.daemon.sensors}:
                yield f"run {run.run_id} of {run.job_name} was started by hand"


def _merged(spans: Iterable[Span]) -> list[Span]:
    """Spans without those that begin before another has ended, or within minutes of it."""
    found: list[Span] = []
    for span in sorted(spans, key=lambda one: one.begin):
        last = found[-1] if found else None
        if last and (last.end is None or span.begin <= last.end + SOON):
            ends = None if None in (last.end, span.end) else max(last.end or span.begin, span.end or span.begin)
            found[-1] = Span(last.begin, ends)
        else:
            found.append(span)
    return found


def _differences(wanted: Sequence[Span], there: Sequence[Span], end: datetime) -> Iterator[tuple[str, Span]]:
    """What lacks of ``wanted``, and what is ``there`` beyond it, until ``end``."""
    cuts = sorted({at for span in (*wanted, *there) for at in (span.begin, span.end or end)})
    for begin, after in pairwise(cuts):
        is_wanted, is_there = (any(span.holds(begin) for span in spans) for spans in (wanted, there))
        if is_wanted and not is_there:
            yield "not certified", Span(begin, after)
        if is_there and not is_wanted:
            yield "certified", Span(begin, after)


def _is_near(wanted: Span, there: Span) -> bool:
    if wanted.end is None or there.end is None:
        return abs(wanted.begin - there.begin) <= SOON and wanted.end == there.end
    return abs(wanted.begin - there.begin) <= SOON and abs(wanted.end - there.end) <= SOON


def _is_within(span: Span, allowed: Span) -> bool:
    begins = allowed.begin - SOON <= span.begin
    return begins and (allowed.end is None or (span.end is not None and span.end <= allowed.end + SOON))


def _told(place: Place) -> str:
    code, week, tier, severity = place
    return f"{severity} {code} {week} {tier}"


def _span(span: Span) -> str:
    return f"{span.begin:%m-%d %H:%M} .. {span.end:%m-%d %H:%M}" if span.end else f"from {span.begin:%m-%d %H:%M} on"
