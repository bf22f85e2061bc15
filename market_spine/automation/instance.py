"""The Dagster instance of a home: dagster.yaml as shipped, with its storage below the home, and opened from there."""

from __future__ import annotations

import fcntl
import os
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from market_spine.domain.errors import StoreError

if TYPE_CHECKING:
    from dagster import DagsterInstance

STORAGE = """
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


def open_instance(folder: Path) -> DagsterInstance:
    """Dagster's record of runs below ``folder``, made ready where it is new.

    Openers queue: Dagster makes its tables on first use, and two at once fail with "table already exists".
    """
    import dagster as dg

    write_config(folder)
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        instance = dg.DagsterInstance.from_config(str(folder))
        for storage in (instance.run_storage, instance.event_log_storage, instance.schedule_storage):
            if storage is None:
                raise StoreError(f"{folder}/dagster.yaml sets no storage", f"remove {folder}/dagster.yaml; spine init")
        return instance
    finally:
        os.close(lock)


def write_config(folder: Path) -> bool:
    """Put dagster.yaml into ``folder`` where there is none; whether it was put there now."""
    target = folder / "dagster.yaml"
    if target.exists():
        return False
    folder.mkdir(parents=True, exist_ok=True)
    shipped = files("market_spine").joinpath("dagster.yaml").read_text(encoding="utf-8")
    target.write_text(shipped + STORAGE.format(root=folder.absolute()), encoding="utf-8")
    return True
