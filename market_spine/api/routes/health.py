"""Whether the server lives, whether it can answer, and its numbers.

Open to everybody are the first two: a supervisor has no token. They say nothing about the data.
"""

from __future__ import annotations

import structlog
from anyio import to_thread
from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import choose_encoder

from market_spine.api import problems, traffic
from market_spine.api.operations import Health
from market_spine.api.security import Reader, desk_of
from market_spine.assets.expected import schedule_of
from market_spine.assets.tables import tables_of
from market_spine.automation.exposition import Exposition
from market_spine.domain.errors import StoreError
from market_spine.feeds import load_feeds
from market_spine.governance.metrics import Watch, snapshot
from market_spine.store import outbox
from market_spine.store.control import migrations
from market_spine.store.health import schema_version
from market_spine.store.store import Store

OPEN_METRICS = "application/openmetrics-text"
router = APIRouter(prefix="/health", tags=["health"])
metrics = APIRouter(tags=["health"])


@router.get("/live", summary="Whether the server lives")
async def live() -> Health:
    """Answers while the process does; whether it can answer questions, /health/ready says."""
    return Health(status="alive")


@router.get("/ready", responses=problems.responses(503), summary="Whether the server can answer")
async def ready(request: Request) -> Health:
    """The control database answers and has this code's schema, and uses can be put on record. Why not is in the log."""
    desk = desk_of(request)
    try:
        await to_thread.run_sync(_check, desk.store, limiter=desk.supervisors)  # whatever the other threads wait for
    except Exception as error:
        structlog.get_logger().warning("api_not_ready", cause=str(error))
        raise StoreError(
            "the store does not answer, or takes no record of uses", "see the log of the server"
        ) from error
    return Health(status="ready")


def _check(store: Store) -> None:
    with store.control.read() as connection:
        held, known = schema_version(connection), migrations()[-1][0]
    if held != known:
        raise StoreError(f"the control database has schema {held or 'none'}, this code has {known}", "spine init")
    outbox.check(store.home)


@metrics.get(
    "/metrics",
    responses={
        200: {"content": {media: {"schema": {"type": "string"}} for media in ("text/plain", OPEN_METRICS)}},
        **problems.responses(401, 403, 429, 503),
    },
    response_class=Response,
    summary="Numbers for Prometheus",
)
def exposed(request: Request, _: Reader) -> Response:
    """The numbers of `spine metrics`, and how much is asked of this server; read anew at each scrape."""
    desk = desk_of(request)
    watches = [Watch(feed, schedule_of(feed), tables_of(feed)) for feed in load_feeds()]
    both = _Both(Exposition(snapshot(desk.store, watches, desk.now())))
    encode, media_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(both), media_type=media_type)


class _Both:
    """The numbers of the store and those of this server, for one page."""

    def __init__(self, exposition: Exposition) -> None:
        self.exposition = exposition

    def collect(self):  # type: ignore[no-untyped-def]  # as prometheus-client's own collectors
        yield from self.exposition.collect()
        yield from traffic.REGISTRY.collect()
