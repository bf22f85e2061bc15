"""Whether the process that carries out a run still lives: it holds a file locked, which the kernel frees as it dies.

What belongs here: holding, and finding what nobody holds any more. What does not: what follows for the run (Dagster's
record says STARTED until somebody reports otherwise; `automation.work` does).

No process ids: after a restart, and in another container, they are other processes'.
"""

from __future__ import annotations

import atexit
import fcntl
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from market_spine.domain.errors import StoreError
from market_spine.store import turns
from market_spine.store.home import Home

LIST = "the list of runs under way"


@dataclass(frozen=True, slots=True)
class _Held:
    pid: int
    path: Path
    descriptor: int


_MINE: list[_Held] = []  # of this process, which carries out one run at a time


def hold(home: Home, run_id: str) -> None:
    """Let others know that ``run_id`` is carried out, as long as this process lives or until it holds another one.

    Where the home cannot be written, the run goes on unwatched: then only Dagster's time limit ends it.
    """
    path = home.running / run_id
    if any((held.pid, held.path) == (os.getpid(), path) for held in _MINE):
        return
    release()
    try:
        home.running.mkdir(parents=True, exist_ok=True)
        with turns.turn(home.running, LIST):  # nobody must find it before it is locked
            path.touch(0o644)
            descriptor = claim(path)
    except (OSError, StoreError) as error:
        structlog.get_logger().warning("run_unwatched", run_id=run_id, error=error)
        return
    _MINE.append(_Held(os.getpid(), path, descriptor))


@atexit.register
def release() -> None:
    """Take the file of this process away again, if it has one."""
    while _MINE:
        held = _MINE.pop()
        if held.pid == os.getpid():  # a forked child leaves its parent's alone
            held.path.unlink(missing_ok=True)
            os.close(held.descriptor)


def dead(home: Home) -> list[str]:
    """Runs whose process has ended without taking its file away: killed, or a run worker that came to its end."""
    if not home.running.is_dir():
        return []
    with turns.turn(home.running, LIST):
        return sorted(path.name for path in home.running.iterdir() if not is_held(path))


def claim(path: Path) -> int:
    """Let others know that this process lives, by a file or folder that is there; the descriptor that holds it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def is_held(path: Path) -> bool:
    """Whether a process that lives has claimed ``path``."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # taken away meanwhile
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def lives(home: Home, run_id: str) -> bool:
    """Whether the process that carries out ``run_id`` is known to live; not where it has left no file, or elsewhere."""
    path = home.running / run_id
    return path.exists() and is_held(path)


def forget(home: Home, run_id: str) -> None:
    """Take away the file of a run that is over."""
    with suppress(FileNotFoundError):
        (home.running / run_id).unlink()
