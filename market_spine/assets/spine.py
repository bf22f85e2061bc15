"""What every asset needs to run, as one plain resource: store, source, clock, and who is told of progress."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import dagster as dg
import structlog
from dagster_duckdb import DuckDBResource

from market_spine.sources.delivery import Source
from market_spine.sources.landing import Landing
from market_spine.store import alive, engine
from market_spine.store.ledger import Run
from market_spine.store.store import Store

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

CORRELATION_TAG = "market_spine/correlation_id"
CLAIM_TAG = "market_spine/claim"  # of work items, that a run was asked for
# stage or table name, partitions done, partitions in all
Progress = Callable[[str, int, int], None]


def no_progress(_table: str, _done: int, _total: int) -> None:
    """For runs that nobody watches."""


class Engine(DuckDBResource):
    """dagster-duckdb's resource over an in-memory database, closed on every way out.

    The library closes its connection only after a body that ends well; after an error it stays open until collected.
    """

    @classmethod
    def of(cls, store: Store) -> "Engine":
        return cls(database=":memory:", connection_config=engine.config(store.threads, store.memory_limit))

    @contextmanager
    def get_connection(self) -> "Iterator[DuckDBPyConnection]":
        with super().get_connection() as connection:
            try:
                engine.prepare(connection)
                with engine.in_words():
                    yield connection
            finally:
                connection.close()


@dataclass(frozen=True)
class Spine:
    """The platform's side of a run. ``clock`` is read once per step; everything else takes that reading."""

    store: Store
    source: Source
    clock: Callable[[], datetime]
    progress: Progress = no_progress

    @contextmanager
    def engine(self) -> "Iterator[DuckDBPyConnection]":
        """An in-memory DuckDB for one chunk of work."""
        with Engine.of(self.store).get_connection() as connection:
            yield connection

    @property
    def landing(self) -> Landing:
        return Landing(str(self.store.home.landing))

    def run_of(self, context: dg.AssetExecutionContext | dg.OpExecutionContext) -> Run:
        """Who writes, for the manifest: the Dagster run, and the business process that it belongs to.

        From here on the lines of the log name both, and others can tell whether this process lives.
        """
        run = Run(context.run.run_id, correlation_of(context.run), self.clock())
        alive.hold(self.store.home, run.execution_id)
        structlog.contextvars.bind_contextvars(**run.names)
        return run


def correlation_of(run: dg.DagsterRun) -> str:
    """The business process that ``run`` belongs to: what was asked for at once, or a backfill, or itself."""
    return run.tags.get(CORRELATION_TAG) or run.tags.get("dagster/backfill") or run.run_id
