"""`spine catalog`: what there is to run and to read. A view over the definitions, so that it cannot disagree."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from market_spine.cli.output import Format, FormatOption, Listing, code, escaped, say, show

if TYPE_CHECKING:
    from market_spine.assets.compute import Step
    from market_spine.cli.tables import Named
    from market_spine.domain.contracts import Table


ALIAS = "another name of"


def catalog(
    table: Annotated[str | None, typer.Argument(metavar="[TABLE]", help="One table in full.")] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """List tables, views and pipelines; with a table: its columns, lineage and SQL.

    Example: spine catalog

    Example: spine catalog symbol_hhi
    """
    from market_spine.cli.tables import find

    if table:
        _one(find(table), form)
        return
    entries = _entries()
    if form is not Format.TABLE:
        show(Listing(["kind", "name", "grain", "version", "stage", "description"], entries), form)
        return
    for kind, title in (("table", "Tables"), ("view", "Views"), ("pipeline", "Pipelines (spine run NAME)")):
        rows = [entry for entry in entries if entry[0] == kind and not _is_alias(entry)]
        columns = ["name", "version", "description"] if kind == "table" else ["name", "description"]
        cut = [[one[1], one[3], one[5]] if kind == "table" else [one[1], one[5]] for one in rows]
        show(Listing(columns, cut, title, wrapped=frozenset({"description"})))
        say("")
    aliases = sum(map(_is_alias, entries))
    say(f"[dim]{aliases} longer names of the same tables are views too: spine catalog --format csv[/]")
    say("[dim]one in full: spine catalog TABLE[/]")


def _is_alias(entry: Sequence[Any]) -> bool:
    """Whether a view is a table's longer name."""
    return entry[0] == "view" and str(entry[5]).startswith(ALIAS)


def _entries() -> list[list[Any]]:
    from market_spine.assets.tables import steps_of, tables_of
    from market_spine.assets.views import views_of
    from market_spine.automation.pipelines import pipelines_of
    from market_spine.cli.state import feeds

    found: list[list[Any]] = []
    for feed in feeds():
        versions = {step.table_name: step.calculation.version for step in steps_of(feed).values()}
        for name, one in tables_of(feed).items():
            grain, version = ", ".join(one.grain), versions.get(name, "1.0")
            found.append(["table", name, grain, version, one.stage.value, one.description])
        for extra in views_of(feed):
            is_macro = "MACRO" in extra.sql
            told = f"macro {extra.sql.partition(' MACRO ')[2].partition(' AS ')[0]}" if is_macro else _of(extra.sql)
            found.append(["view", extra.name, None, None, None, told])
        for pipeline in pipelines_of(feed).values():
            found.append(["pipeline", pipeline.name, None, None, None, pipeline.description])
    return found


def _of(sql: str) -> str:
    """The tables that a view reads."""
    words = sql.replace("\n", " ").split()
    names = [words[place + 1] for place, word in enumerate(words[:-1]) if word in ("FROM", "JOIN")]
    is_alias = sql.partition(" AS ")[2].split() == ["SELECT", "*", "FROM", *names]
    return f"{ALIAS if is_alias else 'over'} {', '.join(dict.fromkeys(names))}"


def _one(named: Named, form: Format) -> None:
    from market_spine.assets.tables import steps_of

    steps = {step.table_name: step for step in steps_of(named.feed).values()}
    step = steps.get(named.sql_name)
    if named.table is None:
        _view(named, form)
        return
    lineage = _lineage(step) if step else {}
    rows = [
        [one.name, one.type, one.nullable, one.description, lineage.get(one.name, "")] for one in named.table.columns
    ]
    columns = ["column", "type", "nullable", "description", "from"]
    if form is Format.TABLE:
        _head(named, named.table, step)
    wrapped = frozenset({"description", "from"})
    show(Listing(columns, rows, wrapped=wrapped), form)
    if form is Format.TABLE and step:
        say("\n[bold]SQL[/]")
        code(dedented(step.calculation.sql))


def _head(named: Named, table: Table, step: Step | None) -> None:
    say(f"[bold]{named.sql_name}[/]  {escaped(table.description)}")
    facts = {"stage": table.stage.value, "grain": ", ".join(table.grain), "feed": named.feed.title}
    if step:
        spec = step.calculation.spec()
        facts |= {"version": spec.version, "inputs": ", ".join(spec.input_tables), "rows": spec.expected_row_count}
        facts |= {"weeks": str(spec.weeks_required)} if spec.weeks_required > 1 else {}
        facts |= {"replaces": spec.replaces} if spec.replaces else {}
    for name, value in facts.items():
        say(f"  {name:<9}{escaped(value)}")
    for assumption in step.calculation.assumptions if step else ():
        say(f"  * {escaped(assumption)}")
    say("")


def dedented(sql: str) -> str:
    """SQL as it stands in a module, without the module's indent."""
    return inspect.cleandoc("\n" + sql)


def _view(named: Named, form: Format) -> None:
    from market_spine.assets.views import views_of

    (extra,) = (one for one in views_of(named.feed) if one.name == named.sql_name)
    if form is not Format.TABLE:
        show(Listing(["name", "sql"], [[named.sql_name, dedented(extra.sql)]]), form)
        return
    say(f"[bold]{named.sql_name}[/]  {escaped(extra.description)} A view over the latest captures.\n")
    code(dedented(extra.sql))


def _lineage(step: Step) -> dict[str, str]:
    """Column -> the input columns it is computed from, read from the SQL."""
    from market_spine.domain.lineage import column_lineage

    found = column_lineage(step.calculation, step.known_columns)
    return {column: ", ".join(f"{table}.{source}" for table, source in sources) for column, sources in found.items()}
