"""Putting an answer on record: who was told what, before it goes out."""

from __future__ import annotations

from fastapi import Request

from market_spine.api.security import desk_of
from market_spine.domain.serving import Via
from market_spine.governance.consumption import Use
from market_spine.governance.tokens import Holder
from market_spine.logs import redacted
from market_spine.store.manifest import Capture

MOST = 4000  # characters of a request that are kept


def told(
    request: Request,
    holder: Holder,
    status: int = 200,
    captures: tuple[Capture, ...] = (),
    table_name: str = "",
    version: str = "",
    form: str = "json",
    rows: int | None = None,
) -> None:
    """Put down a use; StoreError where that fails, and then nothing is answered."""
    desk = desk_of(request)
    query = f"?{request.url.query}" if request.url.query else ""
    asked = redacted(f"{request.method} {request.url.path}{query}")[:MOST]
    ids = tuple(one.capture_id for one in captures)
    who = (desk.now(), holder.name, Via.API, asked, ids, holder.token_id)
    desk.recorder.put(Use(*who, table_name, version, form, status, rows))
