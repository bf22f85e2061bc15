"""Failures, waiting and signing in over loopback, without real waiting."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest

from market_spine.domain.errors import PartitionError, SourceError
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.feeds.otc import OTC
from market_spine.sources.finra_api import FinraApiSource
from market_spine.sources.finra_http import RateBudget
from market_spine_tests.sources.finra_cases import (
    KEY,
    NOW,
    ROWS,
    WEEK,
    Clock,
    Make,
    delivered,
    symbols,
)
from market_spine_tests.sources.finra_server import HTML, TRUTH, FinraServer, Reply


@pytest.mark.parametrize(
    ("status", "cause", "remedy"),
    [
        (400, "refuses the question", "developer.finra.org"),
        (401, "does not let us in", "FINRA_API_CLIENT_ID and FINRA_API_CLIENT_SECRET"),
        (403, "does not let us in", "FINRA_API_CLIENT_ID and FINRA_API_CLIENT_SECRET"),
        (404, "no such dataset", "check the API address"),
        (302, "HTTP 302", "developer.finra.org"),
    ],
)
def test_refusals_are_not_repeated(
    server: FinraServer, make: Make, waits: list[float], status: int, cause: str, remedy: str
) -> None:
    """Prevents repeating what cannot succeed, and an error without its next step."""
    server.answer_next(Reply(status=status, body=b'{"message": "because of this"}'))
    with pytest.raises(SourceError) as caught:
        make(server).fetch(OTC, KEY, NOW)
    assert cause in caught.value.cause
    assert f"{server.url}/data/group/otcMarket/name/weeklySummary" in caught.value.cause
    assert remedy in caught.value.remedy
    assert ("because of this" in caught.value.cause) is (status in (400, 302))
    assert (waits, len(server.data_requests())) == ([], 1)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_transient_answers_are_repeated_then_said_to_be_transient(
    server: FinraServer, make: Make, waits: list[float], status: int
) -> None:
    """Prevents giving up at the first 503, and trying for ever: 4 attempts, 1, 2, 4 seconds and jitter apart."""
    server.always = Reply(status=status)
    with pytest.raises(SourceError, match=rf"\(transient\).*HTTP {status}") as caught:
        make(server).fetch(OTC, KEY, NOW)
    assert "run the same command again later" in caught.value.remedy
    assert len(server.data_requests()) == 4
    assert [base <= wait <= base + 1 for base, wait in zip((1, 2, 4), waits, strict=True)] == [True] * 3


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(Reply(status=503), id="503"),
        pytest.param(Reply(silence=2.0), id="a timeout"),
        pytest.param(Reply(is_cut=True), id="a body that is cut off"),
        pytest.param(Reply(headers={"Content-Encoding": "gzip"}), id="a body that does not decompress"),
    ],
)
def test_a_failure_between_pages_costs_one_wait(
    server: FinraServer, make: Make, waits: list[float], failure: Reply
) -> None:
    """Prevents starting a week anew, or losing its page, for one failure in the middle."""
    server.answer_next(TRUTH, failure)
    source = make(server, timeout=0.2)
    assert symbols(delivered(source.fetch(OTC, KEY, NOW))) == [f"S{n:02}" for n in range(7)]
    assert (len(waits), len(server.data_requests())) == (1, 4)


def test_nobody_listens(waits: list[float]) -> None:
    """Prevents a bare ConnectError: an outage is a SourceError with a next step."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    with (
        FinraApiSource(f"http://127.0.0.1:{port}", transport=httpx.HTTPTransport()) as source,
        pytest.raises(SourceError, match=r"\(transient\).*ConnectError"),
    ):
        source.fetch(OTC, KEY, NOW)
    assert len(waits) == 3


@pytest.mark.parametrize("address", ["ftp://127.0.0.1", "nonsense", "http://127.0.0.1:port"])
def test_an_address_that_is_none(address: str, waits: list[float]) -> None:
    """Prevents an exception of the HTTP library, or retries, for a typing error in the settings."""
    with (
        FinraApiSource(address, transport=httpx.HTTPTransport()) as source,
        pytest.raises(SourceError) as caught,
    ):
        source.fetch(OTC, KEY, NOW)
    assert "check the API address" in caught.value.remedy
    assert waits == []


