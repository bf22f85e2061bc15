"""Uses on their way to disk: an answer goes out when its use is there, and one fsync serves all that wait.

What belongs here: this queue of one process. What does not: the file (`store.outbox`), and what a use is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from market_spine.governance.consumption import Use


@dataclass
class _Entry:
    use: Use
    is_done: bool = False
    error: Exception | None = None


@dataclass
class Recorder:
    """Puts down uses from many threads; ``write`` takes those of one moment."""

    write: Callable[[Sequence[Use]], None]
    _waiting: list[_Entry] = field(default_factory=list)
    _list: threading.Lock = field(default_factory=threading.Lock)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def put(self, use: Use) -> None:
        """Return when ``use`` is on disk; raise what kept it from being there."""
        entry = _Entry(use)
        with self._list:
            self._waiting.append(entry)
        with self._turn:  # whoever has it writes for all that came meanwhile
            if not entry.is_done:
                self._write()
        if entry.error:
            raise entry.error

    def _write(self) -> None:
        with self._list:
            batch, self._waiting = self._waiting, []
        error = None
        try:
            self.write([entry.use for entry in batch])
        except Exception as failure:  # noqa: BLE001 - raised by each of those that wait
            error = failure
        for entry in batch:
            entry.error, entry.is_done = error, True
