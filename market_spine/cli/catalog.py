"""`spine catalog`: what there is to run and to read. A view over the definitions, so that it cannot disagree."""

from __future__ import annotations

from dataclasses import astuple, fields
from typing import TYPE_CHECKING, Annotated

import typer

from market_spine.cli.output import Format, FormatOption, Listing, code, escaped, say, show

if TYPE_CHECKING:
    from market_spine.assets.compute import Step
    from market_spine.assets.names import Named
    from market_spine.domain.contracts import Table


KINDS = {
    "table": "Tables",
    "view": "Views",
    "macro": 'Macros (spine sql "FROM NAME(...)")',
    "pipeline": "Pipelines (spine run NAME)",
}


def catalog(
    table: Annotated[str | None, typer.Argument(metavar="[TABLE]", help="One table in full.")] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """List tables, views and pipelines; with a table: its columns, lineage and SQL.

    Example: spine catalog

    Example: spine catalog symbol_hhi
    """
    from market_spine.assets.names import find
    from market_spine.automation.catalog import Entry, entries

    if table:
        _one(find(table), form)
        return
    listed = entries()
    if form is not Format.TABLE:
        show(Listing([one.name for one in fields(Entry)], [astuple(one) for one in listed]), form)
        return
    for kind, title in KINDS.items():
        chosen = [one for one in listed if one.kind == kind and not one.is_alias]
        columns = ["name", "version", "description"] if kind == "table" else ["name", "description"]
        rows = [[getattr(one, column) for column in columns] for one in chosen]
        show(Listing(columns, rows, title, wrapped=frozenset({"description"})))
        say("")
    aliases = sum(one.is_alias for one in listed)
    say(f"[dim]{aliases} longer names of the same tables are views too: spine catalog --format csv[/]")
    say("[dim]one in full: spine catalog TABLE[/]")


def _one(named: Named, form: Format) -> None:
    from market_spine.assets.tables import steps_of
    from market_spine.automation.catalog import dedented

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


def _view(named: Named, form: Format) -> None:
    from market_spine.assets.views import views_of
    from market_spine.automation.catalog import dedented

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
