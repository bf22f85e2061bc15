"""From parameters to captures: which version of which partitions, and under which data version they are known.

What belongs here: the parameters of data and what they mean. What does not: rendering (`answers`), and HTTP (`routes`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field, StringConstraints

from market_spine.api.answers import DEFAULT, MOST, Form
from market_spine.api.desk import Desk
from market_spine.api.parameters import VISIBLE
from market_spine.assets.expected import schedule_of
from market_spine.assets.names import Named
from market_spine.assets.reading import Ask, question_of, sources_of
from market_spine.assets.scope import scope_of
from market_spine.domain.captures import View, as_of_instant
from market_spine.domain.errors import NotFoundError, PartitionError, QueryError
from market_spine.domain.serving import data_version
from market_spine.domain.tiers import ALL_TIERS
from market_spine.domain.tiers import tier as parse_tier
from market_spine.domain.weeks import week_ending as parse_week
from market_spine.domain.weeks import weeks_between
from market_spine.governance.consumption import waiting
from market_spine.store import certificates, consumption
from market_spine.store.columns import moment_text
from market_spine.store.manifest import Capture, Question, by_ids, captures

if TYPE_CHECKING:
    from sqlalchemy import Connection

MANY = 200  # values of one filter
Word = Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=VISIBLE)]
Week = Annotated[str, Field(json_schema_extra={"format": "date", "examples": ["2025-11-14"]})]
NONE = data_version(())  # of no capture at all
REPLAY = "replay"
CURSOR = "take `next` of the answer before, and leave the rest as it was"
MOST_WEEKS = 1000  # of a range: nineteen years
PLACE = re.compile(
    r"(?P<version>[0-9a-f]{32})(?:\.(?P<state>\d{1,12}\.\d{1,9}))?:(?P<offset>\d{1,9}):(?P<of>[0-9a-f]{8})"
)
AS_IT_WAS = "repeat the request as it was, with its path and parameters"


class Rows(BaseModel):
    """Which rows: partitions, values, one version, how many, and in which form."""

    week_ending: list[Week] = Field(
        [], max_length=MANY, description="Weeks, each named by the Friday that ends it; all if unset"
    )
    from_week: Week | None = Field(None, alias="from", description="The first week of a range (a Friday)")
    to_week: Week | None = Field(None, alias="to", description="The last week of a range (a Friday)")
    tier: list[Word] = Field(
        [], max_length=10, description="NMS_TIER_1, NMS_TIER_2 or OTC; all if unset", examples=[["OTC"]]
    )
    symbol: list[Word] = Field([], max_length=MANY, description="Symbols as published; all if unset")
    mpid: list[Word] = Field([], max_length=MANY, description="Venues by their four characters; all if unset")
    columns: str = Field("", max_length=1000, pattern=VISIBLE, description="Names of columns with commas; all if unset")
    as_of: str | None = Field(
        None,
        max_length=40,
        description="As known then: a day (its end in UTC) or a moment with its offset",
        examples=["2025-12-15", "2025-12-15T15:00:00Z"],
    )
    first_release: bool = Field(False, description="As first captured")
    all_revisions: bool = Field(False, description="Every capture ever made; tables only")
    ready_for: str | None = Field(
        None,
        max_length=40,
        description="Only captures that are certified for this use now: trading, compliance or research",
        examples=["trading"],
    )
    data_version: str | None = Field(
        None,
        pattern="^[0-9a-f]{32}$",
        description="Replay: from exactly the captures of an earlier answer, as its X-Data-Version says",
    )
    limit: int | None = Field(
        None,
        ge=1,
        le=10_000_000,
        description=f"Rows of one answer: JSON {DEFAULT[Form.JSON]:,} if unset and {MOST[Form.JSON]:,} at most,"
        f" CSV {MOST[Form.CSV]:,}; Parquet and Arrow all there are if unset",
    )
    cursor: str | None = Field(None, max_length=200, description="Where an answer before this one ended (its `next`)")
    format: Form | None = Field(None, description="Goes before the Accept header, for programs that cannot set it")

    @property
    def weeks(self) -> list[date]:
        """The weeks that are asked for, each once; none for all."""
        listed = [parse_week(text) for text in self.week_ending]
        if listed and (self.from_week or self.to_week):
            raise PartitionError("weeks and a range of weeks are asked for", "use week_ending, or from and to")
        if bool(self.from_week) != bool(self.to_week):
            raise PartitionError("a range has a first and a last week", "add from=FRIDAY and to=FRIDAY")
        if self.from_week and self.to_week:
            first, last = parse_week(self.from_week), parse_week(self.to_week)
            if last < first:
                raise PartitionError(f"the range {first} .. {last} runs backwards", f"use from={last}&to={first}")
            if (last - first).days > 7 * MOST_WEEKS:
                raise PartitionError(
                    f"the range {first} .. {last} has more than {MOST_WEEKS} weeks", "ask for less at once"
                )
            listed = list(weeks_between(first, last))
        return sorted(set(listed))

    @property
    def tiers(self) -> list[str]:
        return list(dict.fromkeys(str(parse_tier(text)) for text in self.tier))

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that are asked for; none for all."""
        names = tuple(filter(None, (name.strip() for name in self.columns.split(","))))
        if twice := [name for name in names if names.count(name) > 1]:
            raise QueryError(f"the column {twice[0]} is asked for twice", "name each column once")
        return names


