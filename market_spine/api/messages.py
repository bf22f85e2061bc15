"""What every request has: an id, a bound on its size, a line in the log, and headers that every answer bears.

What belongs here: the outermost layer, in ASGI. What does not: who asks and for what.
"""

from __future__ import annotations

import re
import time
import uuid
from typing import TYPE_CHECKING, Any

import structlog
from fastapi import HTTPException, Request
from starlette.datastructures import Headers, MutableHeaders

from market_spine.api import problems, traffic

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LONGEST = 8 << 10  # bytes of a path and its parameters: 200 symbols are 4 KiB
MOST = 64 << 10  # bytes of a body: the largest that is meant asks for a thousand work items
ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
SHOWN = 200  # characters of a path in the log
EXPECTED = {200, 201, 304, 404}  # told at INFO; the rest is worth a warning
ALWAYS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


class Messages:
    """Around the whole app."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["method"] == "HEAD":  # as GET, of which the server sends the head alone
            scope = {**scope, "method": "GET"}
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        scope["request_id"] = given if ID.fullmatch(given) else uuid.uuid4().hex[:12]
        started, told = time.perf_counter(), _Told()

        async def answered(message: Message) -> None:
            if message["type"] == "http.response.start":
                told.status = message["status"]
                MutableHeaders(scope=message).update(ALWAYS | {"X-Request-Id": scope["request_id"]})
            elif message["type"] == "http.response.body":
                told.bytes += len(message.get("body", b""))
            await send(message)

        structlog.contextvars.bind_contextvars(request_id=scope["request_id"])
        try:
            await self._answer(scope, _bounded(headers, receive), answered, told)
        finally:
            seconds = time.perf_counter() - started
            traffic.count(scope, told.status, seconds)
            try:
                _log(scope, told, seconds)
            except (OSError, ValueError):  # a full disk, or a stream that is closed: no fault of the request's, and
                traffic.UNLOGGED.inc()  # nothing that the log could tell
            structlog.contextvars.unbind_contextvars("request_id")

    async def _answer(self, scope: Scope, receive: Receive, send: Send, told: _Told) -> None:
        """An answer to whatever is asked; a failure that nobody foresaw is told and counted as well."""
        request = Request(scope)
        if len(scope["raw_path"]) + len(scope["query_string"]) > LONGEST:
            refused = problems.problem(request, 414, f"more than {LONGEST >> 10} KiB of URL", problems.NEXT[414])
            await refused(scope, receive, send)
            return
        try:
            await self.app(scope, receive, send)
        except Exception as error:
            answer = problems.unexpected(request, error)
            if told.status:  # it has begun: breaking it off is all that is left to say
                raise
            await answer(scope, receive, send)


class _Told:
    status = 0  # none was sent: the client went away, or the server failed
    bytes = 0


def _bounded(headers: Headers, receive: Receive) -> Receive:
    """``receive`` that refuses a body which is larger than any that is meant, whatever its header says."""
    seen = 0

    async def checked() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        length = headers.get("content-length", "0")
        if seen > MOST or (length.isdecimal() and int(length) > MOST):
            raise HTTPException(413, f"a body of more than {MOST >> 10} KiB")
        return message

    return checked


def _log(scope: Scope, told: _Told, seconds: float) -> None:
    """One line: the path without its parameters, which may be anything; never a header."""
    log = structlog.get_logger()
    line: dict[str, Any] = {
        "method": scope["method"],
        "path": scope["path"][:SHOWN],
        "status": told.status,
        "seconds": round(seconds, 4),
        "bytes": told.bytes,
        "actor": scope.get("actor"),
        "client": scope["client"][0] if scope.get("client") else None,
    }
    (log.info if told.status in EXPECTED else log.warning)("api_request", **line)
