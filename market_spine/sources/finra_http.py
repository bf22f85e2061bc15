"""How FINRA's Query API is spoken to: rate budget, retries, sign-in, and failures with a remedy.

What belongs here: everything that is true of each request. What does not: which questions are asked and what an answer
means (``finra_api``). Transport, sleep, monotonic clock and time are arguments; secrets and tokens never reach a
message, a repr or a log.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import stamina
import structlog

from market_spine.domain.errors import SourceError, SourceRefused

JSON = "application/json"
DOCS_URL = "https://developer.finra.org/docs"
ID_VARIABLE, SECRET_VARIABLE = "FINRA_API_CLIENT_ID", "FINRA_API_CLIENT_SECRET"

REQUESTS_PER_SECOND = 20  # per IP address: https://developer.finra.org/platform-usage-limits
ATTEMPTS, WAIT_FIRST, WAIT_MAX = 4, 1.0, 30.0  # seconds, doubled each time, plus up to one second of jitter
RETRY_AFTER_MAX = 60.0  # asked to wait longer, give up and say so: a schedule waits better than a process
TOKEN_MARGIN = timedelta(seconds=60)


class RateBudget:
    """Spaces requests ``1 / per_second`` seconds apart; ``sleep`` and ``monotonic`` are arguments."""

    def __init__(
        self,
        per_second: float = REQUESTS_PER_SECOND,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gap, self._sleep, self._monotonic = 1 / per_second, sleep, monotonic
        self._next = float("-inf")

    def wait(self) -> None:
        """Return when the next request may be sent."""
        at = self._monotonic()
        if at < self._next:
            self._sleep(self._next - at)
        self._next = max(at, self._next) + self._gap


class _Transient(Exception):
    """An attempt that may succeed later; ``wait`` is what Retry-After asks for, in seconds."""

    def __init__(self, cause: str, wait: float | None = None) -> None:
        super().__init__(cause)
        self.wait = wait

    @property
    def asks_too_much(self) -> bool:
        return self.wait is not None and self.wait > RETRY_AFTER_MAX


@dataclass(frozen=True, slots=True)
class _Token:
    value: str = field(repr=False)
    expires_at: datetime


def _backoff(error: Exception) -> bool | float:
    """Stamina's hook: retry transient failures only, after as long as the answer asks for, within bounds."""
    if not isinstance(error, _Transient) or error.asks_too_much:
        return False
    return True if error.wait is None else error.wait


# timeout=None: attempts and RETRY_AFTER_MAX bound the waiting, httpx bounds each attempt.
_RETRY = stamina.RetryingCaller(attempts=ATTEMPTS, timeout=None, wait_initial=WAIT_FIRST, wait_max=WAIT_MAX)


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds that the answer asks to wait; a date is measured against the answer's own ``Date``, not our clock."""
    text = response.headers.get("Retry-After", "")
    if text.isdecimal():
        return float(text)
    try:
        asked = parsedate_to_datetime(text) - parsedate_to_datetime(response.headers.get("Date", ""))
    except (TypeError, ValueError):
        return None  # absent or unreadable: our own back-off applies
    return max(0.0, asked.total_seconds())