@dataclass(frozen=True, slots=True)
class Selection:
    """The captures that answer, and the rows wanted of them. ``state`` is set where findings are in the rows too: it
    names what is known now. ``missing`` are the weeks and tiers that were asked for and of which a table has none."""

    ask: Ask
    captures: tuple[Capture, ...]
    view: str
    data_version: str
    state: str
    missing: list[str]

    @property
    def etag(self) -> str:
        """The version of the rows: the data version, and what is known where findings are in them."""
        return f"{self.data_version}.{self.state}" if self.state else self.data_version

    def cursor(self, limit: int) -> str:
        """Where the next page begins, and of which question."""
        text = f"{self.etag}:{self.ask.offset + limit}:{_name_of(self.ask)}"
        return base64.urlsafe_b64encode(text.encode()).decode()


def select(desk: Desk, named: Named, rows: Rows, form: Form) -> Selection:
    """What ``rows`` mean. Typed errors for what cannot be meant, NotFoundError for a version that is not known."""
    begin = _begin(rows)
    ask = Ask(named, _filters(named, rows), rows.names, begin.offset, _limit(rows.limit, form))
    if begin.of not in (None, _name_of(ask)):
        raise QueryError("that cursor is not of this question", CURSOR)
    with desk.store.control.read() as connection:  # one snapshot: what is known, and the captures that say so
        seq = desk.seq(connection)
        state = f"{seq}.{_settled(connection, named, desk.now())}" if sources_of(named).reads_control else ""
        if begin.version is None:
            view, chosen = _chosen(desk, connection, named, rows, seq)
        else:  # a replay or a later page: the captures are given, and what is asked about versions has had its say
            view, chosen = REPLAY, named_by(desk, connection, begin.version)
            _check_replay(named, rows, chosen, begin, state)
    version = data_version((one.capture_id for one in chosen), sources_of(named).definition)
    desk.versions.put(version, chosen)
    return Selection(ask, chosen, view, version, state, _missing(ask, chosen))


def _settled(connection: Connection, named: Named, now: datetime) -> int:
    """How many deliveries are no longer preliminary: views with findings say so, and time alone changes it."""
    hours = timedelta(hours=schedule_of(named.feed).preliminary_hours)
    current = captures(connection, Question((named.feed.sql_name("raw"),)))
    return sum(one.captured_at + hours < now for one in current)


def _missing(ask: Ask, chosen: Collection[Capture]) -> list[str]:
    there = {(one.table_name, one.week_ending, one.tier) for one in chosen}
    tiers = ask.filters["tier"] or [str(tier) for tier in ask.named.feed.tiers]
    places = {
        (week, tier if table.by_tier else ALL_TIERS, name)
        for week in ask.filters["week_ending"]
        for tier in tiers
        for name, table in sources_of(ask.named).tables.items()
    }
    lacking = {(week, tier) for week, tier, name in places if (name, week, tier) not in there}
    return [f"{week} {tier}" for week, tier in sorted(lacking)]


@dataclass(frozen=True, slots=True)
class _Begin:
    """Where an answer begins: the version and row of a cursor or a replay, and what the cursor is of."""

    version: str | None
    state: str = ""
    offset: int = 0
    of: str | None = None


def _name_of(ask: Ask) -> str:
    """Stands for the question, whichever of its pages it is."""
    asked = (ask.named.sql_name, sorted(ask.filters.items()), ask.columns)
    return hashlib.sha256(repr(asked).encode()).hexdigest()[:8]


