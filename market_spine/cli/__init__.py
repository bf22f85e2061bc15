"""The command line: thin doors. One module per command group; they query the store and start Dagster work.

What belongs here: arguments, output, exit codes, named queries. What does not: rules, and SQL that another floor needs.
Heavy modules are imported inside functions, so that ``spine --help`` stays well under half a second.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from typing import NoReturn

UNWRITTEN = 120  # Python's own exit code where the last of the output could not be written


def main() -> NoReturn:
    """The entry point of ``spine``."""
    from market_spine.cli.app import app

    # A command lives for seconds, and a million objects of imported libraries outlive it: to look through them for
    # garbage at Python's own pace takes 0.3 s of the imports and 0.8 s of a backfill of 26 weeks.
    gc.set_threshold(100_000)
    try:
        app()
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            _leave(ended.code or 0)
        raise
    _leave(0)


def _leave(code: int) -> NoReturn:
    """End the process as Python would, but for taking modules apart: 0.8 s, for memory that is given back anyway."""
    atexit._run_exitfuncs()
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None where it was closed from the start
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or UNWRITTEN
    os._exit(code)
