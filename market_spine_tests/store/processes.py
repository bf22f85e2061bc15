"""Real processes for tests of concurrency: each runs a function of a test module, all starting at one moment."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

SPAWN = multiprocessing.get_context("spawn")  # as the platform's workers start: nothing is inherited
_START: list[Any] = []


def _remember(barrier: Any) -> None:
    _START.append(barrier)


def _wait_and_run(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    _START[0].wait(60)
    return function(*arguments)


def at_once(function: Callable[..., Any], each: Sequence[tuple[Any, ...]]) -> list[Any]:
    """The results of ``function`` for every entry of ``each``, one process apiece, started together."""
    barrier = SPAWN.Barrier(len(each))
    with ProcessPoolExecutor(len(each), mp_context=SPAWN, initializer=_remember, initargs=(barrier,)) as pool:
        running = [pool.submit(_wait_and_run, function, arguments) for arguments in each]
        return [one.result(120) for one in running]
