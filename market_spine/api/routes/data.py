"""Rows of tables and views, in any version and four forms.

What belongs here: paths, headers, the record of the use. What does not: which captures and rows (`api.selection`).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path as File
from typing import Annotated, Any, BinaryIO
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.datastructures import MutableHeaders

from market_spine.api import problems
from market_spine.api.answers import MEDIA_TYPES, WRITER, Form, Page, Rendered, form_of, render
from market_spine.api.desk import Desk
from market_spine.api.models import DataPage
from market_spine.api.recording import told
from market_spine.api.security import Reader, desk_of
from market_spine.api.selection import Rows, Selection, select
from market_spine.assets.names import Named, find
from market_spine.assets.reading import show, sources_of
from market_spine.domain.contracts import Feed
from market_spine.domain.errors import NotFoundError, QueryError
from market_spine.feeds import load_feeds
from market_spine.governance.tokens import Holder

router = APIRouter(prefix="/data", tags=["data"])
NAMED = 50  # capture ids in a header; /versions/{data_version} has all
SMALL = 256 << 10  # bytes that are sent at once; more is sent in pieces of this size
HEADERS = {
    "ETag": "The version of the answer; send it back in If-None-Match",
    "X-Data-Version": "Names the captures that the rows rest on; data_version= replays the answer",
    "X-Capture-Ids": f"Those captures, with commas; the first {NAMED}",
    "X-Capture-Count": "How many captures there are",
    "X-Missing": f"Weeks and tiers that were asked for and of which there is no capture; the first {NAMED}",
    "X-Row-Count": "Rows in this answer",
    "Link": "Where the next page is (rel=next), if there is one",
}
TOLD = {name: {"description": meaning, "schema": {"type": "string"}} for name, meaning in HEADERS.items()}
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Rows in the form that was asked for, the newest week first",
        "headers": TOLD,
        "model": DataPage,
        "content": {
            media: {} if form is Form.JSON else {"schema": {"type": "string", "format": "binary"}}
            for form, media in MEDIA_TYPES.items()
        },
    },
    304: {
        "description": "The version that was sent in If-None-Match is still right",
        "headers": {name: told for name, told in TOLD.items() if name not in ("X-Row-Count", "Link")},
    },
    **problems.responses(401, 403, 404, 406, 422, 429, 503),
}
Asked = Annotated[Rows, Query()]
TableName = Annotated[
    str,
    Path(
        max_length=80,
        pattern="^[A-Za-z0-9_]+$",
        description="A table or view by any of its names; /catalog lists them",
        examples=["otc_symbol_hhi", "venue_share"],
    ),
]


@router.get("/weeks", responses=ANSWERS, summary="Weeks: what each week and tier holds")
def weeks(request: Request, holder: Reader, asked: Asked) -> Response:
    """One row per week and tier: symbols, venues, shares, trades, and which revision of the delivery it is."""
    return answer(request, holder, find(_feed().sql_name("weeks")), asked)


@router.get("/symbols", responses=ANSWERS, summary="Symbols: measures of each symbol by week")
def symbols(request: Request, holder: Reader, asked: Asked) -> Response:
    """One row per week, tier and symbol: shares, trades, venues, concentration, shares per session, liquidity score."""
    return answer(request, holder, find(_feed().sql_name("symbol_profile")), asked)


@router.get("/symbols/{symbol}/history", responses=ANSWERS, summary="One symbol through all weeks")
def history(
    request: Request,
    holder: Reader,
    symbol: Annotated[str, Path(max_length=40, description="As published", examples=["AAPL"])],
    asked: Asked,
) -> Response:
    """As /data/symbols, of one symbol. NotFound where no week has it, with the symbols that are most like it."""
    if asked.symbol:
        raise QueryError("the symbol is in the path already", "leave the parameter symbol away")
    named = find(_feed().sql_name("symbol_profile"))
    return answer(request, holder, named, asked.model_copy(update={"symbol": [symbol]}), symbol)


@router.get("/venues", responses=ANSWERS, summary="Venues: shares and rank of each venue by week and tier")
def venues(request: Request, holder: Reader, asked: Asked) -> Response:
    """One row per week, tier and venue (MPID): shares, trades, symbols, its share of the tier and its rank."""
    return answer(request, holder, find(_feed().sql_name("venue_share")), asked)


@router.get("/{table}", responses=ANSWERS, summary="Any table or view of the catalog")
def table(request: Request, holder: Reader, table: TableName, asked: Asked) -> Response:
    """Rows of one table or view; its columns, units and lineage are in /catalog/{table}."""
    return answer(request, holder, find(table), asked)


def _feed() -> Feed:
    """The feed of the short paths: the first one."""
    return load_feeds()[0]


def answer(request: Request, holder: Holder, named: Named, asked: Rows, symbol: str = "") -> Response:
    """Rows, or that they are still the same; on record before they go out."""
    desk = desk_of(request)
    form = form_of(asked.format, ",".join(request.headers.getlist("accept")))
    chosen = select(desk, named, asked, form)
    key = (chosen.etag, repr(chosen.ask), form)
    rendered, stream = desk.answers.get(key, partial(_make, desk, chosen, form))
    etag = f'W/"{chosen.etag}-{form}{WRITER}"'
    is_same = _has(",".join(request.headers.getlist("if-none-match")), etag)
    outcome = {"status": 304} if is_same else {"row_count": rendered.row_count}
    try:
        if symbol and not rendered.row_count and not chosen.ask.offset:
            raise _unknown(desk, chosen, symbol)
        what = {"table_name": named.sql_name, "version": chosen.view, "form": form}
        told(request, holder, chosen.captures, definition=sources_of(named).definition, **what, **outcome)
    except BaseException:
        stream.close()
        raise
    headers = {"ETag": etag, "Cache-Control": "private, no-cache", "Vary": "Accept, Authorization"}
    headers |= _versions(chosen)
    if is_same:
        stream.close()
        return Response(status_code=304, headers=headers)
    headers |= {"X-Row-Count": str(rendered.row_count), "Content-Length": str(rendered.size)}
    if form is not Form.JSON:
        headers["Content-Disposition"] = f'attachment; filename="{named.sql_name}.{form}"'
    response = _response(stream, rendered, form, headers)
    if rendered.is_cut:
        _link(response.headers, request, chosen, rendered)
    return response


def _make(desk: Desk, chosen: Selection, form: Form, path: File) -> Rendered:
    name, following = chosen.ask.named.sql_name, chosen.cursor(chosen.ask.limit or 0)
    page = Page(name, chosen.data_version, chosen.missing, following)
    with desk.store.engine() as engine:
        show(desk.store, engine, chosen.ask.named, chosen.captures)
        return render(engine, chosen.ask, form, page, path)


def _versions(chosen: Selection) -> dict[str, str]:
    ids = [one.capture_id for one in chosen.captures[:NAMED]]
    missing = chosen.missing
    return {
        "X-Data-Version": chosen.data_version,
        "X-Capture-Ids": ",".join(ids),
        "X-Capture-Count": str(len(chosen.captures)),
        **({"X-Missing": ", ".join(missing[:NAMED])} if missing else {}),
    }


def _has(header: str, etag: str) -> bool:
    """Whether If-None-Match names ``etag``; weakly, as it is for GET."""
    listed = [one.strip().removeprefix("W/") for one in header.split(",")]
    return etag.removeprefix("W/") in listed or header.strip() == "*"


def _response(stream: BinaryIO, rendered: Rendered, form: Form, headers: dict[str, str]) -> Response:
    if rendered.size <= SMALL:
        with stream:
            return Response(stream.read(), headers=headers, media_type=form.media_type)
    return StreamingResponse(_pieces(stream), headers=headers, media_type=form.media_type)


def _pieces(stream: BinaryIO) -> Iterator[bytes]:
    with stream:
        while piece := stream.read(SMALL):
            yield piece


def _link(headers: MutableHeaders, request: Request, chosen: Selection, rendered: Rendered) -> None:
    kept = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    query = urlencode([*kept, ("cursor", chosen.cursor(rendered.row_count))])
    headers["Link"] = f'<{request.url.path}?{query}>; rel="next"'


def _unknown(desk: Desk, chosen: Selection, symbol: str) -> NotFoundError:
    from market_spine.assets.names import captured
    from market_spine.assets.reading import likest

    named, _ = captured(chosen.ask.named.feed.sql_name("symbol_summary"))
    held = [one for one in chosen.captures if one.table_name == named.sql_name]
    with desk.answers.turn():
        near = ", ".join(likest(desk.store, named, held, symbol)) if held else ""
    cause = f"no week that was asked for has the symbol {symbol!r}"
    return NotFoundError(cause, f"the nearest symbols: {near or 'none'}")
