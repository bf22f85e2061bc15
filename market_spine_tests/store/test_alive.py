"""Which runs have lost their process: told by the kernel, whatever the process died of."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from market_spine.store import alive
from market_spine.store.home import Home

HOLD = """
import sys
from pathlib import Path
from market_spine.store import alive
from market_spine.store.home import Home
for run_id in sys.argv[2:]:
    alive.hold(Home(Path(sys.argv[1])), run_id)
print(1, flush=True)
input()
"""

FORK = """
import os, sys
from pathlib import Path
from market_spine.store import alive
from market_spine.store.home import Home
home = Home(Path(sys.argv[1]))
alive.hold(home, "mine")
child = os.fork()
if child == 0:
    alive.release()
    os._exit(0)
os.waitpid(child, 0)
print(os.listdir(home.running), alive.dead(home))
"""


@contextmanager
def a_process(home: Home, *run_ids: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of its own that has carried out ``run_ids`` one after the other, until it is told to end, or killed."""
    command = [sys.executable, "-c", HOLD, str(home.root), *run_ids]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        yield process
        process.kill()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    yield Home(tmp_path)
    alive.release()


def test_a_run_is_dead_when_its_process_was_killed_and_not_before(home: Home) -> None:
    """Prevents a run from being taken for dead while it works, and from being waited for when nobody does it."""
    assert alive.dead(home) == []  # no run yet, and no folder
    with a_process(home, "a-run") as first, a_process(home, "another-run"):
        assert alive.dead(home) == []
        first.kill()
        first.wait()
        assert alive.dead(home) == ["a-run"]
        assert alive.dead(home) == ["a-run"]  # looking changes nothing
        alive.forget(home, "a-run")
        alive.forget(home, "a-run")
        assert alive.dead(home) == []


def test_a_process_that_ends_well_or_goes_on_to_the_next_run_leaves_nothing(home: Home) -> None:
    """Prevents commands from littering a home that no daemon looks after."""
    with a_process(home, "first", "second") as process:
        assert os.listdir(home.running) == ["second"]
        process.communicate(b"\n")
    assert os.listdir(home.running) == []


def test_the_own_run_of_a_process_lives_also_in_its_own_eyes(home: Home) -> None:
    """Prevents `spine work run`, which looks between its runs, from putting down what it is doing."""
    alive.hold(home, "mine")
    alive.hold(home, "mine")
    assert alive.dead(home) == []
    alive.release()
    assert os.listdir(home.running) == []


def test_a_forked_child_does_not_take_its_parents_run_away(home: Home) -> None:
    """Prevents a helper process that ends before the run from making it look as if nobody carried it out."""
    said = subprocess.run([sys.executable, "-c", FORK, str(home.root)], capture_output=True, text=True, check=True)
    assert said.stdout == "['mine'] []\n"
    assert os.listdir(home.running) == []


def test_a_home_that_cannot_be_written_leaves_the_run_unwatched(home: Home) -> None:
    """Prevents watching from being one more thing that a run can fail by; the log says it."""
    home.running.touch()  # a file where the folder should be
    with capture_logs() as lines:
        alive.hold(home, "mine")
    assert [(one["event"], one["run_id"]) for one in lines] == [("run_unwatched", "mine")]
    assert alive.dead(home) == []
