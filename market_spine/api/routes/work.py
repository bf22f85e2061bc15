"""Loads that were asked for: adding, listing, trying again, cancelling. Runs are Dagster's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from market_spine.api import problems
from market_spine.api.models import Change
from market_spine.api.operations import Enqueue, Enqueued, Numbers, WorkInFull, WorkItem, WorkItems
from market_spine.api.problems import Problem
from market_spine.api.recording import told
from market_spine.api.routes.findings import CHANGE, READ, Number
from market_spine.api.routes.lists import OfWeeks
from market_spine.api.security import Operator, Reader, desk_of
from market_spine.automation import work as claims
from market_spine.automation.asks import asked_for
from market_spine.automation.pipelines import find
from market_spine.automation.request import Params, policy_of
from market_spine.domain.errors import NotFoundError
from market_spine.domain.tiers import tier as parse_tier
from market_spine.domain.weeks import week_ending as parse_week
from market_spine.domain.work import WorkState
from market_spine.feeds import load_feeds
from market_spine.governance import work as ledger
from market_spine.store import work
from market_spine.store.work import Row

router = APIRouter(prefix="/work", tags=["work"])


class Held(Problem, Enqueued):
    """Nothing was added: every partition was asked for before and is not done yet."""


class OfWork(OfWeeks):
    """Which work items."""

    state: list[WorkState] = Field([], max_length=6, description="In these states; else what is open or failed")
    with_done: bool = Field(False, description="Also what is complete or cancelled")


@router.get("", responses=READ, summary="What was asked for")
@router.get("/pending", responses=READ, summary="What was asked for and is not done")
def items(request: Request, holder: Reader, of: Annotated[OfWork, Query()]) -> WorkItems:
    """In the order in which it is done: what is open or failed, unless states are named."""
    states: Sequence[str] = of.state or ([] if of.with_done else [*work.OPEN, WorkState.FAILED])
    with desk_of(request).store.control.read() as connection:
        rows = work.items(connection, None, states, None, of.week, of.tiers, of.limit, of.offset)
    told(request, holder, row_count=len(rows))
    return _items(rows)


@router.get("/{number}", responses=READ, summary="One work item in full")
def item(request: Request, holder: Reader, number: Number) -> WorkInFull:
    """With everything that happened to it."""
    with desk_of(request).store.control.read() as connection:
        rows, happened = work.items(connection, ids=[number]), work.log_of(connection, number)
    if not rows:
        raise NotFoundError(f"there is no work item {number}", "GET /api/v1/work?with_done=true")
    told(request, holder, row_count=1)
    history = [Change(**{name: value for name, value in one.items() if name != "batch_id"}) for one in happened]
    return WorkInFull(**rows[0], history=history)


@router.post(
    "/enqueue",
    status_code=201,
    responses=CHANGE
    | {
        409: {
            "description": "Nothing was added: all of it is asked for and not done yet",
            "content": problems.content(Held),
        }
    },
    response_model=Enqueued,
    summary="Ask for a week or a range",
)
def enqueue(request: Request, holder: Operator, wanted: Enqueue) -> Response | Enqueued:
    """The daemon runs it, by priority. A partition that is asked for and not done yet is not asked for twice: 409 where
    that is so of all. Scope: operate."""
    desk = desk_of(request)
    run = desk.run()
    feed, pipeline = find(load_feeds(), wanted.pipeline)
    params = Params(
        week_ending=parse_week(wanted.week_ending) if wanted.week_ending else None,
        tiers=tuple(dict.fromkeys(parse_tier(text) for text in wanted.tiers)),
        weeks_back=wanted.weeks_back,
        first=parse_week(wanted.first) if wanted.first else None,
        last=parse_week(wanted.last) if wanted.last else None,
        min_records=wanted.min_records,
        policy=policy_of(wanted.revision_policy) if wanted.revision_policy else None,
        force=wanted.force,
    )
    asks, _ = asked_for(feed, pipeline, params, run.now, wanted.priority)
    found = ledger.enqueue(desk.store, run, asks, holder.name)
    told(request, holder, status=201 if found.added else 409, row_count=len(found.added) + len(found.held))
    answer = Enqueued(added=_items(found.added).items, held=_items(found.held).items)
    if found.added:
        return answer
    numbers = ", ".join(str(row["id"]) for row in found.held[:10])
    cause = f"all of it was asked for before and is not done yet: work items {numbers}"
    step = f"GET /api/v1/work/{found.held[0]['id']}" if found.held else "name a week"
    return problems.problem(request, 409, cause, step, **answer.model_dump(mode="json"))


@router.post("/retry", responses=CHANGE, summary="Try failed or waiting items again")
def retry(request: Request, holder: Operator, numbers: Numbers) -> WorkItems:
    """At once, with all their attempts; 409 where an item is neither failed nor waiting. Scope: operate."""
    desk = desk_of(request)
    rows = ledger.retry(desk.store, desk.run(), numbers.ids, holder.name)
    told(request, holder, row_count=len(rows))
    return _items(rows)


@router.post("/cancel", responses=CHANGE, summary="Cancel items that are open or failed")
def cancel(request: Request, holder: Operator, numbers: Numbers) -> WorkItems:
    """And end the runs that do nothing else; what is captured by then stays. Scope: operate."""
    desk = desk_of(request)
    with desk.open_instance() as instance:
        claims.cancel(desk.spine, instance, desk.run(), numbers.ids, holder.name)
    with desk.store.control.read() as connection:
        rows = work.items(connection, ids=numbers.ids)
    told(request, holder, row_count=len(rows))
    return _items(rows)


def _items(rows: Sequence[Row]) -> WorkItems:
    return WorkItems(items=[WorkItem(**_named(row)) for row in rows])


def _named(row: Row) -> dict[str, Any]:
    return {name: row[name] for name in WorkItem.model_fields}
