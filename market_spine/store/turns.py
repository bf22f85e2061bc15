"""Turns: one holder at a time, in the order of arrival, with a bound; the kernel takes a turn back with its process.

What belongs here: the queue, and who stands at its head. What does not: what a turn is for (`control`, `publish`).

SQLite's own wait is a back-off (1, 2, 5 ... 100 ms): whoever has waited longest asks least often, and eight writers
that never rest starve one of them for 6 s, where the queue keeps the worst wait at 0.2 s (decision 0024).
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from market_spine.domain.errors import StoreError

BUSY_SECONDS = 60.0  # how long to wait for another process; a control transaction takes 4 ms, publishing half a second
TELL_SECONDS = 1.0  # a longer wait is worth a line in the log
LOCKS = Path("/proc/locks")  # Linux only; elsewhere the holder stays unnamed


@contextmanager
def turn(path: Path, what: str, more: Callable[[], str] = str) -> Iterator[float]:
    """Hold ``path`` (a folder, or a file that is made where there is none) alone; the seconds that it was waited for.

    ``what`` names it in messages. StoreError after `BUSY_SECONDS`, with the process that holds it and what ``more``
    knows of it; and where ``path`` cannot be opened.
    """
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT  # NFS locks only what is open for writing
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreError(f"{what}: cannot open {path}: {error.strerror}", f"make {path.parent} writable") from error
    try:
        waited = _locked(descriptor, path, lambda: too_long(what, holders([path]), more()))
        try:
            yield waited
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # a forked child may have the descriptor as well
    finally:
        os.close(descriptor)


def _locked(descriptor: int, path: Path, failure: Callable[[], StoreError]) -> float:
    try:
        return _wait(descriptor, failure)
    except OSError as error:
        cause = f"{path} cannot be locked: {error.strerror}; network file systems lock no folders"
        raise StoreError(cause, "put it on a local disk, and copy it from there") from error


def _wait(descriptor: int, failure: Callable[[], StoreError]) -> float:
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return 0.0
    # The kernel keeps the queue and has no time limit: a thread stands in it, on a copy that it closes by itself, so
    # that a turn which comes after we gave up goes straight to the next.
    started = time.monotonic()
    waiter = threading.Thread(target=_stand_in, args=(os.dup(descriptor),), daemon=True)
    waiter.start()
    waiter.join(BUSY_SECONDS)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ours by now, or another's for too long
    except BlockingIOError as error:
        raise failure() from error
    return time.monotonic() - started


def _stand_in(copy: int) -> None:
    try:
        fcntl.flock(copy, fcntl.LOCK_EX)
    finally:
        os.close(copy)


def tell(event: str, seconds: float, **more: str) -> None:
    """One line in the log for a wait above `TELL_SECONDS`."""
    if seconds > TELL_SECONDS:
        import structlog

        structlog.get_logger().warning(event, seconds=round(seconds, 3), **more)


def too_long(what: str, pids: Sequence[int], more: str = "") -> StoreError:
    """The error of a wait that reached its bound; ``pids`` are the holders, as far as known."""
    by = f"process {' and '.join(map(str, pids))}" if pids else "another process"
    look = f"ps -fp {','.join(map(str, pids))}" if pids else "ps -ef"
    return StoreError(
        f"{what}: waited {BUSY_SECONDS:g} s for {by}, which has not finished{more}",
        f"see what it does: {look}; when it has ended, or was ended with kill, repeat the command",
    )


def holders(paths: Sequence[Path]) -> list[int]:
    """The processes that hold a lock for writing on one of ``paths``, as the kernel tells; [] where it does not."""
    if not LOCKS.exists():
        return []
    wanted = {_inode(path) for path in paths if path.exists()}
    # 1: FLOCK  ADVISORY  WRITE 4242 fd:00:1835 0 EOF; who only waits has "->" in the second place
    lines = [line.split() for line in LOCKS.read_text(encoding="ascii").splitlines()]
    held = {int(line[4]) for line in lines if line[1] != "->" and line[3] == "WRITE" and line[5] in wanted}
    return sorted(pid for pid in held if pid > 0)  # 0 is a process of another container


def _inode(path: Path) -> str:
    found = path.stat()
    return f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
