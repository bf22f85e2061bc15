"""What commands print: listings as table, JSON or CSV, and notes. Results go to stdout, everything else to stderr.

What belongs here: how values look and what fits the width. What does not: which values are shown.
"""

from __future__ import annotations

import csv
import re
import shlex
import sys
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from textwrap import wrap
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from market_spine.domain.texts import csv_value, json_text, moment, plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

GAP = 2  # spaces between columns
MIN_WRAPPED = 24  # a text column that wraps is never narrower
WHOLE = 30  # words of up to so many characters are not broken, where there is room: names of columns, codes
Row = Sequence[Any]
Sizes = dict[int, tuple[int, int, int]]  # column -> its widest line, what keeps its words whole, the least
WIDEST, WORDS_WHOLE, LEAST = range(3)

HOME: ContextVar[str] = ContextVar("home", default="")  # what --home said
# Commands that look at a store: advice to one who named it with --home names it too.
STORE_COMMANDS = (
    "anomalies",
    "backfill",
    "backup",
    "calendar",
    "captures",
    "certificates",
    "deliveries",
    "doctor",
    "executions",
    "gc",
    "impact",
    "init",
    "metrics",
    "notify",
    "publish",
    "query",
    "readiness",
    "rebuild",
    "recompute",
    "rejects",
    "restore",
    "run",
    "serve",
    "sql",
    "tokens",
    "verify",
    "work",
)
ADVISED = re.compile(r"\bspine (?=(" + "|".join(STORE_COMMANDS) + r")\b)")


class Format(StrEnum):
    """How a listing is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


FormatOption = Annotated[Format, typer.Option("--format", "-f", help="table for people, json or csv for programs.")]


@dataclass(frozen=True)
class Listing:
    """Rows to show. ``wrapped`` columns may break over lines, ``extra`` ones are in JSON and CSV only.

    Where not all fit the width, the first of two ``stacked`` columns stands above the other one, in its place; then
    ``spare`` columns give way, the last ones before the others. A single row that does not fit stands ``upright``.
    """

    columns: Sequence[str]
    rows: Sequence[Row]
    title: str = ""
    wrapped: frozenset[str] = field(default_factory=frozenset)
    extra: frozenset[str] = field(default_factory=frozenset)
    empty: str = "nothing"
    headers: dict[str, str] = field(default_factory=dict)
    spare: frozenset[str] = field(default_factory=frozenset)
    stacked: tuple[str, str] | None = None
    upright: bool = True


def out() -> Console:
    """Results. Colours on a terminal only, and never with NO_COLOR."""
    from rich.console import Console

    return Console(highlight=False)


def errors(stream: IO[str] | None = None) -> Console:
    """Failures, notes and progress; to ``stream`` where stderr itself is not to be used."""
    from rich.console import Console

    return Console(stderr=True, file=stream, highlight=False)


def say(text: str) -> None:
    """A line of the result, with rich markup."""
    out().print(text)


def code(text: str) -> None:
    """SQL or a command, to be copied: never broken, whatever the width."""
    out().print(text, soft_wrap=True, markup=False)


def hanging(head: str, text: str) -> None:
    """``text`` behind ``head``; what wraps goes on below its beginning. No word is broken: ids are to be copied."""
    room = max(out().width - len(head), MIN_WRAPPED)
    lines = wrap(text, room, break_long_words=False, break_on_hyphens=False)
    code(head + f"\n{' ' * len(head)}".join(lines))


def many(count: int, what: str) -> str:
    """``count`` of ``what``, which is named in the singular."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def step(advice: str) -> str:
    """``advice`` whose commands look at the store that this command was given with --home."""
    home = HOME.get()
    return ADVISED.sub(f"spine --home {shlex.quote(home)} ", advice) if home else advice


def advise(advice: str) -> None:
    """The next step, on stderr."""
    errors().print(f"  [bold]next:[/] {escaped(step(advice))}", soft_wrap=True)


def note(text: str) -> None:
    """A remark on stderr, so that it is in no pipe."""
    errors().print(text, soft_wrap=True)


