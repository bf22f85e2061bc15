"""FINRA's Query API as a source: the pages of one (week, tier), read to the end, checked row by row, bounded.

What belongs here: which questions are asked, paging, and telling the four kinds of empty apart. What does not: HTTP,
retries and sign-in (``finra_http``), the bytes of a page (``finra_pages``), what rows mean (``feeds``), casting and
rejecting them (they travel as bytes).

Facts (https://developer.finra.org/docs and https://developer.finra.org/platform-usage-limits unless noted):
* filters sent by GET are silently ignored, so data is asked for by POST only, and every row is checked all the same;
* a page ends at 5,000 rows or 3 MB, so a short page is not the end: ``Record-Total`` is. Offsets end at 500,000;
* sorting needs EQUAL filters on both partition fields; no rows is 204 with an empty body; the default answer is CSV;
* ``weeklySummary`` holds twelve months, ``weeklySummaryHistoric`` about four years. The latter is filtered by week and
  tier only and never sorted, so all kinds of summary come, and those of other kinds are left out here (notice of
  2021-03-08: https://www.finra.org/filing-reporting/otc-transparency/otc-transparency-api-changes).
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Self

import httpx

from market_spine.domain.contracts import Feed
from market_spine.domain.errors import PartitionError, SourceError, SpineError, TierError
from market_spine.domain.keys import WeekKey
from market_spine.domain.publication import is_due, publication_instant
from market_spine.domain.tiers import Tier
from market_spine.domain.tiers import tier as parse_tier
from market_spine.domain.weeks import monday_of
from market_spine.sources.delivery import Delivery, Empty, EmptyKind, Inventory, Part, Problem, WeekSource
from market_spine.sources.finra_http import DOCS_URL, JSON, FinraClient, RateBudget
from market_spine.sources.finra_pages import CSV, CSV_ACCEPT, Halt, Row, check_content, keep_rows, read_rows

API_URL = "https://api.finra.org"
TOKEN_URL = "https://ews.fip.finra.org/fip/rest/ews/oauth2/access_token"  # noqa: S105 (an address)
CURRENT, HISTORIC = "weeklySummary", "weeklySummaryHistoric"
# Where exactly the rolling year ends is not documented; this near to it the other dataset is asked as well.
YEAR, EDGE = timedelta(days=365), timedelta(days=35)
PAGE_ROWS, OFFSET_MAX, MAX_PAGES = 5_000, 500_000, 120  # the largest partition, T2, has about 135,000 ATS rows
TIMEOUT = 60.0  # seconds of silence

# The shape's columns, then what tells rows apart: kind, tape, firm and first publication. Not tierDescription: with it
# a page would carry every column of the weekly file and could be mistaken for one.
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
# The grain: a tie across a page boundary could lose one row and repeat another.
SORT = ("+issueSymbolIdentifier", "+MPID", "+productTypeCode", "+issueName")
SAFE_HEADERS = ("content-type", "date", "etag", "last-modified", "record-total")


class _Unsteady(Halt):
    """The partition changed while it was read: worth one new start."""

    def __init__(self, reason: str) -> None:
        super().__init__(EmptyKind.TRUNCATED, reason, "ask again in some minutes: FINRA seems to be publishing")


@dataclass(frozen=True, slots=True)
class _Question:
    """One partition of one dataset in FINRA's words."""

    url: str
    dataset: str
    monday: date
    tier: Tier
    code: str
    media_type: str

    def __str__(self) -> str:
        return f"{self.dataset}, weekStartDate {self.monday}, tier {self.tier.api_code}, {self.code}"

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
        """Whether the row is of the week and tier; and of the kind, where the dataset can filter by it."""
        try:
            is_tier = parse_tier(str(row.get("tierIdentifier"))) is self.tier
        except TierError:
            is_tier = False
        is_week = row.get("weekStartDate") == self.monday.isoformat()
        return is_tier and is_week and (self.is_historic or row.get("summaryTypeCode") == self.code)


@dataclass(frozen=True, slots=True)
class _Page:
    """One answer: how many rows came, what of them is delivered, and Record-Total (None with 204)."""

    row_count: int
    part: Part | None
    total: int | None
    digest: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def _check_rows(question: _Question, rows: Sequence[Row]) -> None:
    names = ("weekStartDate", "tierIdentifier", "summaryTypeCode")
    strangers = Counter(tuple(str(row.get(name)) for name in names) for row in rows if not question.is_ours(row))
    if strangers:
        came = "; ".join(f"{count} rows of {', '.join(found)}" for found, count in strangers.most_common(3))
        raise Halt(
            EmptyKind.WRONG_CONTENT,
            f"asked for {question}, but got {came}",
            f"FINRA did not apply the filters; compare with {DOCS_URL}; nothing was captured",
        )


