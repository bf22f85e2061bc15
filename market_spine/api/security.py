"""Who asks, and whether they may: bearer tokens, their scopes, and how often.

What belongs here: from the header to a holder. What does not: what a token is (`governance.tokens`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any

import structlog
from fastapi import Depends, Request, Security
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from market_spine.api.parameters import refuse_unknown
from market_spine.domain.errors import AccessError, ScopeError, StoreError
from market_spine.domain.serving import Scope
from market_spine.governance.tokens import CREATE, Holder, recognise

if TYPE_CHECKING:
    from market_spine.api.desk import Desk

KNOWN_SECONDS = 1.0  # how long a token is taken for what it was: a revoked one is refused after that
BEARER = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    description="`Authorization: Bearer spine_...`, made with `spine tokens create`",
)


def desk_of(request: Request) -> Desk:
    """The server's desk."""
    desk: Desk = request.app.state.desk
    return desk


async def holder_of(
    request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)]
) -> Holder:
    """Whose token it is. AccessError where it is none in force, LimitError where too much was asked with it."""
    desk = desk_of(request)
    address = request.client.host if request.client else ""
    if given is None:
        raise AccessError("this needs a token", f"send Authorization: Bearer TOKEN; make one with: {CREATE}")
    known = desk.holders.get(given.credentials)
    if known is None or time.monotonic() - known[1] > KNOWN_SECONDS:
        try:
            known = (await run_in_threadpool(_recognised, desk, given.credentials), time.monotonic())
        except AccessError:
            desk.limits.count_failure(address)  # who has a good token shares the address, and is let through
            raise
        except StoreError as error:  # nobody knows yet who asks: where the store is, is told to the log alone
            structlog.get_logger().warning("api_unavailable", cause=error.cause, remedy=error.remedy)
            raise StoreError("the store does not answer", "ask again, as Retry-After says") from error
        desk.holders.put(given.credentials, known)
    holder = known[0]
    if holder.expires_at is not None and holder.expires_at <= desk.now():
        raise AccessError("this token is not in force: it is unknown, revoked or expired", CREATE)
    desk.limits.count(holder.token_id)
    request.scope["actor"] = holder.name
    return holder


def _recognised(desk: Desk, text: str) -> Holder:
    with desk.store.control.read() as connection:
        return recognise(connection, text, desk.now())


def require(scope: Scope) -> Callable[[Request, Holder], Coroutine[Any, Any, Holder]]:
    """A dependency: a holder whose scope is enough, and who asks for nothing that is not there."""

    async def check(request: Request, holder: Annotated[Holder, Depends(holder_of)]) -> Holder:
        if not holder.scope.covers(scope):
            raise ScopeError(
                f"the scope of this token is {holder.scope}, and this needs {scope}",
                f"spine tokens create NAME --scope {scope}",
            )
        refuse_unknown(request)
        return holder

    return check


Reader = Annotated[Holder, Depends(require(Scope.READ))]
Operator = Annotated[Holder, Depends(require(Scope.OPERATE))]
Admin = Annotated[Holder, Depends(require(Scope.ADMIN))]
