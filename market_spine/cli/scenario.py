"""A scenario on its stage: a home of its own, a clock that only the scenario moves, real Dagster runs, real judgements.

What belongs here: what a scenario can do, and how each act is told. What does not: the five scenarios (`scenarios`).
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from market_spine.automation.request import Params, Request
from market_spine.cli.output import Listing, cell, escaped, out, say, show
from market_spine.cli.report import in_words
from market_spine.domain.contracts import Severity
from market_spine.domain.errors import SpineError
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import ALL_TIERS

if TYPE_CHECKING:
    from dagster import DagsterInstance
    from duckdb import DuckDBPyConnection

    from market_spine.assets.spine import Spine
    from market_spine.automation.calendar import Applied
    from market_spine.automation.launch import Outcome
    from market_spine.domain.contracts import Feed


INDENT = 22  # of what is told, behind the moment


def _hanging(text: str) -> str:
    """``text`` in lines that fit behind the moment, or below one."""
    lines = textwrap.wrap(text, out().width - INDENT, break_long_words=False, break_on_hyphens=False)
    return f"\n{' ' * INDENT}".join(lines)


def _named(row: Mapping[str, Any]) -> str:
    """An anomaly by its code and place."""
    return f"{row['code']} {row['tier']} {row['week_ending']}"


def moment(text: str) -> datetime:
    """A moment of a scenario, in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@dataclass
class Stage:
    """Where a scenario plays: the acts that it is made of."""

    spine: Spine
    feed: Feed
    instance: DagsterInstance
    log_level: str
    watched: Collection[tuple[date, str]]  # weeks and use cases whose verdicts are told
    now: datetime = datetime.min.replace(tzinfo=UTC)
    states: dict[tuple[date, str], str] = field(default_factory=dict)

    def at(self, text: str, told: str) -> None:
        """Time passes until then; what happens there is told."""
        self.now = moment(text)
        self.spine = replace(self.spine, clock=lambda: self.now)
        say(f"[bold]{self.now:%a %Y-%m-%d %H:%M}[/]  {escaped(_hanging(told))}")

    def load(self, keys: Iterable[WeekKey], tables: Sequence[str] | None = None) -> Outcome:
        """All tables of the partitions, as `spine backfill` makes them, and the look of the sensors afterwards."""
        from market_spine.automation.pipelines import find
        from market_spine.cli.work import carry_out

        chosen = sorted(keys)
        _, pipeline = find((self.feed,), "otc.weekly_refresh")
        request = Request(self.feed, "demo", tuple(tables or pipeline.tables), tuple(chosen), params=Params())
        found, counted = carry_out(self.spine, request, chosen, self.instance, self.log_level)
        captured = sum(one.captured for one in counted)
        lacking = [(one, key) for one in counted for key in one.lacking if one.table == self.feed.sql_name("raw")]
        self.tell(f"{captured:,} captures made" + "".join(f"; no delivery of {key}" for _, key in lacking))
        if found.failures:
            raise SpineError(found.failures[0], "spine demo --verbose  # shows Dagster's log")
        self.look()
        return found

    def look(self) -> None:
        """What the sensors do at this moment: expectations against what is there, and a judgement of every week."""
        from market_spine.assets.scope import judge, look
        from market_spine.governance.causes import roots
        from market_spine.store.ledger import Run
        from market_spine.store.readiness import held

        run = Run(f"demo:{self.now:%Y%m%dT%H%M%S}", "demo", self.now)
        changes = look(self.spine, self.feed, run)
        judge(self.spine.store, run, self.feed)
        for row in roots([*changes.opened, *changes.changed]):
            if row["severity"] in (Severity.ERROR, Severity.CRITICAL):
                self.tell(f"{row['severity']}: {_named(row)} ({row['message']})")
        for row in changes.resolved:
            self.tell(f"resolved: {_named(row)} ({row['resolution_note']})")
        with self.spine.store.control.read() as connection:
            self._turns({place: row["state"] for place, row in held(connection, self.feed.domain).items()})

    def _turns(self, states: Mapping[tuple[date, str], str]) -> None:
        """What became of the watched verdicts; weeks with which the same happened stand together."""
        turned: dict[str, list[tuple[str, date]]] = {}
        for place in sorted(self.watched):
            before, state = self.states.get(place), states.get(place)
            if state and before != state:
                week, use_case = place
                told = f"for {use_case}: {f'{before} -> ' if before else ''}{state}"
                turned.setdefault(told, []).append((ALL_TIERS, week))
        for told, weeks in turned.items():
            self.tell(f"{', '.join(in_words(weeks))} {told}")
        self.states.update(states)

    def correct(self, changes: Mapping[str, Any], reason: str, dated: date) -> Applied:
        """A correction of the trading calendar, and what the sensors make of it before anything has followed."""
        from market_spine.automation.calendar import apply_correction
        from market_spine.domain.corrections import correction_from

        self.spine.store.ensure()
        file = {"reason": reason, "actor": "operations", "dated": dated, "exchange": "XNYS", **changes}
        applied = apply_correction(
            self.spine, correction_from(file, "demo"), [self.feed], self.instance, self.log_level
        )
        if applied.plan.weeks:
            for month in applied.plan.months:
                self.tell(f"{month.year}-{month.month:02}: {month.before} -> {month.after} sessions")
            weeks = ", ".join(str(one.week) for one in applied.plan.weeks)
            stale = len(applied.plan.partitions)
            self.tell(f"captured again: the calendar of {weeks}; out of date because of it: {stale} captures")
            self.look()
        return applied

    def follow(self, applied: Applied) -> None:
        """What a correction put out of date is made again, and the look of the sensors afterwards."""
        from market_spine.automation.calendar import follow_up

        made = follow_up(self.spine, applied, [self.feed], self.instance, self.log_level).partitions
        self.tell(f"{sum(map(len, made.values()))} captures made again")
        self.look()

    def tell(self, text: str) -> None:
        """A line below the act."""
        say(f"[dim]{' ' * INDENT}{escaped(_hanging(text))}[/]")