@pytest.mark.parametrize(
    ("headers", "low", "high"),
    [
        ({"Retry-After": "7"}, 7, 7),
        ({"Retry-After": "0"}, 0, 0),
        ({"Retry-After": "60"}, 60, 60),
        ({"Retry-After": "Tue, 16 Dec 2025 15:00:30 GMT", "Date": "Tue, 16 Dec 2025 15:00:00 GMT"}, 30, 30),
        ({"Retry-After": "Tue, 16 Dec 2025 14:00:00 GMT", "Date": "Tue, 16 Dec 2025 15:00:00 GMT"}, 0, 0),
        ({"Retry-After": "soon"}, 1, 2),
    ],
)
def test_retry_after_is_honoured(
    server: FinraServer, make: Make, waits: list[float], headers: dict[str, str], low: float, high: float
) -> None:
    """Prevents asking again before we were told to; a date counts by the server's clock, not by ours."""
    server.answer_next(Reply(status=429, headers=headers))
    delivered(make(server).fetch(OTC, KEY, NOW))
    assert len(waits) == 1
    assert low <= waits[0] <= high


def test_a_long_retry_after_is_left_to_the_scheduler(server: FinraServer, make: Make, waits: list[float]) -> None:
    """Prevents a process that sleeps for an hour, and one that asks again although it was told not to."""
    server.answer_next(Reply(status=429, headers={"Retry-After": "3600"}))
    with pytest.raises(SourceError, match="asks to wait 3600 s") as caught:
        make(server).fetch(OTC, KEY, NOW)
    assert "in 3600 seconds" in caught.value.remedy
    assert (waits, len(server.data_requests())) == ([], 1)


def test_requests_are_spaced_within_the_budget(server: FinraServer, make: Make) -> None:
    """Prevents more than 20 requests a second, retries included."""
    clock = Clock()
    server.answer_next(TRUTH, Reply(status=503))
    make(server, budget=RateBudget(20, clock.sleep, clock.monotonic)).fetch(OTC, KEY, NOW)
    assert clock.slept == pytest.approx([0.05] * 3)


def test_an_idle_budget_saves_nothing_up() -> None:
    """Prevents a burst after a pause, and a wait where none is due."""
    clock = Clock()
    budget = RateBudget(10, clock.sleep, clock.monotonic)
    budget.wait()
    clock.time = 100.0
    for _ in range(3):
        budget.wait()
    assert clock.slept == pytest.approx([0.1, 0.1])


@pytest.mark.parametrize(
    ("feed", "key", "error", "said"),
    [
        (replace(OTC, code=""), KEY, SourceError, "no API code"),
        (OTC, WeekKey(WEEK, None), PartitionError, "ALL:2025-11-14"),
        (replace(OTC, tiers=(Tier.NMS_TIER_1,)), KEY, PartitionError, "not a partition"),
    ],
)
def test_what_cannot_be_asked_is_not_asked(
    server: FinraServer, make: Make, feed: Any, key: WeekKey, error: type[Exception], said: str
) -> None:
    """Prevents a request for something that the API does not know, e.g. all tiers at once."""
    with pytest.raises(error, match=said):
        make(server).fetch(feed, key, NOW)
    assert server.requests == []


ID, SECRET = "client-7", "s3cret-%-value"


@pytest.fixture
def guarded() -> Iterator[FinraServer]:
    with FinraServer({(WEEK, Tier.OTC): ROWS}, page_rows=3, credentials=(ID, SECRET)) as running:
        yield running


def test_a_token_is_used_until_shortly_before_it_expires(guarded: FinraServer, make: Make) -> None:
    """Prevents one sign-in per page, and the use of a token that expires on its way (30 minutes, less one)."""
    source = make(guarded, client_id=ID, client_secret=SECRET)
    for minutes, issued in ((0, 1), (28, 1), (29, 2)):
        delivered(source.fetch(OTC, KEY, NOW + timedelta(minutes=minutes)))
        assert guarded.issued == issued
    assert guarded.requests[0].path.endswith("?grant_type=client_credentials")


