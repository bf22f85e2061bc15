"""Putting an answer on record: who was told what, before it goes out."""

from __future__ import annotations

from typing import Any

from fastapi import Request

from market_spine.api.security import desk_of
from market_spine.domain.serving import Via
from market_spine.governance.consumption import Use
from market_spine.governance.tokens import Holder
from market_spine.logs import redacted
from market_spine.store.manifest import Capture


def told(request: Request, holder: Holder, captures: tuple[Capture, ...] = (), **more: Any) -> None:
    """Put down a use, of which ``more`` are fields; StoreError where that fails, and then nothing is answered."""
    desk = desk_of(request)
    query = f"?{request.url.query}" if request.url.query else ""
    path = request.scope["raw_path"].decode("latin-1")  # as it was sent: decoded, it may hold anything
    asked = redacted(f"{request.method} {path}{query}")
    ids = tuple(one.capture_id for one in captures)
    desk.recorder.put(Use(desk.now(), holder.name, Via.API, asked, ids, holder.token_id, **more))