@dataclass
class Ending:
    """What is told at the end: everything asked of the store."""

    engine: DuckDBPyConnection

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return self.engine.execute(sql, list(values)).fetchall()

    def one(self, sql: str, *values: object) -> tuple[Any, ...]:
        (row,) = self.rows(sql, *values)
        return row

    def table(self, title: str, sql: str, *values: object, wrapped: Iterable[str] = ()) -> None:
        """A query and its title."""
        cursor = self.engine.execute(sql, list(values))
        columns = [column[0] for column in cursor.description or ()]
        show(Listing(columns, cursor.fetchall(), title, wrapped=frozenset(wrapped), empty="none"))
        say("")

    def anomalies(self, where: str = "true") -> None:
        """What was found, the root causes first; INFO where it belongs to the story."""
        sql = f"""
            SELECT severity, tier, code, message, resolved_at IS NULL AS open FROM core_anomalies a
            WHERE cause_id IS NULL AND {where}
            ORDER BY list_position(['CRITICAL', 'ERROR', 'WARN', 'INFO'], severity), week_ending, tier, id"""
        self.table("What was found", sql, wrapped=["message"])

    def verdicts(self, week: str) -> None:
        """Every verdict on a week for trading, in order."""
        rows = self.rows(
            """SELECT judged_at, to_state, blocking_issues FROM core_readiness_log
               WHERE week_ending = ? AND ready_for = 'trading' ORDER BY seq""",
            week,
        )
        told = [[cell(at), state, "; ".join(one["message"] for one in json.loads(why))] for at, state, why in rows]
        columns = ["judged at", "state", "stands against it"]
        show(Listing(columns, told, f"May {week} be used for trading?", frozenset({columns[-1]})))
        say("")

    def means(self, *sentences: str) -> None:
        """What it means, in words for whoever uses the numbers."""
        say("[bold]What it means[/]")
        say(escaped(" ".join(sentences)))
        say("")
