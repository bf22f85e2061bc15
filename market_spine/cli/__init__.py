"""The command line: thin doors. One module per command group; they query the store and start Dagster work.

What belongs here: arguments, output, exit codes, named queries. What does not: rules, and SQL that another floor needs.
Heavy modules are imported inside functions, so that ``spine --help`` stays well under half a second.
"""

from __future__ import annotations


def main() -> None:
    """The entry point of ``spine``."""
    from market_spine.cli.app import app

    app()
