"""What there is to read, how it is made, and what depends on it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request

from market_spine.api import problems
from market_spine.api.desk import Desk
from market_spine.api.operations import Catalog, CatalogEntry, Column, DependentTable, Impact, Partition, TableInFull
from market_spine.api.recording import told
from market_spine.api.routes.data import TableName
from market_spine.api.routes.lists import OfWeeks
from market_spine.api.security import Reader, desk_of
from market_spine.assets.impact import asked_of, check_week, follows, reached, views_over
from market_spine.assets.names import Named, find
from market_spine.assets.reading import show, sources_of
from market_spine.assets.tables import lineage_of, steps_of
from market_spine.assets.views import views_of
from market_spine.automation.catalog import dedented, entries
from market_spine.domain.tiers import tier as parse_tier

router = APIRouter(tags=["catalog"])
READ = problems.responses(401, 403, 404, 422, 429, 503)
Subject = Annotated[
    str,
    Path(
        max_length=160,
        pattern=r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?$",
        description="A table, or TABLE.COLUMN",
        examples=["venue_volume.total_shares"],
    ),
]


@router.get("/catalog", responses=READ, summary="Tables, views, pipelines")
def catalog(request: Request, holder: Reader) -> Catalog:
    """Everything there is to read and to run, in the order of the stages."""
    told(request, holder)
    return Catalog(items=[CatalogEntry(**asdict(one)) for one in entries()])


@router.get("/catalog/{table}", responses=READ, summary="One table or view in full")
def table(request: Request, holder: Reader, table: TableName) -> TableInFull:
    """Its columns with units and lineage, and the SQL that makes it."""
    named = find(table)
    found = _view(desk_of(request), named) if named.table is None else _table(named)
    told(request, holder)
    return found


def _table(named: Named) -> TableInFull:
    assert named.table is not None  # noqa: S101 - its caller has asked
    lineage = lineage_of(named.feed).get(named.sql_name, {})
    step = {one.table_name: one for one in steps_of(named.feed).values()}.get(named.sql_name)
    columns = [
        Column(
            name=one.name,
            type=one.type,
            nullable=one.nullable,
            description=one.description,
            sources=[".".join(source) for source in lineage.get(one.name, ())],
        )
        for one in named.table.columns
    ]
    return TableInFull(
        name=named.sql_name,
        description=named.table.description,
        grain=list(named.table.grain),
        stage=named.table.stage.value,
        version=step.calculation.version if step else None,
        inputs=[entry.sql_name for entry, _ in step.inputs.values()] if step else [],
        columns=columns,
        sql=dedented(step.calculation.sql) if step else None,
    )


def _view(desk: Desk, named: Named) -> TableInFull:
    """A view's columns are those of its SQL over empty tables."""
    (extra,) = (one for one in views_of(named.feed) if one.name == named.sql_name)
    with desk.answers.turn(), desk.store.engine() as engine:
        show(desk.store, engine, named, ())
        described = engine.execute(f"DESCRIBE {named.sql_name}").fetchall()
    columns = [Column(name=name, type=kind, nullable=True, description="", sources=[]) for name, kind, *_ in described]
    return TableInFull(
        name=named.sql_name,
        description=extra.description,
        grain=[],
        stage=None,
        version=None,
        inputs=list(sources_of(named).tables),
        columns=columns,
        sql=dedented(extra.sql),
    )


@router.get("/lineage/{name}", responses=READ, summary="What depends on a table or column")
def lineage(request: Request, holder: Reader, name: Subject, of: Annotated[OfWeeks, Query()]) -> Impact:
    """The tables and columns that are computed from it, and views over them; with a week also the current captures that
    a change of that week reaches."""
    asked, friday, tiers = asked_of(name), of.week, [parse_tier(text) for text in of.tier]
    check_week(asked, friday, tiers)
    found = reached(asked)
    places = follows(desk_of(request).store, asked, friday, tiers)[0] if friday else {}
    told(request, holder)
    return Impact(
        name=asked.text,
        tables=[
            DependentTable(
                table=one.table_name,
                through=list(one.through),
                weeks_in_window=one.weeks_back + 1,
                columns={column: [".".join(source) for source in sources] for column, sources in one.columns.items()},
            )
            for one in found
        ],
        views=views_over({asked.sql_name, *(one.table_name for one in found)}),
        partitions=[
            Partition(table=one.table_name, week_ending=one.key.week_ending, tier=one.key.tier_text)
            for one in list(places)[of.offset : of.offset + of.limit]
        ],
    )
