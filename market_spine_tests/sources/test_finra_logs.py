"""What the log tells of requests over loopback: each with its status, each retry with its wait, and no secret."""

from __future__ import annotations

import json

import pytest
import stamina
import structlog

from market_spine.domain.tiers import Tier
from market_spine.feeds.otc import OTC
from market_spine.logs import Form, Level, configure
from market_spine_tests.sources.finra_cases import KEY, NOW, ROWS, WEEK, Make
from market_spine_tests.sources.finra_server import FinraServer, Reply

ID, SECRET = "client-7", "s3cret-%-value"


def test_requests_and_retries_are_told(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents a load that waits for FINRA from looking like one that hangs, and a secret from being told with it."""
    stamina.instrumentation.set_on_retry_hooks(None)  # a command of an earlier test may have put its own
    configure(Level.DEBUG, Form.JSON)
    with FinraServer({(WEEK, Tier.OTC): ROWS}, page_rows=10, credentials=(ID, SECRET)) as server:
        source = make(server, client_id=ID, client_secret=SECRET)
        source.fetch(OTC, KEY, NOW)
        server.answer_next(Reply(status=503))
        source.fetch(OTC, KEY, NOW)
        token = next(iter(server.tokens))
    structlog.reset_defaults()
    told = capsys.readouterr()
    lines = [json.loads(line) for line in told.err.splitlines()]
    asked = [(one["method"], one["status"], one["seconds"] >= 0) for one in lines if one["event"] == "source_asked"]
    assert asked == [("POST", 200, True), ("POST", 200, True), ("POST", 503, True), ("POST", 200, True)]
    (again,) = [one for one in lines if one["event"] == "stamina.retry_scheduled"]
    assert (again["level"], again["retry_num"]) == ("warning", 1)
    assert "HTTP 503" in again["caused_by"]
    assert [SECRET in told.err, token in told.err, told.out] == [False, False, ""]
