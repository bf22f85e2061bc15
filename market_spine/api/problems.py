"""Failures as RFC 9457 problem details: what it is, why, and the next step.

What belongs here: which status a failure has, and its form. What does not: causes and remedies, which errors bring.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from market_spine.domain import errors
from market_spine.logs import redacted

if TYPE_CHECKING:
    from fastapi import Request

MEDIA_TYPE = "application/problem+json"
SOON = 5  # seconds after which what is busy or being mended is worth another try
TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    409: "Conflict",
    413: "Content Too Large",
    414: "URI Too Long",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
# The nearest base class counts.
STATUSES: dict[type[Exception], int] = {
    errors.NotFoundError: 404,
    errors.ConflictError: 409,
    errors.AccessError: 401,
    errors.ScopeError: 403,
    errors.LimitError: 429,
    errors.FormError: 406,
    errors.WorkError: 409,
    errors.StoreError: 503,
    errors.SourceError: 503,
    errors.SpineError: 422,
}
CATALOG = re.compile(r"spine catalog( [a-z0-9_]+)?")
OPTION = re.compile(r"--([a-z]+(?:-[a-z]+)*)")
PREFIX = "/api/v1"
DOCUMENT = f"{PREFIX}/openapi.json"
NEXT = {
    404: f"see the paths in {DOCUMENT}",
    405: f"see the methods in {DOCUMENT}",
    413: "ask for less at once",
    414: "ask for less at once",
    500: "repeat it; if it fails again, look for the request id in the server's log",
}


class Problem(BaseModel):
    """What went wrong, and what helps (RFC 9457)."""

    type: str = Field(description="The kind of failure", examples=["urn:market-spine:problem:not-found"])
    title: str = Field(description="The kind of failure, for people", examples=["Not Found"])
    status: int = Field(description="The HTTP status", examples=[404])
    detail: str = Field(description="What is wrong, in a sentence", examples=["there is no table 'otc_rwa'"])
    instance: str = Field(description="The path that was asked", examples=["/api/v1/data/otc_rwa"])
    next: str = Field(description="The next step", examples=["nearest: otc_raw; all of them with: spine catalog"])
    request_id: str = Field(description="Names the request in the server's log", examples=["6f1d2c3b4a59"])


def problem(
    request: Request, status: int, detail: str, step: str, title: str | None = None, **more: Any
) -> JSONResponse:
    """The answer of a failure of the kind ``title``, else of the usual one of ``status``; ``more`` are its members."""
    title = title or TITLES[status]
    told = Problem(
        type=f"urn:market-spine:problem:{title.lower().replace(' ', '-')}",
        title=title,
        status=status,
        detail=redacted(detail),  # it may quote what was asked
        instance=redacted(request.url.path),
        next=step,
        request_id=request.scope.get("request_id", ""),
    )
    headers = {"Cache-Control": "no-store"}
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="market-spine"'
    if status == 503:
        headers["Retry-After"] = str(SOON)
    return JSONResponse(told.model_dump() | more, status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Make every failure of ``app`` a problem."""
    app.add_exception_handler(errors.SpineError, _expected)  # type: ignore[arg-type]  # Starlette types no handler
    app.add_exception_handler(RequestValidationError, _malformed)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _refused)  # type: ignore[arg-type]


def status_of(error: errors.SpineError) -> int:
    """The status that tells a program what kind of failure it is."""
    return next(STATUSES[base] for base in type(error).__mro__ if base in STATUSES)


async def _expected(request: Request, error: errors.SpineError) -> JSONResponse:
    status = status_of(error)
    answer = problem(request, status, error.cause, _for_programs(error.remedy))
    if isinstance(error, errors.LimitError):
        answer.headers["Retry-After"] = str(error.seconds)
    if status >= 500:
        structlog.get_logger().warning("api_unavailable", cause=error.cause, remedy=error.remedy)
    return answer


def _for_programs(remedy: str) -> str:
    """A remedy in the words of this API, where it speaks of options and of lists that the API has; commands stay."""
    told = CATALOG.sub(lambda one: f"GET /api/v1/catalog{f'/{one[1].strip()}' if one[1] else ''}", remedy)
    return told if "spine " in told else OPTION.sub(lambda one: one[1].replace("-", "_"), told)


async def _malformed(request: Request, error: RequestValidationError) -> JSONResponse:
    """Which parameters, and why; never their values, which may be anything."""
    told = [f"{'.'.join(map(str, one['loc'][1:])) or one['loc'][0]}: {one['msg']}" for one in error.errors()]
    detail = "; ".join(told[:5])[:500]
    return problem(request, 422, detail, f"see the parameters in {DOCUMENT}")


async def _refused(request: Request, error: HTTPException) -> JSONResponse:
    status = error.status_code if error.status_code in TITLES else 400
    nothing = f"there is nothing at {request.url.path}" if error.detail == TITLES[404] else ""
    answer = problem(request, status, nothing or str(error.detail), NEXT.get(status, f"see {DOCUMENT}"))
    answer.headers.update(error.headers or {})
    return answer


def unexpected(request: Request, error: Exception) -> JSONResponse:
    """A failure that nobody foresaw: its text is in the log, not in the answer."""
    told = redacted(f"{type(error).__name__}: {error}")
    structlog.get_logger().error("api_failed", error=told, path=request.url.path, exc_info=error)
    return problem(request, 500, "an unexpected failure", NEXT[500])


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of failures, of the one that every path has as well; `named` puts the schemas there."""
    return {one: {"description": TITLES[one], "content": content(Problem)} for one in sorted({*statuses, 414})}


def content(model: type[Problem]) -> dict[str, Any]:
    """The form of a failure. Not as FastAPI's ``model``, which would have it as application/json too."""
    return {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}


def named(document: dict[str, Any]) -> dict[str, Any]:
    """``document`` with the schemas of failures."""
    places = document["components"]["schemas"]
    models: list[type[Problem]] = [Problem, *Problem.__subclasses__()]
    for model in models:
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        places |= schema.pop("$defs", {})
        places[model.__name__] = schema
    return document
