"""FINRA's Query API: the pages of one (week, tier), read to the end, checked row by row, bounded.

What belongs here: asking, paging, retrying, signing in, and telling the four kinds of empty apart. What does not: what
the rows mean (``feeds``), casting and rejecting them (they travel as bytes), where they land, and reading settings:
addresses, credentials, transport and time are arguments.

Facts, all from https://developer.finra.org/docs unless noted:
* filters sent by GET are silently ignored, so data is asked for by POST only, and every row is checked all the same;
* a page ends at 5,000 rows or 3 MB, so a short page is not the end: ``Record-Total`` is (offsets end at 500,000);
* sorting needs EQUAL filters on both partition fields; 20 requests a second per IP address;
* no rows is 204 with an empty body; the default answer is CSV;
* ``weeklySummary`` holds twelve months, ``weeklySummaryHistoric`` about four years, filtered by week and tier only and
  never sorted, so the other kinds of summary come along and are left out here (technical notice of 2021-03-08:
  https://www.finra.org/filing-reporting/otc-transparency/otc-transparency-api-changes).
"""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Self

import httpx
import stamina

from market_spine.domain.contracts import Feed
from market_spine.domain.errors import PartitionError, SourceError, SpineError, TierError
from market_spine.domain.keys import WeekKey
from market_spine.domain.publication import is_due, publication_instant
from market_spine.domain.tiers import Tier
from market_spine.domain.tiers import tier as parse_tier
from market_spine.domain.weeks import monday_of
from market_spine.sources.delivery import Delivery, Empty, EmptyKind, Inventory, Part, Problem, WeekSource

API_URL = "https://api.finra.org"
TOKEN_URL = "https://ews.fip.finra.org/fip/rest/ews/oauth2/access_token"  # noqa: S105 (an address)
DOCS_URL = "https://developer.finra.org/docs"
ID_VARIABLE, SECRET_VARIABLE = "FINRA_API_CLIENT_ID", "FINRA_API_CLIENT_SECRET"  # noqa: S105 (names)

CURRENT, HISTORIC = "weeklySummary", "weeklySummaryHistoric"
# Where exactly the rolling year ends is not documented; this near to it the other dataset is asked as well.
YEAR, EDGE = timedelta(days=365), timedelta(days=35)
PAGE_ROWS, OFFSET_MAX, MAX_PAGES = 5_000, 500_000, 120  # the largest partition, T2, has about 135,000 ATS rows
REQUESTS_PER_SECOND = 20
ATTEMPTS, WAIT_FIRST, WAIT_MAX = 4, 1.0, 30.0
RETRY_AFTER_MAX = 60.0  # asked to wait longer, we give up and say so: the scheduler waits better than a process
TOKEN_MARGIN = timedelta(seconds=60)

JSON, CSV = "application/json", "text/csv"
CSV_TYPES = ("text/plain", CSV)
# The shape's columns, then what tells rows apart: kind, tape, firm and first publication. Not tierDescription: with it
# a page would carry every column of the weekly file and be mistaken for one.
FIELDS = (
    "weekStartDate",
    "tierIdentifier",
    "issueSymbolIdentifier",
    "issueName",
    "marketParticipantName",
    "MPID",
    "totalWeeklyShareQuantity",
    "totalWeeklyTradeCount",
    "lastUpdateDate",
    "summaryTypeCode",
    "productTypeCode",
    "firmCRDNumber",
    "initialPublishedDate",
)
# The full grain: a tie across a page boundary would lose one row and repeat another.
SORT = ("+issueSymbolIdentifier", "+MPID", "+productTypeCode", "+issueName")
SAFE_HEADERS = ("content-type", "date", "etag", "last-modified", "record-total")

Row = Mapping[str, Any]


class RateBudget:
    """Spaces requests ``1 / per_second`` apart (seconds); sleep and the monotonic clock are arguments."""

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


