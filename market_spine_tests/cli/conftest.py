"""The real command line in this process, and one demo's home that every test may read.

What belongs here: running commands. What does not: what they should print.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from market_spine.cli.app import app

SOURCE = "synthetic:seed=7,scale=0.05"


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)

    def csv(self) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(self.out)))


Command = Callable[..., Answer]


def call(*args: str, width: int = 80, stdin: str | None = None, **env: str) -> Answer:
    """Run ``spine`` with ``args``; anything but an exit code is a failure of the door."""
    settings = {"COLUMNS": str(width), "MARKET_SPINE_SOURCE": SOURCE, **env}
    result = CliRunner().invoke(app, list(args), input=stdin, env=settings, prog_name="spine")
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Answer(result.exit_code, result.stdout, result.stderr)


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One demo serves all: whoever reads it stays on one xdist worker."""
    for item in items:
        if "demo_home" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("cli"))


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Answer]:
    """A demo, made once: its home and what it printed."""
    home = tmp_path_factory.mktemp("demo") / "home"
    return home, call("--home", str(home), "demo")


@pytest.fixture(scope="session")
def demo_home(demo: tuple[Path, Answer]) -> Path:
    """The home of a demo. For reading only."""
    assert demo[1].code == 0, demo[1].err
    return demo[0]


@pytest.fixture
def own_home(demo_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the demo's home to change, as MARKET_SPINE_HOME."""
    home = tmp_path / "own"
    shutil.copytree(demo_home, home)
    monkeypatch.setenv("MARKET_SPINE_HOME", str(home))
    return home


@pytest.fixture
def spine(demo_home: Path) -> Command:
    """Commands that read the demo."""

    def run(*args: str, **env: Any) -> Answer:
        return call("--home", str(demo_home), *args, **env)

    return run