def _begin(rows: Rows) -> _Begin:
    if rows.cursor is None:
        return _Begin(rows.data_version)
    try:
        text = base64.urlsafe_b64decode(rows.cursor.encode("ascii")).decode("ascii")
    except (ValueError, binascii.Error) as error:
        raise QueryError("that is no cursor", CURSOR) from error
    found = PLACE.fullmatch(text)
    if found is None:
        raise QueryError("that is no cursor", CURSOR)
    begin = _Begin(found["version"], found["state"] or "", int(found["offset"]), found["of"])
    if rows.data_version not in (None, begin.version):
        raise QueryError("that cursor is not of this question", CURSOR)
    return begin


def _check_replay(named: Named, rows: Rows, held: Sequence[Capture], begin: _Begin, state: str) -> None:
    sources = sources_of(named)
    if others := {one.table_name for one in held} - set(sources.tables):
        cause = f"that data version is of {', '.join(sorted(others))}, not of {named.sql_name}"
        raise QueryError(cause, AS_IT_WAS)
    if state and rows.cursor is None:
        cause = f"{named.sql_name} shows findings as they are now, which a data version does not fix"
        raise QueryError(cause, "replay a table; its rows are the same, without the findings")
    if data_version((one.capture_id for one in held), sources.definition) != begin.version:
        raise QueryError(f"{named.sql_name} was made otherwise then, from the same captures", "replay its tables")
    weeks, tiers = rows.weeks, [*rows.tiers, ALL_TIERS]
    for one in held:
        if (weeks and one.week_ending not in weeks) or (rows.tier and one.tier not in tiers):
            raise QueryError(f"that data version is of {one.week_ending} {one.tier} too", AS_IT_WAS)
        if rows.as_of and one.captured_at > as_of_instant(rows.as_of):
            raise QueryError(f"that data version has a capture of {moment_text(one.captured_at)}", AS_IT_WAS)
    if state != begin.state and rows.cursor is not None:
        raise QueryError("what is known changed since the page before", "ask for the first page again")


def _chosen(desk: Desk, connection: Connection, named: Named, rows: Rows, seq: int) -> tuple[str, tuple[Capture, ...]]:
    moment, weeks, tiers = as_of_instant(rows.as_of) if rows.as_of else None, rows.weeks, rows.tiers
    question = question_of(named, moment, rows.first_release, rows.all_revisions, weeks or None, tiers or None)
    key = (named.sql_name, question.view, moment, tuple(weeks), tuple(tiers), rows.ready_for, seq)
    chosen = desk.selections.get(key)
    if chosen is None:
        chosen = tuple(captures(connection, question))
        if rows.ready_for:
            chosen = _certified(connection, named, question.view, rows.ready_for, chosen)
        desk.selections.put(key, chosen)
    return question.view.value, chosen


def _certified(
    connection: Connection, named: Named, view: View, ready_for: str, chosen: tuple[Capture, ...]
) -> tuple[Capture, ...]:
    """Those of ``chosen`` that certificates in force are about; as the macro ``_ready`` of each table in SQL."""
    if view is not View.LATEST:
        raise QueryError("certificates in force are about the latest captures", "leave as_of or ready_for away")
    use_case = scope_of(named.feed).use_case(ready_for)
    certified = certificates.certified_captures(connection, named.feed.domain, use_case.name)
    return tuple(one for one in chosen if one.capture_id in certified)


def _filters(named: Named, rows: Rows) -> Mapping[str, Sequence[Any]]:
    """Column -> values. Tables without tiers are of all: their captures are chosen by week alone."""
    has_tiers = named.table is None or named.table.by_tier
    tiers = rows.tiers if has_tiers else []
    return {"week_ending": rows.weeks, "tier": tiers, "symbol": rows.symbol, "mpid": rows.mpid}


def _limit(limit: int | None, form: Form) -> int | None:
    most = MOST.get(form)
    if limit is None:
        return DEFAULT.get(form)
    if most is not None and limit > most:
        raise QueryError(
            f"an answer as {form} has {most:,} rows at most",
            f"write limit={most}, and follow `next`; or format=parquet",
        )
    return limit


def named_by(desk: Desk, connection: Connection, version: str) -> tuple[Capture, ...]:
    """The captures that a data version names. NotFoundError where no answer ever had it."""
    if version == NONE:
        return ()
    known = desk.versions.get(version)
    if known is not None:
        return known
    ids = consumption.captures_of(connection, version)
    found = by_ids(connection, ids or waiting(desk.store, version))
    if not found:
        raise NotFoundError(f"no answer ever had the data version {version}", "take X-Data-Version of an answer")
    return tuple(sorted(found.values(), key=lambda one: (one.table_name, one.week_ending, one.tier, one.revision)))
