"""The command line: thin doors. One module per command group; they query the store and start Dagster work.

What belongs here: arguments, output, exit codes, named queries. What does not: rules, and SQL that another floor needs.
Heavy modules are imported inside functions, so that ``spine --help`` stays well under half a second.
"""

from __future__ import annotations

import gc


def main() -> None:
    """The entry point of ``spine``."""
    from market_spine.cli.app import app

    # A command lives for seconds, and a million objects of imported libraries outlive it: to look through them for
    # garbage at Python's own pace takes 0.3 s of the imports and 0.8 s of a backfill of 26 weeks.
    gc.set_threshold(100_000)
    app()
