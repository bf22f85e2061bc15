"""Who used what, and who used what was superseded since."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import Field

from market_spine.api import problems
from market_spine.api.models import CaptureRow
from market_spine.api.operations import SupersededUse, SupersededUses, Use, Uses, Version
from market_spine.api.recording import told
from market_spine.api.routes.lists import Page
from market_spine.api.security import Admin, Reader, desk_of
from market_spine.api.selection import named_by
from market_spine.domain.captures import as_of_instant
from market_spine.store import consumption, listings
from market_spine.store.manifest import by_ids

router = APIRouter(tags=["uses"])
READ = problems.responses(401, 403, 404, 422, 429, 503)


DAY = len("2025-12-15")
MOMENTS = ["2025-12-15T15:00:00Z", "2025-12-15"]


class OfUses(Page):
    """Which uses."""

    actor: str | None = Field(None, max_length=80, description="Of one token or user")
    data_version: str | None = Field(None, pattern="^[0-9a-f]{32}$", description="Of one data version")
    since: str | None = Field(
        None,
        max_length=40,
        description="From this moment on, or from the beginning of this day (UTC)",
        examples=MOMENTS,
    )
    until: str | None = Field(
        None,
        max_length=40,
        description="Before this moment, or until the end of this day: fixes the list while it is paged through",
        examples=MOMENTS,
    )


@router.get("/uses", responses=READ, summary="Who used what")
def uses(request: Request, holder: Admin, of: Annotated[OfUses, Query()]) -> Uses:
    """The newest first, through whatever door. Scope: admin."""
    since = as_of_instant(f"{of.since}T00:00:00Z" if len(of.since) == DAY else of.since) if of.since else None
    until = as_of_instant(of.until) if of.until else None
    desk = desk_of(request)
    desk.collect()
    with desk.store.control.read() as connection:
        rows = consumption.uses(connection, of.actor, of.data_version, since, until, of.limit, of.offset)
    told(request, holder, row_count=len(rows))
    return Uses(items=[Use(**row) for row in rows])


@router.get("/uses/superseded", responses=READ, summary="Who used what was superseded since")
def superseded(request: Request, holder: Admin, of: Annotated[Page, Query()]) -> SupersededUses:
    """One row per use and capture that is not the newest of its partition any more, the newest use first.

    Scope: admin.
    """
    desk = desk_of(request)
    desk.collect()
    with desk.store.control.read() as connection:
        rows = consumption.superseded(connection, of.limit, of.offset)
    told(request, holder, row_count=len(rows))
    return SupersededUses(items=[SupersededUse(**row) for row in rows])


@router.get("/versions/{data_version}", responses=READ, summary="The captures of a data version")
def version(
    request: Request,
    holder: Reader,
    data_version: Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="X-Data-Version of an answer")],
) -> Version:
    """What answers with that version rest on."""
    desk = desk_of(request)
    with desk.store.control.read() as connection:
        named = [one.capture_id for one in named_by(desk, connection, data_version)]
        found = by_ids(connection, named)  # again: which of them are current may have changed
    told(request, holder, row_count=len(named))
    rows = [CaptureRow(**listings.capture_row(found[one])) for one in named]
    return Version(data_version=data_version, captures=rows)
