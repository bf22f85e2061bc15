"""Uses of the data on their way into the control database: on disk before an answer goes out, rows soon after.

    uses/open.jsonl         what was used since the last look; one line each
    uses/taken-X.jsonl      what is being made rows of; there again after a kill
    uses/refused.jsonl      lines of which no row can be made, with the cause: for a person to look at

A line costs one fsync, shared by all that wait at once; a control transaction costs 4 ms and the write lock, which a
backfill may hold. What belongs here: these files. What does not: what a use is (`governance.consumption`).
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

from market_spine.domain.errors import unwritable
from market_spine.store.files import drop, fsync_folder, make_folder
from market_spine.store.home import Home
from market_spine.store.turns import turn

OPEN, TAKEN, REFUSED = "open.jsonl", "taken-*.jsonl", "refused.jsonl"
Line = Mapping[str, Any]


def append(home: Home, lines: Sequence[Line]) -> None:
    """Put ``lines`` on disk, durably. StoreError where they cannot be: then nothing may be answered."""
    data = "".join(f"{json.dumps(line, sort_keys=True, ensure_ascii=False)}\n" for line in lines).encode()
    path = home.uses / OPEN
    try:
        make_folder(home.uses)
        with turn(home.uses, "the record of uses"):
            is_new = not path.exists()
            with path.open("a+b", buffering=0) as stream:
                _write(stream, data)
            if is_new:
                fsync_folder(home.uses)
    except OSError as error:
        raise unwritable(path, home.uses, error) from error


def _write(stream: Any, data: bytes) -> None:
    """All of ``data``, on disk, or nothing: of a batch that failed nobody was answered. ``stream`` has no buffer."""
    before, left = stream.seek(0, os.SEEK_END), memoryview(b"\n" * _is_torn(stream) + data)
    try:
        while left:
            left = left[stream.write(left) :]
        os.fsync(stream.fileno())
    except OSError:
        os.ftruncate(stream.fileno(), before)
        raise


def size(home: Home) -> int:
    """The bytes of the lines that wait, of those too that a process left which was killed."""
    return sum(path.stat().st_size for path in (home.uses / OPEN, *home.uses.glob(TAKEN)) if path.exists())


def check(home: Home) -> None:
    """StoreError where nothing could be put down now."""
    append(home, [])


def lines(home: Home) -> Iterator[dict[str, Any]]:
    """Every line that waits, the newest files first; nothing is taken."""
    for path in (home.uses / OPEN, *sorted(home.uses.glob(TAKEN), reverse=True)):
        yield from _lines(path)


def refuse(home: Home, line: Line, error: Exception) -> None:
    """Set a line aside of which no row can be made, durably."""
    path = home.uses / REFUSED
    cause = str(error).partition("\n")[0]
    structlog.get_logger().error("use_refused", file=str(path), cause=cause)
    with path.open("a+b", buffering=0) as stream:
        text = json.dumps({"cause": cause, "line": line}, sort_keys=True, ensure_ascii=False)
        _write(stream, f"{text}\n".encode())


def _is_torn(stream: Any) -> bool:
    """Whether a process died in the middle of the last line; what that was about was never answered."""
    if stream.seek(0, os.SEEK_END) == 0:
        return False
    stream.seek(-1, os.SEEK_END)
    return bool(stream.read(1) != b"\n")


@contextmanager
def taken(home: Home) -> Iterator[Iterator[dict[str, Any]]]:
    """Every line so far, oldest first, read as it is asked for; all are forgotten when the body has ended well, and
    there again otherwise.

    Two that take at once may get the same lines: whoever makes rows of them skips those that are there.
    """
    path = home.uses / OPEN
    if path.exists():
        with turn(home.uses, "the record of uses"):
            if path.exists():
                path.rename(home.uses / TAKEN.replace("*", f"{os.stat(path).st_mtime_ns:020d}-{uuid.uuid4().hex[:8]}"))
    files = sorted(home.uses.glob(TAKEN))
    yield (line for one in files for line in _lines(one))
    for one in files:
        drop(one)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        stream = path.open(encoding="utf-8", errors="replace", newline="\n")
    except FileNotFoundError:  # another process was through with it
        return
    with stream:
        for number, line in enumerate(stream, start=1):
            try:
                if line != "\n":  # put before the line after a torn one
                    yield json.loads(line)
            except ValueError:
                structlog.get_logger().warning("use_torn", file=str(path), line=number, told="never answered")
