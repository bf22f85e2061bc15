"""From parameters to captures: which version of which partitions, and under which data version they are known.

What belongs here: the parameters of data and what they mean. What does not: rendering (`answers`), and HTTP (`routes`).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from market_spine.api.answers import DEFAULT, MOST, Form
from market_spine.api.desk import Desk
from market_spine.assets.names import Named
from market_spine.assets.reading import Ask, question_of, sources_of
from market_spine.domain.captures import as_of_instant
from market_spine.domain.errors import NotFoundError, PartitionError, QueryError
from market_spine.domain.serving import data_version
from market_spine.domain.tiers import tier as parse_tier
from market_spine.domain.weeks import week_ending as parse_week
from market_spine.domain.weeks import weeks_between
from market_spine.store import consumption
from market_spine.store.ledger import newest_seq
from market_spine.store.manifest import Capture, by_ids

MANY = 200  # values of one filter
VISIBLE = r"^[^\x00-\x1f\x7f]*$"
Word = Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=VISIBLE)]
Week = Annotated[str, Field(json_schema_extra={"format": "date", "examples": ["2025-11-14"]})]
NONE = data_version(())  # of no capture at all
REPLAY = "replay"


class Rows(BaseModel):
    """Which rows: partitions, values, one version, how many, and in which form."""

    model_config = ConfigDict(extra="forbid")

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
        f" CSV {MOST[Form.CSV]:,}, Parquet and Arrow as many as there are",
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
            listed = list(weeks_between(first, last))
        return sorted(set(listed))

    @property
    def tiers(self) -> list[str]:
        return list(dict.fromkeys(str(parse_tier(text)) for text in self.tier))

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that are asked for; none for all."""
        return tuple(filter(None, (name.strip() for name in self.columns.split(","))))


@dataclass(frozen=True, slots=True)
class Selection:
    """The captures that answer, and the rows wanted of them. ``state`` is set where findings are in the rows too:
    the number of the transaction as of which they are."""

    ask: Ask
    captures: tuple[Capture, ...]
    view: str
    data_version: str
    state: int | None

    @property
    def etag(self) -> str:
        """The version of the answer: the data version, and the state of findings where they are in it."""
        return self.data_version if self.state is None else f"{self.data_version}.{self.state}"

    def cursor(self, limit: int) -> str:
        """Where the next page begins."""
        return base64.urlsafe_b64encode(f"{self.etag}:{self.ask.offset + limit}".encode()).decode()


def select(desk: Desk, named: Named, rows: Rows, form: Form) -> Selection:
    """What ``rows`` mean. Typed errors for what cannot be meant, NotFoundError for a version that is not known."""
    weeks, tiers = rows.weeks, rows.tiers
    version, state, offset = _begin(rows)
    # A replay or a later page: the captures are given, and what is asked about versions has had its say.
    held = named_by(desk, version) if version else None
    with desk.store.control.read() as connection:
        seq = newest_seq(connection)
    now = seq if sources_of(named).reads_control else None
    if held is None:
        view, chosen = _chosen(desk, named, rows, weeks, tiers, seq)
    else:
        _check_replay(named, rows, held, state, now)
        view, chosen = REPLAY, held
    ask = Ask(named, _filters(named, rows, weeks, tiers), rows.names, offset, _limit(rows.limit, form))
    selection = Selection(ask, chosen, view, data_version(one.capture_id for one in chosen), now)
    desk.versions.put(selection.data_version, chosen)
    return selection


def _begin(rows: Rows) -> tuple[str | None, int | None, int]:
    """Version, state and first row, by the cursor or by a replay."""
    if rows.cursor is None:
        return rows.data_version, None, 0
    try:
        text = base64.urlsafe_b64decode(rows.cursor.encode("ascii")).decode("ascii")
        etag, _, offset = text.partition(":")
        version, _, state = etag.partition(".")
        first = int(offset)
        moment = int(state) if state else None
    except (ValueError, binascii.Error) as error:
        raise QueryError(
            "that is no cursor", "take `next` of the answer before, and leave the rest as it was"
        ) from error
    if len(version) != len(NONE) or first < 0 or (rows.data_version and rows.data_version != version):
        raise QueryError("that cursor is not of this question", "take `next` of the answer before")
    return version, moment, first


def _check_replay(named: Named, rows: Rows, held: Sequence[Capture], state: int | None, now: int | None) -> None:
    if others := {one.table_name for one in held} - set(sources_of(named).tables):
        cause = f"that data version is of {', '.join(sorted(others))}, not of {named.sql_name}"
        raise QueryError(cause, "replay it with the path that it was asked with")
    if now is None:
        return
    if rows.cursor is None:
        cause = f"{named.sql_name} shows findings as they are now, which a data version does not fix"
        raise QueryError(cause, "replay a table; its rows are the same, without the findings")
    if state != now:
        raise QueryError("what is known changed since the page before", "ask for the first page again")


def _chosen(
    desk: Desk, named: Named, rows: Rows, weeks: list[date], tiers: list[str], seq: int
) -> tuple[str, tuple[Capture, ...]]:
    moment = as_of_instant(rows.as_of) if rows.as_of else None
    question = question_of(named, moment, rows.first_release, rows.all_revisions, weeks or None, tiers or None)
    key = (named.sql_name, question.view, moment, tuple(weeks), tuple(tiers), seq)
    chosen = desk.selections.get(key)
    if chosen is None:
        chosen = tuple(desk.store.select(question))
        desk.selections.put(key, chosen)
    return question.view.value, chosen


def _filters(named: Named, rows: Rows, weeks: list[date], tiers: list[str]) -> Mapping[str, Sequence[Any]]:
    """Column -> values. Tables without tiers are of all: their captures are chosen by week alone."""
    has_tiers = named.table is None or named.table.by_tier
    return {"week_ending": weeks, "tier": tiers if has_tiers else [], "symbol": rows.symbol, "mpid": rows.mpid}


def _limit(limit: int | None, form: Form) -> int | None:
    most = MOST.get(form)
    if limit is None:
        return DEFAULT.get(form)
    return limit if most is None else min(limit, most)


def named_by(desk: Desk, version: str) -> tuple[Capture, ...]:
    """The captures that a data version names. NotFoundError where no answer ever had it."""
    if version == NONE:
        return ()
    if known := desk.versions.get(version):
        return known
    desk.collect()
    with desk.store.control.read() as connection:
        found = by_ids(connection, consumption.captures_of(connection, version))
    if not found:
        raise NotFoundError(f"no answer ever had the data version {version}", "take X-Data-Version of an answer")
    return tuple(sorted(found.values(), key=lambda one: (one.table_name, one.week_ending, one.tier, one.revision)))
