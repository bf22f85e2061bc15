"""Progress of a long run: table, partitions done of all, time left. A live line on a terminal, plain lines else.

What belongs here: the display. What does not: who calls it (every stage, through `Spine.progress`).
"""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from market_spine.cli.output import errors

if TYPE_CHECKING:
    from collections.abc import Mapping


def _own_stderr() -> IO[str] | None:
    """The terminal itself: while a step runs, Dagster sends descriptors 1 and 2 to its compute logs."""
    try:
        return os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8", buffering=1)
    except (OSError, ValueError):  # a stderr that is no file, as in tests: Dagster cannot send it elsewhere
        return None


class Watch:
    """A context in which `step` may be called with (table, done, total). ``expected`` is the number of steps in all.

    ``quiet``: no plain lines where there is no terminal.
    """

    def __init__(self, expected: int, quiet: bool = False) -> None:
        self.quiet = quiet
        self.stream = _own_stderr()
        self.console = errors(self.stream)
        self.expected = expected
        self.done: dict[str, int] = {}
        self.before: dict[str, int] = {}  # done in earlier runs of the same table: a request may have several ranges
        self.display: Any = None
        self.task: Any = None

    def __enter__(self) -> Watch:
        if self.console.is_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self.display = Progress(
                TextColumn("{task.description:<27}"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("partitions,"),
                TimeRemainingColumn(compact=True),
                TextColumn("left"),
                console=self.console,
                transient=True,
            )
            self.display.start()
            self.task = self.display.add_task("starting", total=self.expected)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.display:
            self.display.stop()
        if self.stream:
            self.stream.close()

    def step(self, name: str, done: int, total: int) -> None:
        """Called by every stage of a run."""
        key = name.partition(" ")[0]
        held = self.done.get(key, 0)
        if done < held:
            self.before[key] = self.before.get(key, 0) + held
        self.done[key] = done
        if self.display:
            self.display.update(self.task, completed=min(self.reached, self.expected), description=name)
        elif not self.quiet and done == total and (done != held or total == 0):
            self.console.print(f"{name}: {done} of {total} partitions", style="dim")

    @property
    def reached(self) -> int:
        """Steps done in all."""
        return sum(self.done.values()) + sum(self.before.values())


def expected_steps(partitions: Mapping[str, list[Any]], fetches: int) -> int:
    """Steps of a request: every partition of every table, and every delivery."""
    return sum(map(len, partitions.values())) + fetches
