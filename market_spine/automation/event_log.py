"""Dagster's SQLite event log with connections that stay open. The second and last module on Dagster's private parts.

The stock storage makes a SQLAlchemy engine, opens and closes a connection, and compiles its statement anew for every
event; 26 weeks of 3 tiers are about 2,200 events. Kept connections make them several times cheaper, and what Dagster
hands over in one batch (the partitions of a range, planned or materialized) is one transaction instead of one each.
Files, schema and migrations are the stock ones, so either class reads what the other wrote. Drop this once Dagster
keeps its engines itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import sqlalchemy as sa
from dagster import EventLogEntry
from dagster._core.events import ASSET_EVENTS
from dagster._core.storage.event_log import SqlEventLogStorageTable, SqliteEventLogStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from sqlalchemy.pool import QueuePool

BATCH = 1_000  # events that Dagster may hold back: ten times the partitions of an ordinary backfill's asset
KEPT = 8  # shards whose connection stays open: the index, and the runs that are going on


class KeptConnectionsEventLog(SqliteEventLogStorage):
    """Configured in dagster.yaml as ``event_log_storage``; takes ``base_dir`` as the stock class does."""

    _engines: dict[str, sa.Engine]

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> Self:
        # Unless this is set, Dagster hands over one event at a time.
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", str(BATCH))
        # The stock method names the stock class, whatever class it is called on.
        return cls(inst_data=inst_data, **config_value)

    def _engine(self, shard: str) -> sa.Engine:
        engines: dict[str, sa.Engine] = self.__dict__.setdefault("_engines", {})
        if shard not in engines:
            while len(engines) >= KEPT:
                engines.pop(next(iter(engines))).dispose()
            engines[shard] = sa.create_engine(
                self.conn_string_for_shard(shard),
                poolclass=QueuePool,
                pool_size=1,
                connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
            )
            sa.event.listen(engines[shard], "connect", _relax)
        return engines[shard]

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Any]:
        with self._db_lock:
            engine = self._engine(shard)
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.connect() as connection, connection.begin():
                yield connection

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store the asset events of a batch at once; an asset's own row is written for the newest of each type only."""
        of_assets = [one for one in events if one.dagster_event_type in ASSET_EVENTS]
        if len({one.run_id for one in of_assets}) != 1:
            super().store_event_batch(events)
            return
        rows = [self._event_to_row(one) for one in of_assets]
        newest = {(row["asset_key"], row["dagster_event_type"]): place for place, row in enumerate(rows)}
        event_ids = SqlEventLogStorageTable.c.id
        inserted = sa.insert(SqlEventLogStorageTable).returning(event_ids, sort_by_parameter_order=True)
        with self.run_connection(of_assets[0].run_id) as connection:
            connection.execute(sa.insert(SqlEventLogStorageTable), rows)
        with self.index_transaction() as connection:
            ids = list(connection.scalars(inserted, rows))
            self._store_asset_event_tags(connection, of_assets, ids)
            for place in newest.values():
                self._store_asset_event(connection, of_assets[place], ids[place])
        for one in events:
            if one.dagster_event_type not in ASSET_EVENTS:
                self.store_event(one)

    def has_table(self, table_name: str) -> bool:
        # Asked once per event; a table that is there stays there.
        tables: set[str] = self.__dict__.setdefault("_tables", set())
        if table_name not in tables and super().has_table(table_name):
            tables.add(table_name)
        return table_name in tables

    def dispose(self) -> None:
        """Close the kept connections."""
        for engine in self.__dict__.get("_engines", {}).values():
            engine.dispose()
        self.__dict__.pop("_engines", None)
        super().dispose()


def _relax(connection: Any, _record: Any) -> None:
    """The log may lose its last moments to a power failure, never its consistency; captures have their own record."""
    connection.execute("PRAGMA synchronous = NORMAL")