def limited(listing: Listing, form: Format, limit: int | None, default: int = 50) -> None:
    """Print at most ``limit`` rows, and tell of more; without one: ``default`` on the screen, all for programs."""
    most = limit or (default if form is Format.TABLE else len(listing.rows))
    show(replace(listing, rows=listing.rows[:most]), form)
    if len(listing.rows) > most:
        note(f"first {most:,} of {len(listing.rows):,} rows (--limit)")


def show(listing: Listing, form: Format = Format.TABLE) -> None:
    """Print ``listing`` in ``form``."""
    if form is Format.JSON:
        sys.stdout.write(_json_rows(listing) + "\n")
    elif form is Format.CSV:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(listing.columns)
        writer.writerows([csv_value(value) for value in row] for row in listing.rows)
    else:
        show_table(listing)


def _json_rows(listing: Listing) -> str:
    """A list of objects. Written here because `json` would take decimals through float."""
    names = [json_text(name) for name in listing.columns]
    rows = [
        ",\n".join(f"    {name}: {json_text(value)}" for name, value in zip(names, row, strict=True))
        for row in listing.rows
    ]
    return "[\n" + ",\n".join(f"  {{\n{row}\n  }}" for row in rows) + "\n]" if rows else "[]"


def cell(value: Any) -> str:
    """A value as people read it: thousands separated, whole seconds UTC, absent as a dash."""
    if value is None or isinstance(value, bool):
        return {None: "-", True: "yes", False: "no"}[value]
    if isinstance(value, datetime):
        return moment(value, " ")
    if isinstance(value, Decimal):
        whole, point, fraction = plain(value).partition(".")
        sign = "-" if whole.startswith("-") else ""
        return f"{sign}{int(whole.lstrip('-') or 0):,}{point}{fraction}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return _float(value)
    return str(value)


def _float(value: float) -> str:
    if value and abs(value) < 0.001:
        return f"{value:.2e}"
    return f"{value:,.4f}" if abs(value) < 1000 else f"{value:,.2f}"


def show_table(listing: Listing) -> None:
    """A table that fits the width: columns that are equal in every row move below it, then spare and last ones go."""
    console = out()
    if listing.title:
        console.print(f"[bold]{escaped(listing.title)}[/]")
    if not listing.rows:
        console.print(f"[dim]{escaped(listing.empty)}[/]")
        return
    shown = [place for place, name in enumerate(listing.columns) if name not in listing.extra]
    cells = {place: [cell(row[place]) for row in listing.rows] for place in shown}
    whole = (listing, cells)
    if listing.stacked and _needed(_sizes(listing, cells), shown, WORDS_WHOLE) > console.width:
        listing, cells = _stacked(listing, cells, listing.stacked)
    sizes = _sizes(listing, cells)
    if len(listing.rows) == 1 and listing.upright and _needed(sizes, [*cells]) > console.width:
        _show_one(console, *whole)
        return
    kept, constant, hidden = _fit(listing, cells, sizes, console.width)
    widths = _widths(listing, {place: sizes[place] for place in kept}, console.width)
    console.print(_table(listing, {place: cells[place] for place in kept}, widths))
    if constant:
        told = ", ".join(f"{listing.columns[place]} {cells[place][0]}" for place in constant)
        console.print(f"[dim]every row: {escaped(told)}[/]")
    if hidden:
        names = ", ".join(listing.columns[place] for place in hidden)
        console.print(f"[dim]not shown at this width: {escaped(names)} (--format csv has all)[/]")


def _stacked(
    listing: Listing, cells: dict[int, list[str]], names: tuple[str, str]
) -> tuple[Listing, dict[int, list[str]]]:
    """The two columns ``names`` in one, the first above the second."""
    above, below = map([*listing.columns].index, names)
    both = [f"{one}\n{other}".rstrip() for one, other in zip(cells[above], cells[below], strict=True)]
    header = f"{_header(listing, above)} / {_header(listing, below)}"
    kept = {place: both if place == below else texts for place, texts in cells.items() if place != above}
    return replace(listing, headers=listing.headers | {names[1]: header}), kept


