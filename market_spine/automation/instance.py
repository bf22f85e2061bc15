"""The Dagster instance of a home: dagster.yaml as shipped, with its storage below the home, and opened from there."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

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


def write_config(folder: Path) -> bool:
    """Put dagster.yaml into ``folder`` where there is none; whether it was put there now."""
    target = folder / "dagster.yaml"
    if target.exists():
        return False
    folder.mkdir(parents=True, exist_ok=True)
    shipped = files("market_spine").joinpath("dagster.yaml").read_text(encoding="utf-8")
    target.write_text(shipped + STORAGE.format(root=folder.absolute()), encoding="utf-8")
    return True
