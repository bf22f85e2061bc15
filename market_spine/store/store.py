"""The store as its users see it: where it is, its control database, and engines over chosen captures."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from market_spine.domain.contracts import Table
from market_spine.domain.errors import StoreError
from market_spine.store import engine, journal
from market_spine.store.columns import REBUILD
from market_spine.store.control import Control
from market_spine.store.home import Home
from market_spine.store.manifest import Capture, Question, captures
from market_spine.store.relations import create_view_with_provenance

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


ANOTHER = "choose another folder: MARKET_SPINE_HOME, or --home"


@dataclass(frozen=True)
class Store:
    """A home, its control database and its engine settings. Opening it touches nothing until it is used."""

    home: Home
    control: Control
    threads: int | None = None
    memory_limit: str = engine.MEMORY_LIMIT

    @classmethod
    def at(cls, root: Path, control_url: str = "", threads: int | None = None) -> Store:
        """The store below ``root``; ``control_url`` names a PostgreSQL database instead of the embedded SQLite."""
        home = Home(root.absolute())
        if "?" in str(home.root):
            # SQLAlchemy would take what follows for options, and put the database elsewhere.
            raise StoreError(f"the home {home.root} has a ? in its path", ANOTHER)
        if keys := [part for part in home.root.parts if "=" in part]:
            # Readers of Parquet take such folders for columns, and the first tier=... in a path for the tier.
            raise StoreError(
                f"the home {home.root} has {keys[0]!r} in its path, which readers of Parquet take for a column", ANOTHER
            )
        return cls(home, Control(control_url or home.control_url), threads)

    def ensure(self) -> list[str]:
        """Create what is not there yet and bring the schema up to date; the migrations applied now.

        StoreError where a restore was cut short.
        """
        if self.home.unfinished.exists():
            raise StoreError(
                f"{self.home.root} is not whole: its restore was cut short ({self.home.unfinished.name})",
                "repeat it: spine restore FOLDER",
            )
        for folder in (self.home.captures, self.home.journal):
            folder.mkdir(parents=True, exist_ok=True)
        return self.control.ensure(self._refuse_lost)

    def _refuse_lost(self) -> None:
        """An empty database beside a journal is a lost one: it would show a store without anything in it."""
        if entries := journal.written(self.home.journal):
            raise StoreError(
                f"control database {self.control.shown} is missing or empty, its journal has {len(entries)} batches",
                REBUILD,
            )

    @contextmanager
    def engine(self) -> Iterator[DuckDBPyConnection]:
        """An in-memory DuckDB, always closed."""
        with engine.connect(self.threads, self.memory_limit) as connection:
            yield connection

    def select(self, question: Question) -> list[Capture]:
        """The captures that answer ``question``, from one snapshot of the manifest."""
        with self.control.read() as connection:
            return captures(connection, question)

    def show(self, connection: DuckDBPyConnection, name: str, table: Table, chosen: Collection[Capture]) -> None:
        """Make ``chosen`` readable as ``name``, each row with its provenance."""
        create_view_with_provenance(connection, name, table, list(chosen), self.home.captures)

    def show_all(
        self, connection: DuckDBPyConnection, tables: Mapping[str, Table], question: Question
    ) -> dict[str, list[Capture]]:
        """Make every table of ``question`` readable under its SQL name; which captures each one shows."""
        by_name: dict[str, list[Capture]] = {name: [] for name in question.tables}
        for capture in self.select(question):
            by_name[capture.table_name].append(capture)
        for name, chosen in by_name.items():
            self.show(connection, name, tables[name], chosen)
        return by_name