def _total(question: _Question, response: httpx.Response) -> int:
    """Record-Total. Without it nobody can tell a whole partition from a part."""
    text = response.headers.get("Record-Total", "")
    if not re.fullmatch("[0-9]{1,12}", text):
        raise SourceError(
            f"{question.url} answered without a usable Record-Total ({text!r}): completeness cannot be known",
            f"check that no proxy removes the header; compare with {DOCS_URL}",
        )
    if int(text) > OFFSET_MAX + PAGE_ROWS:
        raise _too_large(question, int(text))
    return int(text)


def _too_large(question: _Question, total: int) -> SourceError:
    return SourceError(
        f"{question} announces {total:,} rows, more than {MAX_PAGES} pages or offsets up to {OFFSET_MAX:,} reach",
        f"a week of all tiers and kinds has about 264,000 rows, so a filter was not applied; compare with {DOCS_URL}",
    )


def _part(question: _Question, number: int, data: bytes, rows: Sequence[Row]) -> Part | None:
    """What is delivered of a page: all of it; of a historic page the rows of the asked kind, if there are any."""
    wanted = [row.get("summaryTypeCode") == question.code for row in rows]
    if not any(wanted):
        return None
    name, ending = f"{question.dataset}-{number:03}", "csv" if question.media_type == CSV else "json"
    if all(wanted):
        return Part(f"{name}.{ending}", data, question.media_type)
    return Part(f"{name}-{question.code}.{ending}", keep_rows(data, question.media_type, wanted), question.media_type)


def _datasets(monday: date, now: datetime) -> tuple[str, ...]:
    """The datasets to ask, in order: recent weeks, older ones, and both about one year back."""
    age = now.astimezone(UTC).date() - monday
    first, second = (HISTORIC, CURRENT) if age > YEAR else (CURRENT, HISTORIC)
    return (first, second) if abs(age - YEAR) <= EDGE else (first,)


def _listed_since(now: datetime) -> date:
    """Weeks that end before it are asked of the historic dataset (`_datasets`), which is not listed."""
    newest_historic = now.astimezone(UTC).date() - (YEAR - EDGE)  # the latest Monday that is asked there
    return newest_historic + timedelta(days=5)


def _listed_key(partition: Mapping[str, str]) -> WeekKey:
    """The key of one listed partition."""
    try:
        monday = date.fromisoformat(partition["weekStartDate"])
        tier = parse_tier(partition["tierIdentifier"])
    except (KeyError, ValueError) as error:
        raise PartitionError(f"{dict(partition)} has no readable weekStartDate and tierIdentifier", DOCS_URL) from error
    if monday.weekday() != 0:
        raise PartitionError(f"{monday} is a {monday:%A}; FINRA's weeks begin on Monday", DOCS_URL)
    return WeekKey(monday + timedelta(days=4), tier)


def _listed(url: str, response: httpx.Response) -> list[dict[str, str]]:
    """The partitions of an answer, as field name -> value; 204 lists none."""
    if response.status_code == 204:
        return []
    try:
        names, listed = response.json()["partitionFields"], response.json()["availablePartitions"]
        return [dict(zip(names, map(str, entry["partitions"]), strict=True)) for entry in listed]
    except (KeyError, TypeError, ValueError) as error:
        said = response.headers.get("Content-Type", "no content type")
        raise SourceError(
            f"{url} answered no list of partitions, but {said}", f"check the address; {DOCS_URL}"
        ) from error


def _tier(feed: Feed, key: WeekKey) -> Tier:
    if not feed.code:
        raise SourceError(f"the feed {feed.name} has no API code", "fetch it from files: its weeks are not in the API")
    if key.tier is None or key.tier not in feed.tiers:
        raise PartitionError(f"{key} is not a partition of {feed.name}", f"use --tier {', '.join(feed.tiers)}")
    return key.tier


def _nothing(key: WeekKey, tier: Tier, listing: str, now: datetime) -> Empty:
    due = f"{publication_instant(key.week_ending, tier):%Y-%m-%d %H:%M} UTC"
    if not is_due(key.week_ending, tier, now):
        return Empty(key, EmptyKind.NOT_DUE, f"{key} is first published at {due}", "ask again then")
    remedy = f"FINRA keeps about four years; see its recent weeks at {listing}"
    return Empty(key, EmptyKind.NO_ROWS, f"{key} was due at {due}, but FINRA has no rows of it", remedy)