class _Halt(Exception):
    """Reading one partition ends with nothing usable: what becomes an `Empty`."""

    def __init__(self, kind: EmptyKind, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.kind, self.reason, self.remedy = kind, reason, remedy


class _Unsteady(_Halt):
    """The partition changed while it was read; worth one new start."""

    def __init__(self, reason: str) -> None:
        super().__init__(EmptyKind.TRUNCATED, reason, "ask again in some minutes: FINRA is publishing")


@dataclass(frozen=True, slots=True)
class _Token:
    value: str = field(repr=False)
    expires_at: datetime


def _backoff(error: Exception) -> bool | float:
    """Stamina's hook: retry transient failures only, after as long as the server asks for, within bounds."""
    if not isinstance(error, _Transient) or error.asks_too_much:
        return False
    return True if error.wait is None else error.wait


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


class _Client:
    """HTTP with a rate budget, retries and an optional bearer token; secrets never reach a message."""

    def __init__(self, http: httpx.Client, budget: RateBudget, token_url: str, client_id: str, secret: str) -> None:
        if bool(client_id) != bool(secret):
            raise SourceError(
                "FINRA's API credentials are half set: an id needs its secret",
                f"set both {ID_VARIABLE} and {SECRET_VARIABLE}, or neither (the data is public)",
            )
        self.http, self._budget, self._token_url = http, budget, token_url
        self._client_id, self._secret = client_id, secret
        self._token: _Token | None = None

    def ask(self, method: str, url: str, now: datetime, accept: str = JSON, body: object = None) -> httpx.Response:
        """The 200 or 204 answer; every other one, and none at all, is a SourceError."""
        response = self._send(self._request(method, url, now, accept, body))
        if response.status_code == 401 and self._token is not None:
            self._token = None  # revoked before its time: one new token, one more try
            response = self._send(self._request(method, url, now, accept, body))
        if response.status_code not in (200, 204):
            raise self._refusal(response)
        return response

    def _request(self, method: str, url: str, now: datetime, accept: str, body: object) -> httpx.Request:
        headers = {"Accept": accept}
        if self._client_id:
            if self._token is None or now >= self._token.expires_at:
                self._token = self._new_token(now)
            headers["Authorization"] = f"Bearer {self._token.value}"
        return self.http.build_request(method, url, headers=headers, json=body)

    def _new_token(self, now: datetime) -> _Token:
        basic = base64.b64encode(f"{self._client_id}:{self._secret}".encode()).decode()
        headers = {"Accept": JSON, "Authorization": f"Basic {basic}"}
        params = {"grant_type": "client_credentials"}
        response = self._send(self.http.build_request("POST", self._token_url, params=params, headers=headers))
        if response.status_code != 200:
            raise SourceError(
                f"FINRA refused to sign in at {self._token_url}: HTTP {response.status_code}",
                f"check {ID_VARIABLE} and {SECRET_VARIABLE}, or unset both (the data is public)",
            )
        try:
            value, seconds = response.json()["access_token"], int(response.json()["expires_in"])
            if not re.fullmatch(r"[\x21-\x7e]+", value):  # anything else would be quoted in a protocol error
                raise ValueError("a token is visible ASCII")
        except (KeyError, TypeError, ValueError):
            raise SourceError(  # the answer may hold a token: it is neither quoted nor chained
                f"the sign-in answer of {self._token_url} is not an OAuth2 token", f"check the address; see {DOCS_URL}"
            ) from None
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
            response = self.http.send(request)
        except (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError, httpx.DecodingError) as error:
            raise _Transient(f"{type(error).__name__} {error}".rstrip()) from error
        except httpx.RequestError as error:  # a bad address or proxy: not quoted, it may repeat our headers
            raise SourceError(
                f"{request.url} cannot be asked: {type(error).__name__}", "check the API address and the proxy settings"
            ) from None
        if response.status_code in (408, 429) or response.status_code >= 500:
            wait = _retry_after(response)
            raise _Transient(f"HTTP {response.status_code}" + (f", asks to wait {wait:.0f} s" if wait else ""), wait)
        return response

    def _refusal(self, response: httpx.Response) -> SourceError:
        status, asked = response.status_code, f"{response.request.method} {response.request.url}"
        if status in (401, 403):
            remedy = f"check {ID_VARIABLE} and {SECRET_VARIABLE}: credentials are made in FINRA's API Console"
            return SourceError(f"FINRA does not let us in: {asked}: HTTP {status}", remedy)
        if status == 404:
            return SourceError(f"FINRA has no such dataset: {asked}: HTTP 404", f"check the API address; see {DOCS_URL}")
        text = " ".join(response.text.split())[:300]
        for secret in filter(None, (self._secret, self._token and self._token.value)):
            text = text.replace(secret, "[secret]")
        cause = f"FINRA refuses the question: {asked}: HTTP {status}: {text or 'no explanation'}"
        return SourceError(cause, f"compare the question with {DOCS_URL}; asking again unchanged will not help")


@dataclass(frozen=True, slots=True)
class _Question:
    """One partition of one dataset in FINRA's words."""

    url: str
    monday: date
    tier: Tier
    code: str
    dataset: str
    media_type: str

    @property
    def is_historic(self) -> bool:
        return self.dataset == HISTORIC

    def body(self, offset: int) -> dict[str, object]:
        filters = {"weekStartDate": self.monday.isoformat(), "tierIdentifier": self.tier.api_code}
        if not self.is_historic:
            filters["summaryTypeCode"] = self.code
        asked: dict[str, object] = {
            "compareFilters": [
                {"fieldName": name, "fieldValue": value, "compareType": "EQUAL"} for name, value in filters.items()
            ],
            "fields": list(FIELDS),
            "limit": PAGE_ROWS,
            "offset": offset,
        }
        return asked if self.is_historic else asked | {"sortFields": list(SORT)}

    def is_ours(self, row: Row) -> bool:
        """Whether the row is of the week and tier; of the kind too where the dataset can filter by it."""
        try:
            is_tier = parse_tier(str(row.get("tierIdentifier"))) is self.tier
        except TierError:
            is_tier = False
        is_week = row.get("weekStartDate") == self.monday.isoformat()
        return is_tier and is_week and (self.is_historic or row.get("summaryTypeCode") == self.code)


@dataclass(frozen=True, slots=True)
class _Page:
    """One answer: exact bytes, their rows, and Record-Total (None with 204)."""

    data: bytes
    rows: Sequence[Row]
    total: int | None
    headers: Mapping[str, str] = field(default_factory=dict)


def _wrong(reason: str) -> _Halt:
    remedy = "check the API address, and that no proxy or login page answers in its place; nothing was captured"
    return _Halt(EmptyKind.WRONG_CONTENT, reason, remedy)


def _csv_records(text: str) -> list[tuple[str, list[str]]]:
    """Every CSV record, the header first, with the exact text it stands in."""
    lines = list(io.StringIO(text, newline=""))
    reader, records, at = csv.reader(lines), [], 0
    for record in reader:
        if record:
            records.append(("".join(lines[at : reader.line_num]), record))
        at = reader.line_num
    return records


def _rows(question: _Question, response: httpx.Response) -> Sequence[Row]:
    """The rows of a page. A page has at most 5,000, and checking them must precede any table: hence Python."""
    said = response.headers.get("Content-Type", "")
    start = response.content[:80].lstrip()
    is_json = question.media_type == JSON
    is_said = said.partition(";")[0].strip().lower() in ((JSON,) if is_json else CSV_TYPES)
    if not is_said or not start or start.startswith(b"<") or start.startswith(b"[") != is_json:
        raise _wrong(f"{question.url} answered {said or 'no content type'} beginning {start[:40]!r}, not rows")
    try:
        text = response.content.decode()
        rows = json.loads(text) if is_json else None
        header, *records = _csv_records(text) if not is_json else [("", [])]
    except (ValueError, RecursionError, csv.Error) as error:
        raise _wrong(f"{question.url} answered a page that cannot be read: {error}") from error
    if rows is None:
        rows = [dict(zip(header[1], record, strict=False)) for _, record in records]
        if "weekStartDate" not in header[1]:
            raise _wrong(f"{question.url} answered {said} beginning {start[:40]!r}, not rows")
    if not all(isinstance(row, dict) for row in rows):
        raise _wrong(f"{question.url} answered a JSON array of something other than rows")
    return rows  # type: ignore[no-any-return]


def _keep(data: bytes, media_type: str, wanted: Sequence[bool]) -> bytes:
    """The page without its unwanted rows; the text of each row that stays is FINRA's own."""
    text = data.decode()
    if media_type == CSV:
        header, *records = (line for line, _ in _csv_records(text))
        return "".join([header, *(line for line, is_wanted in zip(records, wanted, strict=True) if is_wanted)]).encode()
    decoder, kept, at = json.JSONDecoder(), [], text.index("[") + 1
    for is_wanted in wanted:
        start = at + len(text[at:]) - len(text[at:].lstrip(" \t\r\n,"))
        _, at = decoder.raw_decode(text, start)
        if is_wanted:
            kept.append(text[start:at])
    return f"[{','.join(kept)}]".encode()
