"""One control transaction: its rows numbered, put into the tables and journalled, or nothing at all.

What belongs here: how rows get into the control tables, now and in a rebuild. What does not: which rows (`commit` for
captures, `governance` for the business record).
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from market_spine.store import journal
from market_spine.store.control import Control
from market_spine.store.home import Home
from market_spine.store.schema import BATCHES, JOURNALLED, MANIFEST, STANDING

CLOCK_SKEW = timedelta(minutes=1)  # between machines that write to one store


@dataclass(frozen=True, slots=True)
class Run:
    """Who writes: the Dagster run, the business process around it, and the clock reading it works with."""

    execution_id: str
    correlation_id: str
    now: datetime

    @classmethod
    def of_look(cls, name: str, now: datetime) -> Run:
        """A sensor's or a command's look, which writes where no run of Dagster's does."""
        return cls(name, f"{name}:{now:%Y%m%dT%H%M%S%f}", now)

    @property
    def names(self) -> dict[str, str]:
        """Its two ids by their names, for a line of the log."""
        return {"execution_id": self.execution_id, "correlation_id": self.correlation_id}


@dataclass
class Draft:
    """The rows of one transaction in the making, by table; `seal` adds who wrote them."""

    connection: sa.Connection
    run: Run
    batch_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    _places: dict[tuple[Any, ...], int] = field(default_factory=dict)  # of a standing row, in its table's list
    _numbers: dict[sa.Column[Any], int] = field(default_factory=dict)  # the last one given out

    def put(self, table: sa.Table, row: Mapping[str, Any]) -> None:
        """Add a row; one of a `STANDING` table replaces the row of the same key, in the draft too."""
        rows = self.rows.setdefault(table.name, [])
        place = (table.name, *(row[column.name] for column in table.primary_key)) if table in STANDING else None
        if place in self._places:
            rows[self._places[place]] = dict(row)
            return
        if place:
            self._places[place] = len(rows)
        rows.append(dict(row))

    def next_number(self, column: sa.Column[Any]) -> int:
        """One more than the highest ``column`` of its table, and than what this draft was given before."""
        if column not in self._numbers:
            self._numbers[column] = self.connection.scalar(sa.select(sa.func.max(column))) or 0
        self._numbers[column] += 1
        return self._numbers[column]


@contextmanager
def transaction(control: Control, home: Home, run: Run, subject: str) -> Iterator[Draft]:
    """Rows that are decided on under the write lock; where none are drafted, nothing is recorded."""
    with control.write() as connection:
        draft = Draft(connection, run)
        yield draft
        if draft.rows:
            seal(connection, home, run, subject, journal.Entry(0, draft.batch_id, draft.rows))


def seal(connection: sa.Connection, home: Home, run: Run, subject: str, entry: journal.Entry) -> None:
    """Number ``entry``, put it into the tables and journal it. ``subject`` is the table that it is about."""
    seq = 1 + newest_seq(connection)
    writer, batch = {"execution_id": run.execution_id}, {"batch_id": entry.batch_id}
    header = {
        "seq": seq,
        "table_name": subject,
        "correlation_id": run.correlation_id,
        "committed_at": run.now,
    }
    rows = {BATCHES.name: [header | writer | batch]}
    for table in JOURNALLED:
        # A row that names a run keeps it: whoever closes an anomaly is not the one who found it.
        of_run, of_batch = ({name: one[name] for name in one.keys() & table.c.keys()} for one in (writer, batch))
        rows.setdefault(table.name, [of_run | row | of_batch for row in entry.rows.get(table.name, [])])
    numbered = journal.Entry(seq, entry.batch_id, rows, entry.superseded, entry.overwritten, entry.revived)
    apply(connection, numbered)
    journal.write(home.journal, numbered)  # last, so that a row which the tables refuse is never in the journal


def newest_seq(connection: sa.Connection, but: Collection[str] = ()) -> int:
    """The number of the newest transaction, ``but`` for those over these tables; 0 for none."""
    others = (BATCHES.c.table_name != name for name in but)  # NOT IN is expanded anew each time: 0.4 ms
    return connection.scalar(sa.select(BATCHES.c.seq).where(*others).order_by(BATCHES.c.seq.desc()).limit(1)) or 0


def committed_at(connection: sa.Connection, batch_id: str) -> datetime:
    """When a transaction was committed."""
    select = sa.select(BATCHES.c.committed_at).where(BATCHES.c.batch_id == batch_id)
    found: datetime = connection.execute(select).scalar_one()
    return found


def newest(connection: sa.Connection) -> tuple[int, datetime | None]:
    """Number and moment of the newest transaction; 0 and None for none."""
    row = connection.execute(sa.select(BATCHES.c.seq, BATCHES.c.committed_at).order_by(BATCHES.c.seq.desc())).first()
    return (row.seq, row.committed_at) if row else (0, None)


def apply(connection: sa.Connection, entry: journal.Entry) -> None:
    """Put one journal entry into the tables; a rebuild replays entries through this same function."""
    if entry.superseded:
        _update(connection, entry.superseded, is_current=0)
    if entry.revived:
        _update(connection, entry.revived, is_current=1)
    if entry.overwritten:
        _update(connection, entry.overwritten, status="overwritten")
    for table in JOURNALLED:
        rows = entry.rows.get(table.name)
        if rows and table in STANDING:
            _replace(connection, table, rows)
        elif rows:
            connection.execute(sa.insert(table), rows)


def _replace(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    """Rows take the place of those with their key. Updated, not deleted: logs refer to them."""
    key = list(table.primary_key)
    for row in rows:
        same = sa.and_(*(column == row[column.name] for column in key))
        if connection.execute(sa.update(table).where(same).values(row)).rowcount == 0:
            connection.execute(sa.insert(table), row)


def _update(connection: sa.Connection, ids: list[str], **values: Any) -> None:
    statement = sa.update(MANIFEST).where(MANIFEST.c.capture_id == sa.bindparam("id")).values(**values)
    connection.execute(statement, [{"id": capture_id} for capture_id in ids])
