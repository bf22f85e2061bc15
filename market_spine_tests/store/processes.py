"""Real processes for tests of concurrency: each runs a function of a test module.

They are forked from a server that has imported the platform and nothing else, and has no threads: nothing of the test's
process is inherited, and none of them spends 3 s on imports.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from pytest_socket import socket_allow_hosts

PRELOADED = "market_spine_tests.journeys.worker"  # the server is one for all tests of this process
_START: list[Any] = []


def forks() -> Any:
    """The context of such processes. Their server is asked through a Unix socket, which tests may not use otherwise."""
    socket_allow_hosts(["127.0.0.1", "::1"], allow_unix_socket=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOADED])
    return context


def started(body: Callable[..., object], *args: object) -> Any:
    """A process that runs ``body``."""
    process = forks().Process(target=body, args=args)
    process.start()
    return process


def _remember(barrier: Any) -> None:
    _START.append(barrier)


def _wait_and_run(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    _START[0].wait(60)
    return function(*arguments)


def at_once(function: Callable[..., Any], each: Sequence[tuple[Any, ...]]) -> list[Any]:
    """The results of ``function`` for every entry of ``each``, one process apiece, started together."""
    context = forks()
    barrier = context.Barrier(len(each))
    with ProcessPoolExecutor(len(each), mp_context=context, initializer=_remember, initargs=(barrier,)) as pool:
        running = [pool.submit(_wait_and_run, function, arguments) for arguments in each]
        return [one.result(120) for one in running]