class FinraClient:
    """FINRA's answers, or a SourceError. Client id and secret are both set, or both empty (the data is public)."""

    def __init__(self, http: httpx.Client, budget: RateBudget, token_url: str, client_id: str, secret: str) -> None:
        if bool(client_id) != bool(secret):
            raise SourceRefused(
                "FINRA's API credentials are half set: an id needs its secret",
                f"set both {ID_VARIABLE} and {SECRET_VARIABLE}, or neither (the data is public)",
            )
        self._http, self._budget, self._token_url = http, budget, token_url
        self._client_id, self._secret = client_id, secret
        self._token: _Token | None = None

    def ask(self, method: str, url: str, now: datetime, accept: str = JSON, body: object = None) -> httpx.Response:
        """The 200 or 204 answer; any other, and none at all, is a SourceError."""
        response = self._send(self._request(method, url, now, accept, body))
        if response.status_code == 401 and self._token is not None:
            self._token = None  # revoked before its time: one new token, one more try
            response = self._send(self._request(method, url, now, accept, body))
        if response.status_code not in (200, 204):
            raise self._refusal(response)
        return response

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _request(self, method: str, url: str, now: datetime, accept: str, body: object) -> httpx.Request:
        headers = {"Accept": accept}
        if self._client_id:
            if self._token is None or now >= self._token.expires_at:
                self._token = self._new_token(now)
            headers["Authorization"] = f"Bearer {self._token.value}"
        return self._build(method, url, headers=headers, json=body)

    def _build(self, method: str, url: str, **content: Any) -> httpx.Request:
        try:
            return self._http.build_request(method, url, **content)
        except httpx.InvalidURL as error:
            cause = f"{url!r} is not an address: {error}"
            raise SourceRefused(cause, "check the API address in the settings") from error

    def _new_token(self, now: datetime) -> _Token:
        basic = base64.b64encode(f"{self._client_id}:{self._secret}".encode()).decode()
        headers = {"Accept": JSON, "Authorization": f"Basic {basic}"}
        params = {"grant_type": "client_credentials"}
        response = self._send(self._build("POST", self._token_url, params=params, headers=headers))
        if response.status_code != 200:
            raise SourceRefused(
                f"FINRA does not let us sign in at {self._token_url}: HTTP {response.status_code}",
                f"check {ID_VARIABLE} and {SECRET_VARIABLE}, or unset both (the data is public)",
            )
        try:
            value, seconds = str(response.json()["access_token"]), int(response.json()["expires_in"])
        except (KeyError, TypeError, ValueError):
            value, seconds = "", 0  # refused below: the answer may hold a token, so it is neither quoted nor chained
        if not re.fullmatch(r"[\x21-\x7e]+", value):  # a header with anything else is quoted by the protocol's error
            cause = f"the sign-in answer of {self._token_url} is not an OAuth2 token"
            raise SourceRefused(cause, f"check the address; see {DOCS_URL}")
        return _Token(value, now + timedelta(seconds=seconds) - TOKEN_MARGIN)

    def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            return _RETRY(_backoff, self._once, request)
        except _Transient as error:
            when = f"in {error.wait:.0f} seconds" if error.wait and error.asks_too_much else "later"
            raise SourceError(
                f"FINRA's API is not available (transient): {request.method} {request.url}: {error}",
                f"run the same command again {when}; nothing was captured",
            ) from error

    def _once(self, request: httpx.Request) -> httpx.Response:
        self._budget.wait()
        try:
            response = self._http.send(request)
        except (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError, httpx.DecodingError) as error:
            raise _Transient(f"{type(error).__name__} {error}".rstrip()) from error
        except httpx.RequestError as error:  # a bad address or proxy: not quoted, it may repeat our headers
            raise SourceRefused(
                f"{request.url} cannot be asked: {type(error).__name__}", "check the API address and the proxy settings"
            ) from None
        asked = {"method": request.method, "url": str(request.url), "status": response.status_code}
        structlog.get_logger().debug("source_asked", seconds=response.elapsed.total_seconds(), **asked)
        if response.status_code in (408, 429) or response.status_code >= 500:
            wait = _retry_after(response)
            raise _Transient(f"HTTP {response.status_code}" + (f", asks to wait {wait:.0f} s" if wait else ""), wait)
        return response

    def _refusal(self, response: httpx.Response) -> SourceRefused:
        status, asked = response.status_code, f"{response.request.method} {response.request.url}"
        if status in (401, 403):
            return SourceRefused(
                f"FINRA does not let us in: {asked}: HTTP {status}",
                f"check {ID_VARIABLE} and {SECRET_VARIABLE}; credentials are made in FINRA's API Console ({DOCS_URL})",
            )
        if status == 404:
            return SourceRefused(
                f"FINRA has no such dataset: {asked}: HTTP 404", f"check the API address; see {DOCS_URL}"
            )
        text = " ".join(response.text.split())
        for secret in (self._secret, self._token.value if self._token else ""):
            text = text.replace(secret, "[secret]") if secret else text
        return SourceRefused(
            f"FINRA refuses the question: {asked}: HTTP {status}: {text[:300] or 'no explanation'}",
            f"compare the question with {DOCS_URL}; asking it again unchanged will not help",
        )
