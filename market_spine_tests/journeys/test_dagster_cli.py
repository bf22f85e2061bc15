"""Dagster's own command line against a clean copy of the project: what a user without our commands does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from market_spine.store.manifest import Question
from market_spine.store.store import Store

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DAGSTER = Path(sys.executable).with_name("dagster")
Run = Callable[..., "subprocess.CompletedProcess[str]"]
RAW_AND_CLEAN = "key:otc/raw or key:otc/venue_volume"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package and Dagster's files, and nothing else of the checkout."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "market_spine", folder / "market_spine", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "workspace.yaml"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "dagster_home").mkdir()
    (folder / "dagster_home" / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    return folder


@pytest.fixture(scope="module")
def dagster(copy: Path) -> Run:
    """Run ``dagster ...`` in the copy, with a home and a Dagster home of its own."""

    def run(*arguments: str, source: str = "synthetic:scale=0.1") -> subprocess.CompletedProcess[str]:
        env = {name: value for name, value in os.environ.items() if not name.startswith(("MARKET_SPINE_", "DAGSTER_"))}
        env |= {
            "PYTHONPATH": str(copy),
            "PYTHONWARNINGS": "ignore",
            "DAGSTER_HOME": str(copy / "dagster_home"),
            "MARKET_SPINE_HOME": str(copy / "home"),
            "MARKET_SPINE_SOURCE": source,
        }
        return subprocess.run(
            [str(DAGSTER), *arguments], cwd=copy, env=env, capture_output=True, text=True, check=False, timeout=180
        )

    return run


def materialize(
    dagster: Run, *how: str, select: str = RAW_AND_CLEAN, source: str = "synthetic:scale=0.1"
) -> subprocess.CompletedProcess[str]:
    return dagster("asset", "materialize", "-m", "market_spine.definitions", "--select", select, *how, source=source)


def captured(copy: Path, table: str) -> list[str]:
    store = Store.at(copy / "home")
    try:
        return [str(one.key) for one in store.select(Question((table,)))]
    finally:
        store.control.dispose()


def test_validate(dagster: Run) -> None:
    """Definitions that load in a test and not in Dagster's own process."""
    done = dagster("definitions", "validate")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_single_partition(dagster: Run, copy: Path) -> None:
    """A run that Dagster starts by itself and that does not find its source, its home or its configuration."""
    done = materialize(dagster, "--partition", "OTC|2025-10-31")
    assert done.returncode == 0, done.stdout + done.stderr
    assert captured(copy, "otc_venue_volume") == ["OTC:2025-10-31"]


def test_a_range_of_partitions(dagster: Run, copy: Path) -> None:
    """A range that is one run per partition, or that takes other partitions than its corners say."""
    done = materialize(dagster, "--partition-range", "NMS_TIER_1|2025-11-14...OTC|2025-11-21")
    assert done.returncode == 0, done.stdout + done.stderr
    found = [one for one in captured(copy, "otc_venue_volume") if "2025-11-" in one]
    assert sorted(found) == sorted(
        f"{tier}:2025-11-{day}" for tier in ("NMS_TIER_1", "NMS_TIER_2", "OTC") for day in (14, 21)
    )


@pytest.mark.parametrize(
    "how",
    [("--partition", "OTC|2025-11-13"), ("--partition-range", "OTC|2025-11-21...OTC|2025-11-14")],
    ids=["Thursday", "backwards"],
)
def test_what_names_nothing_fails(dagster: Run, how: tuple[str, str]) -> None:
    """A command that did nothing and said it had."""
    assert materialize(dagster, *how).returncode == 1


def test_a_blocked_partition_fails(dagster: Run, copy: Path, tmp_path: Path) -> None:
    """A script that goes on after a week which was refused."""
    (tmp_path / "OTC_2025-12-05.csv").write_text("<!DOCTYPE html><html></html>\n")
    done = materialize(dagster, "--partition", "OTC|2025-12-05", source=f"file:{tmp_path}")
    assert done.returncode == 1
    assert "OTC:2025-12-05" not in captured(copy, "otc_raw")
