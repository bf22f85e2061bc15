"""One demo's home that every test may read, and copies of it to change."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from market_spine_tests.cli.calls import Answer, Command, call


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One demo serves all: whoever reads it stays on one xdist worker."""
    for item in items:
        if "demo" in getattr(item, "fixturenames", ()):
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