def test_a_revoked_token_is_replaced_once(guarded: FinraServer, make: Make) -> None:
    """Prevents a failed run for a token that FINRA withdrew before its time."""
    source = make(guarded, client_id=ID, client_secret=SECRET)
    delivered(source.fetch(OTC, KEY, NOW))
    guarded.revoke()
    delivered(source.fetch(OTC, KEY, NOW))
    assert guarded.issued == 2


def test_a_401_that_stays_is_an_error(guarded: FinraServer, make: Make) -> None:
    """Prevents signing in for ever."""
    guarded.always = Reply(status=401)
    with pytest.raises(SourceError, match="does not let us in"):
        make(guarded, client_id=ID, client_secret=SECRET).fetch(OTC, KEY, NOW)
    assert guarded.issued == 2


def test_without_credentials_a_guarded_api_names_them(guarded: FinraServer, make: Make) -> None:
    """Prevents a 401 that does not say what to set."""
    with pytest.raises(SourceError) as caught:
        make(guarded).fetch(OTC, KEY, NOW)
    assert "FINRA_API_CLIENT_ID" in caught.value.remedy


@pytest.mark.parametrize(("client_id", "secret"), [(ID, ""), ("", SECRET)])
def test_credentials_that_are_half_set(client_id: str, secret: str) -> None:
    """Prevents working without signing in although somebody meant to."""
    with pytest.raises(SourceError, match="half set"):
        FinraApiSource(client_id=client_id, client_secret=secret)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(status=401), "does not let us sign in"),
        (Reply(status=400), "does not let us sign in"),
        (Reply(status=503), "transient"),
        (Reply(body=HTML), "not an OAuth2 token"),
        (Reply(body=b'{"expires_in": 10}'), "not an OAuth2 token"),
        (Reply(body=b'{"access_token": "s3cret-token"}'), "not an OAuth2 token"),
        (Reply(body=b'{"access_token": "s3cret-token", "expires_in": "never"}'), "not an OAuth2 token"),
        (Reply(body=b'{"access_token": "s3cret-\\ntoken", "expires_in": 10}'), "not an OAuth2 token"),
        (Reply(body=b'["s3cret-token"]'), "not an OAuth2 token"),
    ],
)
def test_sign_in_that_fails(guarded: FinraServer, make: Make, reply: Reply, said: str) -> None:
    """Prevents data requests without a token, and an answer with a token in the message or its chain."""
    guarded.token_reply = reply
    with pytest.raises(SourceError, match=said) as caught:
        make(guarded, client_id=ID, client_secret=SECRET).fetch(OTC, KEY, NOW)
    chain: BaseException | None = caught.value
    while chain:
        assert "s3cret" not in f"{chain}{chain!r}"
        chain = chain.__cause__ or chain.__context__
    assert guarded.data_requests() == []


def test_secrets_stay_secret(
    guarded: FinraServer, make: Make, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Prevents the secret, its Basic form or the token in errors, logs, reprs or the delivery's record."""
    caplog.set_level(logging.DEBUG)
    source = make(guarded, client_id=ID, client_secret=SECRET)
    guarded.answer_next(Reply(status=503))
    seen = [repr(source), repr(vars(source)), repr(delivered(source.fetch(OTC, KEY, NOW)).headers)]
    token = next(iter(guarded.tokens))
    guarded.always = Reply(status=400, body=f"bad: Bearer {token}, secret {SECRET}".encode())
    with pytest.raises(SourceError) as caught:
        source.fetch(OTC, KEY, NOW)
    client = vars(source)["_client"]
    out, err = capfd.readouterr()
    seen += [str(caught.value), repr(client), repr(vars(client)["_token"]), caplog.text, out, err]
    basic = guarded.requests[0].headers["Authorization"].removeprefix("Basic ")
    for secret in (SECRET, token, basic):
        assert [secret in text for text in seen] == [False] * len(seen)
    assert "[secret]" in caught.value.cause
