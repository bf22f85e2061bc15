"""The README's commands run, and its output is what the demo prints."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from market_spine_tests.cli.calls import Answer, call

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
LINES = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]
COMMANDS = [line for line in LINES if line.startswith("spine ")]
SOURCE = next(line.partition("=")[2] for line in LINES if line.startswith("export MARKET_SPINE_SOURCE="))
DAGSTER = [line for line in LINES if line.startswith("dagster ")]


def test_the_readme_has_commands() -> None:
    """Prevents the test below from passing on nothing."""
    assert len(COMMANDS) >= 8
    assert len(DAGSTER) == 4


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run_as_printed(
    command: str, own_home: Path, finra_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a first page whose commands fail; the real files are FINRA's two OTC weeks and a Tier 1 sample."""
    if "finra-api" in command:
        pytest.skip("asks FINRA's servers; tests stay on loopback")
    monkeypatch.setenv("MARKET_SPINE_SOURCE", SOURCE)
    if "file:" in command:  # a store of the demo's weeks takes no real ones
        monkeypatch.setenv("MARKET_SPINE_HOME", str(tmp_path / "real"))
    real = command.replace("FOLDER/week.psv", str(finra_dir / "week_2025-12-13.psv")).replace("FOLDER", str(finra_dir))
    answer = call(*shlex.split(real, comments=True)[1:])
    assert answer.code == int((re.findall(r"# exit code (\d)$", real) or ["0"])[0]), answer.err


def test_dagsters_commands_run_as_printed_one_after_the_other(tmp_path: Path) -> None:
    """Prevents a selection that mixes partitionings, which Dagster refuses."""
    dagster = tmp_path / "dagster"
    dagster.mkdir()
    variables = os.environ | {"MARKET_SPINE_HOME": str(tmp_path), "DAGSTER_HOME": str(dagster)}
    variables["MARKET_SPINE_SOURCE"] = SOURCE
    for command in DAGSTER:
        words = [sys.executable, "-m", *shlex.split(command)]
        done = subprocess.run(words, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stderr[-2000:]}"
    assert (tmp_path / "market_spine.duckdb").exists()


def test_the_demo_prints_what_the_readme_shows(demo: tuple[Path, Answer]) -> None:
    """Prevents a README that shows numbers which the demo does not give."""
    home, answer = demo
    shown = next(text for kind, text in BLOCKS if kind == "text").replace(".venv/bin/spine", "spine")
    printed = answer.out.replace(str(home), ".market_spine/demo")
    assert " ".join(shown.split()) in " ".join(printed.split())
