"""The Dagster instance of a home: dagster.yaml as shipped, with its storage below the home or in PostgreSQL."""

from __future__ import annotations

import shlex
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from market_spine.domain.errors import StoreError, unwritable
from market_spine.store import turns
from market_spine.store.files import write_whole

if TYPE_CHECKING:
    from dagster import DagsterInstance

URL = "MARKET_SPINE_DAGSTER_URL"
SCHEMES = ("postgresql://", "postgres://")
SET_URL = f"set {URL} to postgresql://user@host/database, or unset it"
CONNECT_SECONDS = 10

EMBEDDED = """
# Below this line: written by `spine init` for this folder. Remove it for Dagster's stock storage.
run_storage:
  module: dagster._core.storage.runs
  class: SqliteRunStorage
  config: {{base_dir: "{root}/history"}}
schedule_storage:
  module: dagster._core.storage.schedules
  class: SqliteScheduleStorage
  config: {{base_dir: "{root}/schedules"}}
event_log_storage:  # as the stock one, with connections that stay open: half the time of a backfill
  module: market_spine.automation.event_log
  class: KeptConnectionsEventLog
  config: {{base_dir: "{root}/history/runs"}}
"""

SERVER = f"""
# Below this line: written by `spine init`, since {URL} was set. The URL is read from there whenever a process
# starts, so that no password stands in this file.
storage:  # as the stock one, with connections that stay open
  custom:
    module: market_spine.automation.postgres_storage
    class: KeptConnectionsStorage
    config:
      postgres_url:
        env: {URL}
"""


def open_instance(folder: Path, url: str = "") -> DagsterInstance:
    """Dagster's record of runs below ``folder``, or in the PostgreSQL database ``url``, made ready where it is new.

    Openers queue: Dagster makes its tables on first use, and two at once fail with "table already exists".
    StoreError where the database cannot be used, or ``folder/dagster.yaml`` names another storage.
    """
    import dagster as dg

    write_config(folder, url)
    with turns.turn(folder, f"Dagster's record of runs in {folder}") as waited:
        turns.tell("instance_lock_waited", waited, folder=str(folder))
        instance = dg.DagsterInstance.from_config(str(folder))
        for storage in (instance.run_storage, instance.event_log_storage, instance.schedule_storage):
            if storage is None:
                raise StoreError(f"{folder}/dagster.yaml sets no storage", f"remove {folder}/dagster.yaml; spine init")
        return instance


def write_config(folder: Path, url: str = "") -> bool:
    """Put dagster.yaml into ``folder`` where there is none; whether it was put there now. Errors as of `open_instance`.

    ``url`` is what MARKET_SPINE_DAGSTER_URL says; '' keeps Dagster's storage in ``folder``.
    """
    if url:
        _refuse_unusable(url)
    target = folder / "dagster.yaml"
    if target.exists():
        _refuse_other_storage(target, url)
        return False
    shipped = files("market_spine").joinpath("dagster.yaml").read_text(encoding="utf-8")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(target, (shipped + (SERVER if url else EMBEDDED.format(root=folder.absolute()))).encode())
    except OSError as error:
        raise unwritable(target, folder, error) from error
    return True


def _refuse_other_storage(target: Path, url: str) -> None:
    """What the environment says and what the file says must agree: half of the processes would read the one."""
    names_it = URL in _values(target)
    if bool(url) == names_it:
        return
    if names_it:
        raise StoreError(f"{target} keeps Dagster's record in PostgreSQL, and {URL} is not set", f"set {URL}")
    raise StoreError(
        f"{URL} is set, and {target} keeps Dagster's record elsewhere",
        f"mv {shlex.quote(str(target))} {shlex.quote(str(target))}.before; spine init  # runs so far stay where they "
        f"are, captures do not depend on them; or unset {URL}",
    )


def _values(target: Path) -> str:
    """The file without its comments."""
    import yaml

    try:
        return str(yaml.safe_load(target.read_text(encoding="utf-8")))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise StoreError(f"{target} cannot be read: {' '.join(str(error).split())}", f"mend it: {target}") from error


def _is_readable(url: str) -> bool:
    """Whether user, password, host and port of a PostgreSQL URL are where libpq looks for them."""
    parts = urlsplit(url)
    try:
        parts.port  # noqa: B018  # raises for one that is no number
    except ValueError:
        return False
    rest = f"{parts.path}?{parts.query}#{parts.fragment}"
    return url.startswith(SCHEMES) and parts.netloc.count("@") <= 1 and "@" not in rest and not parts.fragment


def _refuse_unusable(url: str) -> None:
    """StoreError where Dagster could not keep its record there; its own errors come after 6 s, and name no setting."""
    if not _is_readable(url):  # libpq would quote parts of it, perhaps of its password
        raise StoreError(
            f"{URL} is no URL of the form postgresql://user:password@host:port/database",
            f"{SET_URL}; in a password, write @ as %40, / as %2F, ? as %3F, # as %23",
        )
    if find_spec("dagster_postgres") is None:
        raise StoreError(
            f"{URL} is set, and dagster-postgres is not installed",
            f"pip install 'market-spine[postgres]', or unset {URL}",
        )
    import psycopg

    try:
        with psycopg.connect(url, connect_timeout=CONNECT_SECONDS) as connection:
            row = connection.execute("SELECT current_database(), to_regclass('core_batches')").fetchone()
    except psycopg.OperationalError as error:
        said = str(error).strip().splitlines()[0]
        raise StoreError(f"Dagster's database ({URL}): {said}", "start the server, or set the URL right") from error
    except psycopg.ProgrammingError:  # an option that libpq does not know; it is quoted too
        raise StoreError(f"{URL} has an option that PostgreSQL does not know", SET_URL) from None
    if row and row[1]:
        raise StoreError(
            f"{URL} names {row[0]}, which is a control database; both keep their schema's version in one table",
            f"createdb dagster; set {URL} to it",
        )
