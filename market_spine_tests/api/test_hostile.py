"""What nobody means well: refused, told of without what was sent, and without a trace in the store."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from market_spine.domain.serving import Scope
from market_spine_tests.api.server import FRIDAY, Api

SQL = (
    "'; DROP TABLE core_manifest; --",
    "' OR '1'='1",
    "\"; COPY otc_raw TO '/tmp/stolen.csv'; --",
    "1 UNION SELECT secret_sha256 FROM core_tokens",
    "read_csv('/etc/passwd')",
    "$$",
    "\x00",
    "%27%20OR%201=1",
    "\u202e\ufeff\U0001f4a5",
    "Ω" * 40,
)
PARAMETERS = (
    "week_ending",
    "from",
    "tier",
    "symbol",
    "mpid",
    "columns",
    "as_of",
    "data_version",
    "cursor",
    "limit",
    "format",
)


def state(api: Api) -> str:
    """A hash over what the store holds, but for the record of uses."""
    with api.desk.store.control.read() as connection:
        tables = ("core_manifest", "core_anomalies", "core_work_items", "core_tokens", "core_data_readiness")
        rows = [connection.exec_driver_sql(f"SELECT * FROM {name} ORDER BY 1").fetchall() for name in tables]
    return hashlib.sha256(repr(rows).encode()).hexdigest()


@pytest.mark.parametrize("text", SQL)
@pytest.mark.parametrize("name", PARAMETERS)
def test_sql_in_a_parameter(api: Api, name: str, text: str) -> None:
    """Prevents a value from being read as SQL: it finds nothing, or is refused."""
    before = state(api)
    answer = api.get("data/otc_raw", params={name: text})
    assert answer.status_code in (200, 404, 422), answer.text
    if answer.status_code == 200:
        assert answer.json()["rows"] == []
    assert "passwd" not in answer.text.replace(text, "")
    assert state(api) == before
    assert not Path("/tmp/stolen.csv").exists()


@pytest.mark.parametrize(
    "path",
    [
        "data/..%2f..%2f..%2fetc%2fpasswd",
        "data/../../../../etc/passwd",
        "data/%2e%2e/%2e%2e/etc/passwd",
        "data/otc_raw%00.parquet",
        "data/file:%2f%2f%2fetc%2fpasswd",
        "catalog/..%2f..%2fkeys",
        "captures/..%2f..%2fcontrol.db",
        "certificates/..%2f..%2fkeys%2fsigning.pem",
        "readiness/otc/..%2f..%2f2025-11-14",
        "data/symbols/..%2f..%2fetc/history",
        "work/1%20OR%201=1",
        "data/" + "a" * 5000,
        "data/" + quote("' UNION SELECT 1 --"),
    ],
)
def test_a_path_leads_nowhere_else(api: Api, path: str) -> None:
    """Prevents a name from being taken for a file."""
    answer = request(api, f"GET /api/v1/{path} HTTP/1.1")  # as it stands: a client would tidy it up
    assert status(answer) in (404, 422), answer
    assert b"content-type: application/problem+json" in answer


def raw(api: Api, data: bytes) -> bytes:
    """What the server answers to bytes that no client would send."""
    place = urlsplit(api.url)
    with socket.create_connection((str(place.hostname), int(place.port or 0)), timeout=20) as connection:
        connection.sendall(data)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def request(api: Api, line: str, *headers: str, body: bytes = b"") -> bytes:
    told = (line, "Host: x", "Connection: close", f"Authorization: Bearer {api.tokens[Scope.ADMIN]}", *headers)
    return raw(api, "\r\n".join(told).encode("latin-1") + b"\r\n\r\n" + body)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/") else 0


def test_a_megabyte_of_parameters(api: Api) -> None:
    """Prevents a line without end from filling the memory."""
    assert status(request(api, f"GET /api/v1/data/weeks?symbol={'A' * (1 << 20)} HTTP/1.1")) in (400, 414, 422, 431)
    assert api.get("data/weeks").status_code == 200


@pytest.mark.parametrize("with_length", [True, False])
def test_a_body_that_is_too_large(api: Api, with_length: bool) -> None:
    """Prevents a body without end, whether or not it says how long it is."""
    whole = b'{"pipeline": "' + b"a" * 66_000 + b'"}'
    if with_length:
        sent = request(
            api,
            "POST /api/v1/work/enqueue HTTP/1.1",
            f"Content-Length: {len(whole)}",
            "Content-Type: application/json",
            body=whole,
        )
    else:
        chunk = f"{len(whole):x}\r\n".encode() + whole + b"\r\n0\r\n\r\n"
        sent = request(
            api,
            "POST /api/v1/work/enqueue HTTP/1.1",
            "Transfer-Encoding: chunked",
            "Content-Type: application/json",
            body=chunk,
        )
    assert status(sent) == 413, sent[:300]
    assert b"a body of more than 64 KiB" in sent


@pytest.mark.parametrize(
    "body", [b"\xff\xfe{", b"{", b"[1]", b"null", b'{"ids": ["1"]}', b'{"ids": [1e400]}', b'{"ids": NaN}', b""]
)
def test_a_body_that_is_not_what_it_should_be(api: Api, body: bytes) -> None:
    """Prevents a malformed body from being a failure of the server."""
    answer = api.ask("POST", "work/retry", Scope.OPERATE, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 404, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "header",
    [b"Accept: \xff\xff", b"If-None-Match: \xf0\x28\x8c", b"X-Request-Id: \x80", b"Accept: " + b"a," * 20_000],
)
def test_headers_in_no_encoding(api: Api, header: bytes) -> None:
    """Prevents bytes that are no text from being a failure of the server."""
    head = f"GET /api/v1/data/weeks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.tokens[Scope.READ]}\r\n"
    answer = raw(api, head.encode() + header + b"\r\nConnection: close\r\n\r\n")
    assert status(answer) in (200, 400, 406, 431), answer[:200]


def test_nobody_reads_what_the_store_keeps_secret(api: Api) -> None:
    """Prevents the hashes of tokens, and control tables, from being asked for as if they were data."""
    for name in ("core_tokens", "core_consumption", "core_manifest", "sqlite_master", "information_schema"):
        answer = api.get(f"data/{name}")
        assert answer.status_code in (404, 422)
        assert "sha256" not in answer.text
    columns = api.get("data/otc_raw", params={"columns": "symbol, secret_sha256", "week_ending": FRIDAY})
    assert (columns.status_code, "has no column" in columns.json()["detail"]) == (422, True)
