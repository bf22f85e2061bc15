"""A loopback server that behaves as FINRA's Query API does, traps included; standard library only.

What belongs here: the behaviour of https://api.finra.org that the project relies on, and scripted failures. What does
not: anything of the client under test: this module shares no constant with it, so that a wrong one shows.

    rows = {(date(2025, 11, 14), Tier.OTC): [row("AABB", "OTCN", 6753871, 171)]}
    with FinraServer(rows) as server:
        source = FinraApiSource(server.url, token_url=server.token_url)

Behaviour: filters are applied to POST only (GET answers the first rows of the whole dataset); CSV unless JSON is
accepted; a page ends at ``page_rows`` rows or ``page_bytes`` bytes; 204 with an empty body where there is nothing; sort
without EQUAL on both partition fields, offsets beyond 500,000 and unknown fields are 400; the historic dataset takes a
week and a tier and no sort. ``server.answer_next(...)`` puts other answers first, ``server.requests`` is what came.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from market_spine.domain.tiers import Tier

Row = dict[str, Any]
Weeks = Mapping[tuple[date, Tier], Sequence[Row]]

COLUMNS = (
    "issueSymbolIdentifier",
    "issueName",
    "firmCRDNumber",
    "MPID",
    "marketParticipantName",
    "tierIdentifier",
    "tierDescription",
    "summaryStartDate",
    "totalWeeklyTradeCount",
    "totalWeeklyShareQuantity",
    "productTypeCode",
    "summaryTypeCode",
    "weekStartDate",
    "lastUpdateDate",
    "initialPublishedDate",
    "lastReportedDate",
)
TIER_CODES = {Tier.NMS_TIER_1: "T1", Tier.NMS_TIER_2: "T2", Tier.OTC: "OTCE"}
HISTORIC_FILTERS = {"weekStartDate", "historicalWeek", "historicalMonth", "tierIdentifier"}
HTML = b"<!DOCTYPE html>\n<html><head><title>FINRA.org</title></head><body>OTC Transparency</body></html>"


def row(symbol: str, mpid: str, shares: float, trades: int, **more: Any) -> Row:
    """An ATS row as the API writes it; week, tier and kind are added by the server from where it stands."""
    return {
        "issueSymbolIdentifier": symbol,
        "issueName": f"{symbol} Inc. Common Stock",
        "MPID": mpid,
        "marketParticipantName": f"{mpid} ATS",
        "totalWeeklyShareQuantity": shares,
        "totalWeeklyTradeCount": trades,
        "productTypeCode": "O",
    } | more


def rows_of(weeks: Weeks) -> list[Row]:
    """All rows, oldest partition first, as the API would hold them."""
    return [
        {
            "weekStartDate": (week - timedelta(days=4)).isoformat(),
            "summaryStartDate": (week - timedelta(days=4)).isoformat(),
            "tierIdentifier": TIER_CODES[tier],
            "summaryTypeCode": "ATS_W_SMBL_FIRM",
        }
        | one
        for week, tier in sorted(weeks)
        for one in weeks[week, tier]
    ]


@dataclass(frozen=True)
class Reply:
    """What to answer instead of the truth; fields that are not given leave the true answer as it is."""

    status: int | None = None
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    without: frozenset[str] = frozenset()  # headers to leave out
    rows: Sequence[Row] | None = None  # sent in place of the rows that were asked for
    total: int | None = None  # said as Record-Total
    silence: float = 0.0  # seconds before anything is answered
    is_cut: bool = False  # announce the whole body, send half of it, close


TRUTH = Reply()
WEB_PAGE = Reply(status=200, body=HTML, headers={"Content-Type": "text/html; charset=utf-8"})


@dataclass(frozen=True)
class Seen:
    """A request that came: ``body`` is its JSON, or None."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


