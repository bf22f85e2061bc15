"""One server over a demo's store, for every test that only asks."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from market_spine.store.store import Store
from market_spine_tests.api.server import Api, serving
from market_spine_tests.cli.calls import Answer, Command, call


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One demo serves all: whoever asks it stays on one xdist worker."""
    for item in items:
        if "untouched_home" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("api"))


@pytest.fixture(scope="session")
def untouched_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a demo, that nobody has asked anything. For copying only."""
    home = tmp_path_factory.mktemp("api") / "home"
    assert call("--home", str(home), "demo").code == 0
    return home


@pytest.fixture(scope="session")
def served_home(untouched_home: Path) -> Path:
    """A copy that is asked, and remembers by whom; nothing else changes it."""
    return Path(shutil.copytree(untouched_home, untouched_home.with_name("served")))


@pytest.fixture(scope="session")
def api(served_home: Path) -> Iterator[Api]:
    """A server over it."""
    with serving(served_home) as api:
        yield api


@pytest.fixture
def spine(served_home: Path) -> Command:
    """Commands over the same store."""
    return lambda *args, **env: call("--home", str(served_home), *args, **env)


@pytest.fixture
def changed(untouched_home: Path, tmp_path: Path) -> Iterator[Api]:
    """A server over a copy, for tests that change the store."""
    home = tmp_path / "home"
    shutil.copytree(untouched_home, home)
    with serving(home) as api:
        yield api


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    store = Store.at(tmp_path / "home")
    store.ensure()
    return store


def text_of(answer: Answer) -> str:
    """What a command printed, where it ended well."""
    assert answer.code == 0, answer.err
    return answer.out
