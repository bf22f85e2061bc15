"""Dagster's SQLite event log with connections that stay open. The second and last module on Dagster's private parts.

The stock storage makes a SQLAlchemy engine, opens and closes a connection, and compiles its statement anew for every
event; 26 weeks of 3 tiers are about 2,200 events. Kept connections make them several times cheaper.
Files, schema and migrations are the stock ones, so either class reads what the other wrote. Drop this once Dagster
keeps its engines itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import sqlalchemy as sa
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from sqlalchemy.pool import QueuePool

KEPT = 8  # shards whose connection stays open: the index, and the runs that are going on


class KeptConnectionsEventLog(SqliteEventLogStorage):
    """Configured in dagster.yaml as ``event_log_storage``; takes ``base_dir`` as the stock class does."""

    _engines: dict[str, sa.Engine]

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> Self:
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
