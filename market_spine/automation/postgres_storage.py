"""Dagster's record in PostgreSQL, with connections that stay open.

dagster-postgres opens and closes a connection for every event (5 ms on the same machine); a backfill of 8 weeks has
1,500. Tables and migrations are the stock ones, so either class reads what the other wrote.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Self

from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.utils import create_pg_engine

from market_spine.automation.event_log import BATCH

DRIVER = "postgresql+psycopg2://"  # what a bare postgresql:// means changed with SQLAlchemy 2.1; NOTIFY needs this one
KEPT, MORE = 1, 20  # connections per storage and process: one stays open, more come and go under load


class KeptConnectionsStorage(DagsterPostgresStorage):
    """Configured in dagster.yaml as ``storage: custom``; takes ``postgres_url`` as the stock class does."""

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> Self:
        # Unless this is set, Dagster hands over one event at a time.
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", str(BATCH))
        url = DRIVER + config_value["postgres_url"].partition("://")[2]
        storage = cls(url, inst_data=inst_data)
        parts: tuple[Any, ...] = (storage.run_storage, storage.event_log_storage, storage.schedule_storage)
        for one in parts:
            # A connection that the server has closed meanwhile is found and replaced before it is used.
            one._engine = create_pg_engine(
                url, isolation_level="AUTOCOMMIT", pool_size=KEPT, max_overflow=MORE, pool_pre_ping=True
            )
        return storage
