"""What every command starts from: global options, settings, the store, the spine and Dagster's instance.

What belongs here: opening things. What does not: what is done with them.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from market_spine.domain.errors import SpineError, StoreError

if TYPE_CHECKING:
    from dagster import DagsterInstance
    from duckdb import DuckDBPyConnection

    from market_spine.domain.contracts import Feed
    from market_spine.settings import Settings
    from market_spine.store.ledger import Run
    from market_spine.store.manifest import Capture
    from market_spine.store.store import Store


MOST_OF_A_COMMAND = 2000  # characters of it that are kept: SQL can be long
DEMO_MARK = ".spine-demo"  # only a folder with this file is ever wiped


@dataclass(frozen=True, slots=True)
class State:
    """The global options."""

    home: Path | None = None
    verbose: bool = False
    traceback: bool = False

    @property
    def log_level(self) -> str:
        """What Dagster writes to the terminal; failures are told by the commands themselves."""
        return "DEBUG" if self.verbose else "CRITICAL"


def settings_of(state: State, source: str | None = None) -> Settings:
    """The settings of the environment, with the options of the command line over them."""
    from pydantic import ValidationError

    from market_spine.settings import Settings, start_logging

    try:
        settings = Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = f"MARKET_SPINE_{'_'.join(map(str, first['loc']))}".upper()
        raise SpineError(f"{name}: {first['msg']}", f"set {name} right, or unset it") from error
    changes: dict[str, Any] = {"home": state.home.expanduser().absolute()} if state.home else {}
    if source:
        changes["source"] = source
    start_logging(settings)
    return settings.model_copy(update=changes)


def feeds() -> tuple[Feed, ...]:
    """Every feed of the platform."""
    from market_spine.feeds import load_feeds

    return load_feeds()


def demo_home(settings: Settings) -> Path:
    """Where `spine demo` keeps its store unless it is told otherwise: below the home, or there if that is a demo's."""
    return settings.home if (settings.home / DEMO_MARK).exists() else settings.home / "demo"


def is_there(store: Store) -> bool:
    """Whether the store was ever begun; looking does not begin it."""
    url = store.home.control_url
    is_begun = store.home.unfinished.exists() or Path(url.removeprefix("sqlite:///")).exists()
    is_begun = is_begun or any(store.home.journal.glob("*/*.json.zst"))  # the database was lost, not never begun
    return store.control.url != url or is_begun


def open_store(settings: Settings) -> Store:
    """The store, for reading. StoreError where there is none yet."""
    from market_spine.store.store import Store

    store = Store.at(settings.home, settings.control_url.get_secret_value(), settings.threads)
    if not is_there(store):
        demo = demo_home(settings)
        made = f"spine --home {shlex.quote(str(demo))} ... for the demo's" if is_there(Store.at(demo)) else "spine demo"
        raise StoreError(
            f"there is no store in {store.home.root}",
            f"spine --home {shlex.quote(str(store.home.root))} init  # or: {made}, or --home for another",
        )
    store.ensure()
    return store


@contextmanager
def control_tables(store: Store) -> Iterator[DuckDBPyConnection]:
    """An engine with the control tables, for the named queries."""
    from market_spine.store.publish import copy_control_tables

    with store.engine() as engine:
        with store.control.read() as connection:
            copy_control_tables(connection, engine)
        yield engine


def dagster_home(store: Store) -> Path:
    """DAGSTER_HOME where it is set, else the store's own."""
    return Path(os.environ.get("DAGSTER_HOME") or store.home.dagster).expanduser().absolute()


def prepare_dagster(folder: Path) -> bool:
    """Put the packaged dagster.yaml where there is none; whether it was put there now."""
    from market_spine.automation.instance import write_config

    return write_config(folder, _dagster_url())


def _dagster_url() -> str:
    """Of the environment alone: Dagster's own processes read it there."""
    from market_spine.settings import Settings

    return Settings().dagster_url.get_secret_value()


@contextmanager
def open_instance(store: Store) -> Iterator[DagsterInstance]:
    """Dagster's record of runs: the same one that `dagster dev` shows with this DAGSTER_HOME."""
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "yes")
    from market_spine.automation.instance import open_instance as open_dagster
    from market_spine.automation.outages import in_words

    folder = dagster_home(store)
    with in_words(folder), open_dagster(folder, _dagster_url()) as instance:
        yield instance


def written_now() -> Run:
    """Who writes where a person does, outside of Dagster's runs: a run of its own, at this moment."""
    import uuid

    from market_spine.settings import clock
    from market_spine.store.ledger import Run

    name = uuid.uuid4().hex
    return Run(name, name, clock())


def used(
    store: Store,
    chosen: Sequence[Capture],
    table: str,
    version: str,
    form: str,
    rows: int | None = None,
    definition: str = "",
) -> None:
    """Put down what a command is about to show of captures, and to whom; what has none is nobody's data."""
    import getpass

    from market_spine.cli.door import COMMAND
    from market_spine.domain.serving import Via
    from market_spine.governance.consumption import Use, put_down
    from market_spine.logs import redacted
    from market_spine.settings import clock

    if chosen:
        ids = tuple(one.capture_id for one in chosen)
        who, asked = getpass.getuser(), redacted(shlex.join(["spine", *COMMAND.get()]))[:MOST_OF_A_COMMAND]
        use = Use(clock(), who, Via.COMMAND, asked, ids, None, table, version, form, 200, rows, definition)
        put_down(store, [use])


def collected(store: Store) -> None:
    """Bring into the control tables what was used until now, since it is about to be asked for."""
    from market_spine.governance.consumption import collect

    collect(store, written_now())
