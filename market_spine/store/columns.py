"""What the control tables are made of: moments as sortable text, closed sets of words, one MetaData.

Moments are text in UTC with microseconds (``2025-12-15T15:00:00.000000Z``): they sort, and SQLite, PostgreSQL and the
published DuckDB file all read them alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import CheckConstraint, Column, Dialect, MetaData, String, Table, TypeDecorator

from market_spine.domain.errors import DamageError

REBUILD = "spine rebuild  # restores it from landing"
MOMENT = "%Y-%m-%dT%H:%M:%S.%fZ"


MOST_NUMBER = 2**31 - 1  # of the number of an item: PostgreSQL takes no larger one, not even to look for it


def possible(numbers: Iterable[int]) -> list[int]:
    """Those of ``numbers`` that a row can have."""
    return [one for one in numbers if 0 < one <= MOST_NUMBER]


def moment_text(moment: datetime) -> str:
    """``moment`` as it is stored; one without a zone is refused, since Python would take it for local time."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone")
    return moment.astimezone(UTC).strftime(MOMENT)


def moment_of(text: str) -> datetime:
    """What `moment_text` stored; ValueError for any other text. A backfill reads 15,000: strptime took 0.1 s."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is not UTC:
        raise ValueError(f"{text} is not a moment in UTC")
    return moment


class Moment(TypeDecorator[datetime]):
    """An aware UTC datetime, stored as sortable text."""

    impl = String(27)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        return None if value is None else moment_text(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        try:
            return None if value is None else moment_of(value)
        except ValueError as error:
            raise DamageError(f"the control database has {value!r} where a moment stands", REBUILD) from error


def one_of(column: str, words: type[Any] | tuple[str, ...]) -> CheckConstraint:
    """A CHECK that a text column holds one of a closed set of words."""
    listed = ", ".join(f"'{word}'" for word in words)
    return CheckConstraint(f"{column} IN ({listed})", name=f"{column}_known")


def shown(table: Table) -> list[Column[Any]]:
    """The columns of a control table that everybody who may read the store may see."""
    return [column for column in table.c if not column.info.get("is_secret")]


METADATA = MetaData(naming_convention={"ck": "ck_%(table_name)s_%(constraint_name)s"})
