"""The API as one ASGI application: its routes, what surrounds them, and what runs while it does.

What belongs here: putting them together. What does not: starting a server (`cli.serve`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import anyio.to_thread
import structlog
from fastapi import APIRouter, FastAPI

from market_spine import __version__
from market_spine.api import problems
from market_spine.api.desk import Desk
from market_spine.api.messages import Messages
from market_spine.api.problems import DOCUMENT, PREFIX
from market_spine.api.routes import catalog, data, findings, health, readiness, uses, work
from market_spine.store import outbox

THREADS = 12  # that answer at once; the control database has 15 connections
LOOK_SECONDS = 30.0  # between two looks at the uses that are on disk
# Rows are made of them when the first is so old, or they are so many: 50,000 journal entries a year where something is
# always asked, instead of a million. Whoever asks for uses has them made at once.
COLLECT_SECONDS, COLLECT_BYTES = 600.0, 2 << 20
ABOUT = """FINRA weekly OTC and ATS transparency data: rows in any version, whether they may be used yet, and what
stands against it.

* Weeks are named by the Friday that ends them; tiers are `NMS_TIER_1`, `NMS_TIER_2` and `OTC`.
* Moments are UTC (ISO 8601). Volumes are shares, shares of a whole are 0..1.
* Every answer with rows has the version of its data: `ETag` and `X-Data-Version` name the captures that it rests on,
  `X-Capture-Ids` lists them. The same request with `data_version=` gets the same bytes, whatever came since.
* Every use is on record: who, when, what, and which captures answered.
* Failures are problem details (RFC 9457) with the next step in `next`.
"""


def create_app(desk: Desk) -> FastAPI:
    """The application that answers from the store of ``desk``."""
    app = FastAPI(
        title="Market Spine",
        version=__version__,
        description=ABOUT,
        openapi_url=DOCUMENT,
        docs_url=None,  # its page would load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # a redirect would name the host as the request does
        lifespan=_running,
    )
    app.state.desk = desk
    problems.install(app)
    routes = APIRouter(prefix=PREFIX)
    for module in (readiness, data, findings, catalog, work, uses, health):
        routes.include_router(module.router)
    app.include_router(routes)
    app.include_router(health.metrics)
    app.add_middleware(Messages)
    _describe(app)
    return app


def _describe(app: FastAPI) -> None:
    """The OpenAPI document, made once, with the schemas of failures in it."""
    made = problems.named(app.openapi())
    app.openapi = lambda: made  # type: ignore[method-assign]  # as FastAPI's documentation has it


@asynccontextmanager
async def _running(app: FastAPI) -> AsyncIterator[None]:
    desk: Desk = app.state.desk
    logging.getLogger("uvicorn.access").disabled = True  # its lines have whole URLs, which may hold anything
    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
    # A thread of its own: what thousands of lines take is given back to the heap of the thread that took it, and each
    # of twelve would keep 10 MB.
    with ThreadPoolExecutor(1, thread_name_prefix="uses") as collector:
        collecting = asyncio.create_task(_collect(desk, collector))
        try:
            yield
        finally:
            collecting.cancel()
            await asyncio.get_running_loop().run_in_executor(collector, _collect_once, desk)
            desk.answers.close()


async def _collect(desk: Desk, collector: ThreadPoolExecutor) -> None:
    """Uses are on disk already: what fails here is tried again, and is not lost."""
    loop, waited = asyncio.get_running_loop(), 0.0
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        waited += LOOK_SECONDS
        least = 1 if waited >= COLLECT_SECONDS else COLLECT_BYTES
        if await loop.run_in_executor(collector, _collect_once, desk, least):
            waited = 0.0


def _collect_once(desk: Desk, least: int = 1) -> bool:
    """Make rows where so many bytes are there, and whether they are. Told where it fails, and tried again."""
    is_enough = False
    try:
        is_enough = outbox.size(desk.store.home) >= least
        if is_enough:
            desk.collect()
    except Exception as error:  # noqa: BLE001 - whatever it is, the lines are on disk, and the next look takes them
        structlog.get_logger().warning("uses_not_collected", cause=str(error))
    return is_enough
