"""What the demo tells at its end. Every number is asked of the store; nothing is written down beforehand.

What belongs here: the named queries of the story and its words. What does not: making it happen (`demo`).
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from market_spine.cli.output import Listing, cell, code, escaped, say, show

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from market_spine.store.store import Store

LOADED = """
    SELECT tier, count(DISTINCT week_ending) AS weeks, count(*) AS rows, sum(total_shares) AS shares,
           sum(total_trades) AS trades, count(DISTINCT symbol) AS symbols, count(DISTINCT mpid) AS venues
    FROM otc_raw GROUP BY tier ORDER BY tier
"""
# The symbol whose volume the restatement moved most, before and after.
RESTATED = """
    SELECT b.week_ending, b.tier, symbol, b.total_volume AS before, a.total_volume AS after,
           b.captured_at AS known, a.captured_at AS restated
    FROM (FROM otc_symbol_summary_revisions() WHERE revision = 1) b
    JOIN (FROM otc_symbol_summary_revisions() WHERE revision = 2) a USING (week_ending, tier, symbol)
    WHERE b.total_volume <> a.total_volume
    ORDER BY abs(a.total_volume - b.total_volume) DESC, symbol LIMIT 1
"""
GONE = """
    SELECT DISTINCT symbol FROM otc_symbol_summary_first_release() b
    ANTI JOIN otc_symbol_summary a USING (week_ending, tier, symbol) ORDER BY symbol
"""
REJECTS = """
    SELECT week_ending, tier, line_no AS line, reason_code AS reason, raw_text AS "raw text"
    FROM core_rejects ORDER BY week_ending, tier, line_no
"""
LATE = """
    SELECT q.week_ending, q.tier, q.severity, q.actual, q.checked_at, m.captured_at
    FROM core_quality q LEFT JOIN core_manifest m
      ON m.table_name = q.table_name AND m.week_ending = q.week_ending AND m.tier = q.tier AND m.is_current = 1
    WHERE q.check_name = 'delivered' AND q.status = 'failed' ORDER BY q.checked_at LIMIT 1
"""
READY = """
    SELECT week_ending, state, certified_at,
           array_to_string(json_extract_string(blocking_issues, '$[*].message'), '; ') AS "stands against it"
    FROM core_data_readiness WHERE ready_for = 'trading' ORDER BY week_ending
"""
SPLIT = """
    SELECT revision, captured_at, min(is_complete) AS is_complete, count(*) AS tiers
    FROM otc_tier_split_revisions() WHERE week_ending = ? GROUP BY ALL ORDER BY revision
"""


def tell(store: Store, home: Path) -> None:
    """The story, from the store alone."""
    from market_spine.assets.reading import fill

    with store.engine() as engine:
        fill(store, engine)
        say("")
        _listing(engine, LOADED, "What was loaded")
        restated = _as_of(engine)
        _listing(engine, REJECTS, "What was set aside, and why")
        _late(engine)
        _listing(engine, READY, "Which weeks may be used for trading, on the last of these days")
    suggest(home, next_words(restated))


def _rows(engine: DuckDBPyConnection, sql: str, *values: object) -> tuple[list[str], list[tuple[Any, ...]]]:
    cursor = engine.execute(sql, list(values))
    return [column[0] for column in cursor.description or ()], cursor.fetchall()


def _listing(engine: DuckDBPyConnection, sql: str, title: str) -> None:
    columns, rows = _rows(engine, sql)
    show(Listing(columns, rows, title, wrapped=frozenset({"raw text", "stands against it"})))
    say("")


def _as_of(engine: DuckDBPyConnection) -> dict[str, Any]:
    columns, rows = _rows(engine, RESTATED)
    found = dict(zip(columns, rows[0], strict=True))
    gone = [row[0] for row in _rows(engine, GONE)[1]]
    week, symbol = found["week_ending"], found["symbol"]
    say("[bold]One question, two answers[/]")
    say(f"How many shares of {symbol} ({found['tier']}) were traded in week {week}?")
    say(f"  as known on {found['known']:%Y-%m-%d}   {cell(found['before']):>16}")
    say(f"  as known on {found['restated']:%Y-%m-%d}   {cell(found['after']):>16}")
    if gone:
        say(f"The restatement also removed {', '.join(gone)}: there as of then, gone today.")
    say("")
    return found


def _late(engine: DuckDBPyConnection) -> None:
    columns, rows = _rows(engine, LATE)
    found = dict(zip(columns, rows[0], strict=True))
    say("[bold]Which tier was late, and how it showed[/]")
    say(f"{found['tier']} of {found['week_ending']}: {found['severity']} on {cell(found['checked_at'])}")
    say(f"  {escaped(found['actual'])}")
    say(f"  captured at last on {cell(found['captured_at'])}")
    _, split = _rows(engine, SPLIT, found["week_ending"])
    for revision, captured_at, is_complete, tiers in split:
        word = "complete" if is_complete else "flagged incomplete"
        say(f"  tier split, revision {revision} ({captured_at:%Y-%m-%d}): {tiers} tiers, {word}")
    say("")


def next_words(restated: dict[str, Any]) -> list[str]:
    """What to ask of the demo's store."""
    where = f"--week-ending {restated['week_ending']} --tier {restated['tier']}"
    known = f"{restated['known']:%Y-%m-%d}"
    return [
        f"readiness otc --week {restated['week_ending']} --ready-for trading",
        f"captures impact otc_raw {where}",
        f"query symbol_summary {where} --symbol {restated['symbol']} --as-of {known}",
        f"sql \"FROM otc_top_venues('{restated['week_ending']}', 'NMS_TIER_1', n := 5)\"",
    ]


def next_commands(home: Path, words: Iterable[str]) -> list[str]:
    """``words`` as commands that work on the store in ``home``, as this program was called."""
    spine = f"{_program()} --home {shlex.quote(_near(home))}"
    return [f"{spine} {one}" for one in words]


def suggest(home: Path, words: Iterable[str]) -> None:
    """The end of a demo and of each scenario: commands to copy."""
    say("[bold]Try next[/]")
    for command in next_commands(home, words):
        code(f"  {command}")


def _near(path: Path) -> str:
    """``path`` from here, unless it lies elsewhere."""
    near = Path(os.path.relpath(path))
    return str(path if near.parts[:1] == ("..",) else near)


def _program() -> str:
    """``spine`` where the shell finds this one by its name, else its path: `make demo` runs it out of .venv."""
    here, found = Path(sys.argv[0]), shutil.which("spine")
    is_found = found is not None and here.exists() and Path(found).samefile(here)
    return "spine" if is_found or here.name != "spine" else shlex.quote(_near(here.absolute()))