class FinraApiSource:
    """FINRA's Query API as a `Source`; works without credentials. Close it, or use it as a context manager.

    A historic page that also holds other kinds of summary is delivered without them (its part's name then ends in the
    kind that stayed); every other part is the answer's exact bytes.
    """

    kind = series = "api"

    def __init__(
        self,
        base_url: str = API_URL,
        *,
        token_url: str = TOKEN_URL,
        client_id: str = "",
        client_secret: str = "",
        as_csv: bool = False,
        transport: httpx.BaseTransport | None = None,
        budget: RateBudget | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        self._base = base_url.rstrip("/")
        self._media_type = CSV if as_csv else JSON
        http = httpx.Client(transport=transport, timeout=timeout, headers={"User-Agent": "market-spine"})
        self._client = FinraClient(http, budget or RateBudget(), token_url, client_id, client_secret)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def inventory(self, feed: Feed, now: datetime) -> Inventory:
        """The partitions of ``weeklySummary`` (about twelve months); older weeks can be fetched though not listed."""
        url = f"{self._base}/partitions/group/otcMarket/name/{CURRENT}"
        response = self._client.ask("GET", url, now)
        keys: set[WeekKey] = set()
        problems: list[Problem] = []
        for partition in _listed(url, response):
            try:
                keys.add(_listed_key(partition))
            except SpineError as error:
                override = "fetch the week by name: --week-ending FRIDAY --tier TIER"
                problems.append(Problem(f"{url}: {', '.join(partition.values())}", error.cause, override))
        listed = tuple(sorted(key for key in keys if key.tier in feed.tiers))
        return Inventory(listed, tuple(problems), _listed_since(now))

    def fetch(self, feed: Feed, key: WeekKey, now: datetime) -> Delivery | Empty:
        """The pages of ``key``, complete and of one state, or why there are none; ``now`` is UTC."""
        tier, monday = _tier(feed, key), monday_of(key.week_ending)
        for dataset in _datasets(monday, now):
            url = f"{self._base}/data/group/otcMarket/name/{dataset}"
            question = _Question(url, dataset, monday, tier, feed.code, self._media_type)
            try:
                pages = self._read_steadily(question, now)
            except Halt as halt:
                return Empty(key, halt.kind, f"{question}: {halt.reason}", halt.remedy)
            parts = tuple(page.part for page in pages if page.part)
            if parts:
                return Delivery(key, parts, self.kind, url, WeekSource.REQUEST, now, pages[0].headers)
        return _nothing(key, tier, f"{self._base}/partitions/group/otcMarket/name/{CURRENT}", now)

    def _read_steadily(self, question: _Question, now: datetime) -> list[_Page]:
        """All pages; where the partition changes meanwhile, all pages of a second start."""
        try:
            return self._read(question, now)
        except _Unsteady:
            return self._read(question, now)

    def _read(self, question: _Question, now: datetime) -> list[_Page]:
        pages: list[_Page] = []
        total, count = None, 0
        while total is None or count < total:
            if len(pages) == MAX_PAGES or count > OFFSET_MAX:
                raise _too_large(question, total or 0)
            page = self._page(question, len(pages) + 1, count, now)
            if total is None:
                total = page.total or 0
            elif page.total not in (None, total):
                raise _Unsteady(f"Record-Total changed from {total:,} to {page.total:,} while it was read")
            if count < total and (not page.row_count or (pages and page.digest == pages[-1].digest)):
                raise Halt(
                    EmptyKind.TRUNCATED,
                    f"{count:,} of {total:,} rows came; page {len(pages) + 1} added nothing",
                    "ask again later; a week is captured whole or not at all",
                )
            pages.append(page)
            count += page.row_count
        if count > total:
            raise _Unsteady(f"{count:,} rows came, but Record-Total is {total:,}")
        return pages

    def _page(self, question: _Question, number: int, offset: int, now: datetime) -> _Page:
        accept = JSON if question.media_type == JSON else CSV_ACCEPT
        response = self._client.ask("POST", question.url, now, accept, question.body(offset))
        if response.status_code == 204:
            return _Page(0, None, None)
        check_content(response, question.media_type, FIELDS[0])
        data = response.content
        rows = read_rows(data, question.media_type)
        _check_rows(question, rows)
        headers = {name: response.headers[name] for name in SAFE_HEADERS if name in response.headers}
        part = _part(question, number, data, rows)
        return _Page(len(rows), part, _total(question, response), hashlib.sha256(data).digest(), headers)