class FinraServer:
    """The API on a free port of 127.0.0.1 while the context lasts."""

    def __init__(
        self,
        weeks: Weeks | None = None,
        historic: Weeks | None = None,
        page_rows: int = 5_000,
        page_bytes: int = 3_000_000,
        credentials: tuple[str, str] | None = None,
        token_seconds: int = 1_800,
    ) -> None:
        self.datasets = {"weeklysummary": rows_of(weeks or {}), "weeklysummaryhistoric": rows_of(historic or {})}
        self.page_rows, self.page_bytes = page_rows, page_bytes
        self.credentials, self.token_seconds = credentials, token_seconds
        self.requests: list[Seen] = []
        self.tokens: set[str] = set()
        self.issued = 0
        self.script: deque[Reply] = deque()
        self.always = TRUTH
        self.token_reply = TRUTH
        self.partitions: list[list[str]] | None = None  # said in place of the true list
        self.closing = threading.Event()

    def __enter__(self) -> Self:
        self._http = _Listener(self)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def token_url(self) -> str:
        return f"{self.url}/fip/rest/ews/oauth2/access_token"

    def answer_next(self, *replies: Reply) -> None:
        """Answer the next data requests so; then truthfully again (or as ``always`` says)."""
        self.script.extend(replies)

    def reply(self, asked: Mapping[str, Any]) -> Reply:
        """What to answer the data request ``asked`` with."""
        return self.script.popleft() if self.script else self.always

    def data_requests(self) -> list[Seen]:
        return [seen for seen in self.requests if seen.path.startswith("/data/")]

    def revoke(self) -> None:
        """Forget all tokens, before their time."""
        self.tokens.clear()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = True

    def __init__(self, api: FinraServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.api = api

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up waiting is no failure of the server; anything else is printed, as usual."""
        import sys

        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Refused(Exception):
    """A question that FINRA answers with 400."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Listener
    timeout = 10
    wbufsize = 1 << 16  # head and body in one packet: unbuffered, each answer costs 40 ms of delayed acknowledgement

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
        pass

    def do_GET(self) -> None:
        self._handle(None)

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._handle(json.loads(raw) if raw else None)

    def _handle(self, body: Any) -> None:
        api, path = self.server.api, urlsplit(self.path).path
        api.requests.append(Seen(self.command, self.path, dict(self.headers.items()), body))
        kind, _, rest = path.strip("/").partition("/")
        if path == urlsplit(api.token_url).path:
            self._token(api)
        elif api.credentials and self.headers.get("Authorization", "")[7:] not in api.tokens:
            self._error(401, "Invalid access token")
        elif kind == "partitions" and rest.lower() == "group/otcmarket/name/weeklysummary":
            self._partitions(api)
        elif kind == "data" and (name := rest.lower().removeprefix("group/otcmarket/name/")) in api.datasets:
            self._data(api, name, body)
        else:
            self._error(404, "dataset not found")

    def _token(self, api: FinraServer) -> None:
        expected = base64.b64encode(":".join(api.credentials or ("", "")).encode()).decode()
        asked = parse_qs(urlsplit(self.path).query).get("grant_type")
        if api.token_reply is not TRUTH:
            self._send(api.token_reply.status or 200, api.token_reply.body or b"", dict(api.token_reply.headers))
        elif self.headers.get("Authorization") != f"Basic {expected}" or asked != ["client_credentials"]:
            self._error(401, "invalid_client")
        else:
            api.issued += 1
            token = f"token-{api.issued}-of-the-test"
            api.tokens.add(token)
            answer = {"access_token": token, "token_type": "Bearer", "expires_in": str(api.token_seconds)}
            self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _partitions(self, api: FinraServer) -> None:
        listed = {(one["weekStartDate"], one["tierIdentifier"]) for one in api.datasets["weeklysummary"]}
        partitions = [list(pair) for pair in sorted(listed, reverse=True)] if api.partitions is None else api.partitions
        answer = {
            "datasetGroup": "OTCMARKET",
            "datasetName": "WEEKLYSUMMARY",
            "partitionFields": ["weekStartDate", "tierIdentifier"],
            "availablePartitions": [{"partitions": pair} for pair in partitions],
        }
        self._scripted(api, 200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _data(self, api: FinraServer, name: str, body: Any) -> None:
        asked = body if self.command == "POST" and body else {}
        reply = api.reply(asked)
        try:
            rows = _select(api.datasets[name], asked, is_historic=name.endswith("historic"))
        except _Refused as refused:
            self._error(400, str(refused))
            return
        offset, limit = asked.get("offset", 0), min(asked.get("limit", 1_000), 5_000, api.page_rows)
        page = rows[offset : offset + limit] if reply.rows is None else list(reply.rows)
        columns = asked.get("fields") or list(COLUMNS)
        is_json = "application/json" in self.headers.get("Accept", "")
        data = _render(page, columns, is_json, api.page_bytes)
        total = len(rows) if reply.total is None else reply.total
        headers = {
            "Content-Type": "application/json" if is_json else "text/plain;charset=UTF-8",
            "Record-Total": str(total),
            "Record-Offset": str(offset),
            "Record-Limit": str(limit),
            "Set-Cookie": "session=not-for-the-record",
        }
        self._answer(reply, 200 if page else 204, data if page else b"", headers if page else {})

    def _scripted(self, api: FinraServer, status: int, data: bytes, headers: dict[str, str]) -> None:
        self._answer(api.script.popleft() if api.script else api.always, status, data, headers)

    def _answer(self, reply: Reply, status: int, data: bytes, headers: dict[str, str]) -> None:
        if reply.silence and self.server.api.closing.wait(reply.silence):
            self.close_connection = True
            return
        data = data if reply.body is None else reply.body
        headers = {key: value for key, value in headers.items() if key not in reply.without} | dict(reply.headers)
        self._send(reply.status or status, data, headers, is_cut=reply.is_cut)

    def _error(self, status: int, message: str) -> None:
        answer = {"statusCode": status, "message": message}
        self._send(status, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, data: bytes, headers: Mapping[str, str], is_cut: bool = False) -> None:
        self.send_response_only(status)
        for key, value in ({"Date": self.date_time_string(), "Content-Length": str(len(data))} | dict(headers)).items():
            if not (status == 204 and key == "Content-Length"):
                self.send_header(key, value)
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if is_cut else data)
        if is_cut:
            self.close_connection = True


def _select(rows: Sequence[Row], asked: Mapping[str, Any], is_historic: bool) -> list[Row]:
    """The rows that FINRA would find, sorted as asked; _Refused where it would answer 400."""
    filters = {one["fieldName"]: one["fieldValue"] for one in asked.get("compareFilters", ())}
    if any(one.get("compareType", "").upper() != "EQUAL" for one in asked.get("compareFilters", ())):
        raise _Refused("this server knows EQUAL only")
    unknown = {*asked.get("fields", ()), *filters} - {*COLUMNS, *HISTORIC_FILTERS}
    if unknown:
        raise _Refused(f"Invalid field names: {', '.join(sorted(unknown))}")
    if asked.get("offset", 0) > 500_000:
        raise _Refused("offset must not exceed 500000")
    sort = asked.get("sortFields", ())
    if is_historic and (sort or set(filters) - HISTORIC_FILTERS):
        raise _Refused("weeklySummaryHistoric is filtered by one date field and tierIdentifier, and not sorted")
    if sort and not {"weekStartDate", "tierIdentifier"} <= set(filters):
        raise _Refused("Sorting is allowed only if all partition keys are specified in an EQUAL CompareFilter")
    found = [one for one in rows if all(one.get(name) == value for name, value in filters.items())]
    for name in reversed(sort):
        found.sort(key=lambda one: str(one.get(name.lstrip("+-")) or ""), reverse=name.startswith("-"))
    return found


def _render(page: list[Row], columns: Sequence[str], is_json: bool, page_bytes: int) -> bytes:
    """As many rows of the page as fit into ``page_bytes``, at least one; compact JSON, or CSV with all text quoted."""
    texts = [_json_row(one, columns) if is_json else _csv_row([one.get(name) for name in columns]) for one in page]
    kept: list[str] = []
    size = 0
    for text in texts:
        size += len(text.encode()) + 1
        if kept and size > page_bytes:
            break
        kept.append(text)
    return f"[{','.join(kept)}]".encode() if is_json else "".join([_csv_row(columns), *kept]).encode()


def _json_row(one: Row, columns: Sequence[str]) -> str:
    return json.dumps({name: one.get(name) for name in columns}, separators=(",", ":"), ensure_ascii=False)


def _csv_row(values: Sequence[Any]) -> str:
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n").writerow(values)
    return out.getvalue()
