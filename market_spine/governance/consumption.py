"""Consumption: who used which captures, through which door, and who used what was superseded since.

What belongs here: what a use is, and making rows of uses that are on disk (`store.outbox`). What does not: answering.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

from market_spine.domain.serving import Via, data_version
from market_spine.store import consumption as rows_of
from market_spine.store import outbox
from market_spine.store.columns import moment_of, moment_text
from market_spine.store.ledger import Run, transaction
from market_spine.store.serving_tables import CONSUMPTION, DATA_VERSIONS
from market_spine.store.store import Store

MOST = 500  # uses of one control transaction: 0.04 s under the write lock, and 10 MB that the heap keeps; 5,000 take 32
COLUMNS = tuple(column.name for column in CONSUMPTION.c if column.name != "batch_id")


@dataclass(frozen=True, slots=True)
class Use:
    """One answer: to whom, about what. ``captures`` are those that it rests on, none where it has no rows of any."""

    used_at: datetime
    actor: str
    via: Via
    request: str
    captures: tuple[str, ...] = ()
    token_id: str | None = None
    table_name: str = ""
    version: str = ""
    form: str = "json"
    status: int = 200
    row_count: int | None = None
    definition: str = ""  # of the view that was read, if one was
    use_id: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def data_version(self) -> str | None:
        """None where no rows of a table were asked for; the version of no captures is one as well."""
        return data_version(self.captures, self.definition) if self.captures or self.version else None

    def line(self) -> dict[str, Any]:
        """As it stands in the outbox."""
        row = {name: getattr(self, name) for name in COLUMNS}
        return row | {"used_at": moment_text(self.used_at), "via": self.via.value, "captures": list(self.captures)}


def put_down(store: Store, uses: Sequence[Use]) -> None:
    """Keep ``uses``, durably; StoreError where that fails, and then nothing may be answered."""
    outbox.append(store.home, [use.line() for use in uses])


def waiting(store: Store, version: str) -> list[str]:
    """The captures that a data version names, by the uses that are not rows yet; none where no use has it."""
    for line in outbox.lines(store.home):
        if line.get("data_version") == version:
            return [*line["captures"]]
    return []


def collect(store: Store, run: Run) -> int:
    """Make rows of every use that was put down so far; how many were not there yet.

    A line of which no row can be made is set aside, and told: it must not hold back the others.
    """
    with outbox.taken(store.home) as lines:
        portions = iter(lambda: [*islice(lines, MOST)], [])
        return sum(_collected(store, run, portion) for portion in portions)


def _collected(store: Store, run: Run, lines: Sequence[Mapping[str, Any]]) -> int:
    try:
        return _collect(store, run, lines)
    except rows_of.SPOILT as error:
        if len(lines) == 1:
            outbox.refuse(store.home, lines[0], error)
            return 0
    half = len(lines) // 2
    return _collected(store, run, lines[:half]) + _collected(store, run, lines[half:])


def _collect(store: Store, run: Run, lines: Sequence[Mapping[str, Any]]) -> int:
    with transaction(store.control, store.home, run, CONSUMPTION.name) as draft:
        there = rows_of.present(draft.connection, CONSUMPTION.c.use_id, [line["use_id"] for line in lines])
        news = {line["use_id"]: line for line in lines if line["use_id"] not in there}
        for row in _versions(news.values(), draft.connection):
            draft.put(DATA_VERSIONS, row)
        for line in news.values():
            draft.put(CONSUMPTION, {name: line[name] for name in COLUMNS} | {"used_at": moment_of(line["used_at"])})
    return len(news)


def _versions(lines: Any, connection: Any) -> Iterator[Mapping[str, str]]:
    """The rows of data versions that are not on record."""
    named = {line["data_version"]: line["captures"] for line in lines if line["captures"]}
    there = rows_of.present(connection, DATA_VERSIONS.c.data_version, [*named])
    for version, capture_ids in named.items():
        if version not in there:
            yield from ({"data_version": version, "capture_id": one} for one in sorted(set(capture_ids)))