def _show_one(console: Console, listing: Listing, cells: dict[int, list[str]]) -> None:
    """A single row that is too wide: one line per column."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, GAP))
    for place, (value,) in cells.items():
        table.add_row(Text(_header(listing, place), style="bold"), Text(value, style=STYLES.get(value, "")))
    console.print(table)


def _fit(
    listing: Listing, cells: dict[int, list[str]], sizes: Sizes, width: int
) -> tuple[list[int], list[int], list[int]]:
    """Which columns are kept, which are told below the table, and which do not fit."""
    kept = list(cells)
    constant: list[int] = []
    while kept and _needed(sizes, kept) > width:
        same = [place for place in kept if len(cells[place]) > 1 and len(set(cells[place])) == 1]
        if not same or len(kept) <= 2:
            break
        kept.remove(same[0])
        constant.append(same[0])
    hidden: list[int] = []
    while len(kept) > 1 and _needed(sizes, kept) > width:
        spare = [place for place in kept if listing.columns[place] in listing.spare]
        hidden.append((spare or kept)[-1])
        kept.remove(hidden[-1])
    return kept, constant, sorted(hidden)


def _sizes(listing: Listing, cells: dict[int, list[str]]) -> Sizes:
    """Per column the width of its widest line, the one that keeps its words whole, and the least."""
    from rich.cells import cell_len

    found = {}
    for place, texts in cells.items():
        lines = [line for text in (_header(listing, place), *texts) for line in text.splitlines()]
        widest = whole = least = max(map(cell_len, lines), default=0)
        if listing.columns[place] in listing.wrapped:
            words = (cell_len(word) for line in lines for word in line.split())
            least = min(widest, MIN_WRAPPED)
            whole = max([least, *(size for size in words if size <= WHOLE)])
        found[place] = (widest, whole, least)
    return found


def _needed(sizes: Sizes, places: Sequence[int], kind: int = LEAST) -> int:
    return GAP * (len(places) - 1) + sum(sizes[place][kind] for place in places)


def _widths(listing: Listing, sizes: Sizes, width: int) -> dict[int, int]:
    """The widths of wrapped columns: the widest give way first, and words are broken only where there is no room."""
    chosen = {place: one for place, one in sizes.items() if listing.columns[place] in listing.wrapped}
    others = sum(one[WIDEST] for place, one in sizes.items() if place not in chosen)
    room = width - GAP * (len(sizes) - 1) - others
    wide, *leasts = ([one[kind] for one in chosen.values()] for kind in (WIDEST, WORDS_WHOLE, LEAST))
    for least in (*leasts, [1] * len(chosen)):
        for most in range(width, 0, -1):
            found = [min(widest, max(low, most)) for widest, low in zip(wide, least, strict=True)]
            if sum(found) <= room:
                return dict(zip(chosen, found, strict=True))
    return {}


def _header(listing: Listing, place: int) -> str:
    name = listing.columns[place]
    return listing.headers.get(name, name)


def _table(listing: Listing, cells: dict[int, list[str]], widths: dict[int, int]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0), header_style="bold")
    for place in cells:
        name = listing.columns[place]
        is_number = all(_is_number(row[place]) for row in listing.rows)
        table.add_column(
            Text(_header(listing, place)),
            justify="right" if is_number else "left",
            no_wrap=name not in listing.wrapped,
            width=widths.get(place),
            overflow="fold" if name in listing.wrapped else "ellipsis",
        )
    for texts in zip(*cells.values(), strict=True):
        table.add_row(*(Text(text, style=STYLES.get(text, "")) for text in texts))
    return table


STYLES = {
    "-": "dim",
    "current": "green",
    "captured": "green",
    "inserted": "green",
    "updated": "cyan",
    "blocked": "red",
    "added": "green",
    "removed": "red",
    "changed": "yellow",
    "skipped": "dim",
    "CRITICAL": "bold red",
    "ERROR": "red",
    "WARN": "yellow",
    "in force": "green",
    "superseded": "dim",
    "resolved": "dim",
    "CERTIFIED": "green",
    "PRELIMINARY": "yellow",
    "BLOCKED": "red",
    "MISSING": "red",
}


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float | Decimal) and not isinstance(value, bool))


def escaped(text: str) -> str:
    """``text`` for a line with rich markup: brackets in data stay brackets."""
    from rich.markup import escape

    return escape(text)
