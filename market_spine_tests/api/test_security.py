"""Who may ask for what: tokens, scopes, limits; and that nothing secret is told or kept."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import httpx
import pytest
import zstandard

from market_spine import logs
from market_spine.api import limits
from market_spine.domain.serving import Scope
from market_spine.governance.tokens import revoke
from market_spine.logs import Level
from market_spine.store.ledger import Run
from market_spine_tests.api.server import Api, serving, token
from market_spine_tests.cli.calls import call
from market_spine_tests.journeys.stage import Clock

OPEN = {"/api/v1/health/live", "/api/v1/health/ready"}
NOW = datetime(2025, 12, 30, 12, tzinfo=UTC)


def routes(api: Api) -> Iterator[tuple[str, str]]:
    """Every path that there is, with its method."""
    document = api.ask("GET", "openapi.json", None).json()
    for path, methods in document["paths"].items():
        for method in methods:
            yield method.upper(), path


def filled(path: str) -> str:
    """``path`` with something for each of its parameters."""
    return re.sub(r"{(\w+)}", lambda found: "1" if found[1] == "number" else "otc_raw", path)


def test_nothing_but_health_is_open(api: Api) -> None:
    """Prevents a path that was forgotten when the locks were put on."""
    found = dict.fromkeys(routes(api))
    assert len(found) > 25
    for method, path in found:
        answer = api.ask(method, filled(path), None)
        assert (answer.status_code == 200) if path in OPEN else (answer.status_code == 401), path
        if path not in OPEN:
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")


NEEDS = {"POST": Scope.OPERATE, "/api/v1/uses": Scope.ADMIN, "/api/v1/uses/superseded": Scope.ADMIN}


@pytest.mark.parametrize("scope", list(Scope))
def test_each_path_needs_its_scope(api: Api, scope: Scope) -> None:
    """Prevents a reader from changing, and an operator from seeing who read."""
    for method, path in routes(api):
        if path in OPEN:
            continue
        needed = NEEDS.get(path, NEEDS.get(method, Scope.READ))
        answer = api.ask(method, filled(path), scope)
        is_refused = answer.status_code == 403
        assert is_refused is not scope.covers(needed), (method, path, answer.text[:200])
        if is_refused:
            assert f"this needs {needed}" in answer.json()["detail"]


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": text}


@pytest.fixture
def guarded(served_home: Path) -> Iterator[Api]:
    """A server of its own over the demo, so that its limits are its own."""
    with serving(served_home) as api:
        yield api


def test_what_is_no_token_in_force_is_refused_alike(guarded: Api) -> None:
    """Prevents an answer from telling which part of a guess was right."""
    desk = guarded.desk
    good = guarded.tokens[Scope.READ]
    _, known, secret = good.split("_", 2)
    ended = token(desk, "ended", Scope.READ)
    revoke(desk.store, Run.of_look("test", desk.now()), "ended", "test")
    told = set()
    bad = [
        f"spine_{known}_{'A' * 43}",  # another secret
        f"spine_{'0' * 12}_{secret}",  # another id
        f"spine_{known}_{secret[:-1]}",
        f"SPINE_{known}_{secret}",
        ended,
        "spine__",
        "' OR 1=1 --",
        "\xff\xfe",
        "A" * 5000,
    ]
    for text in bad:
        answer = guarded.ask("GET", "data/weeks", None, headers={"Authorization": f"Bearer {text}".encode("latin-1")})
        assert answer.status_code == 401, text
        told.add(answer.json()["detail"])
        assert text not in answer.text
    assert told == {"this token is not in force: it is unknown, revoked or expired"}
    for header in ({}, bearer("Basic dXNlcjpwYXNz"), bearer("Bearer"), bearer(good)):
        assert guarded.ask("GET", "data/weeks", None, headers=header).status_code == 401
    assert guarded.get("data/weeks").status_code == 200


def test_a_token_ends_when_it_should(served_home: Path) -> None:
    """Prevents a token from outliving its day, or a revocation from waiting for a restart."""
    clock = Clock(NOW)
    with serving(served_home, clock) as api:
        text = token(api.desk, "for-an-hour", Scope.READ, NOW + timedelta(hours=1))
        asked = bearer(f"Bearer {text}")
        assert api.ask("GET", "data/weeks", None, headers=asked).status_code == 200
        clock.forward(minutes=60)
        assert api.ask("GET", "data/weeks", None, headers=asked).status_code == 401
        assert api.get("data/weeks").status_code == 200


def test_a_revoked_token_is_refused_by_a_server_that_knew_it(guarded: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents what a server remembers from keeping a revoked token alive."""
    monkeypatch.setattr("market_spine.api.security.KNOWN_SECONDS", 0.0)
    text = token(guarded.desk, "leaver", Scope.READ)
    asked = bearer(f"Bearer {text}")
    assert guarded.ask("GET", "data/weeks", None, headers=asked).status_code == 200
    revoke(guarded.desk.store, Run.of_look("test", guarded.desk.now()), "leaver", "test")
    assert guarded.ask("GET", "data/weeks", None, headers=asked).status_code == 401


def test_one_token_asks_so_often(served_home: Path) -> None:
    """Prevents one program in a loop from taking the server from all others."""
    with serving(served_home, rate="3/minute") as api:
        statuses = [api.get("data/weeks", headers={"If-None-Match": "*"}).status_code for _ in range(4)]
        assert statuses == [304, 304, 304, 429]
        refused = api.get("data/weeks")
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        assert refused.json()["next"].startswith("wait ")
        assert api.get("data/weeks", Scope.ADMIN).status_code == 200
        assert api.ask("GET", "health/live", None).status_code == 200


def test_guessing_is_slowed_down(guarded: Api) -> None:
    """Prevents tokens from being tried as fast as the network goes, from addresses that whoever tries makes up; whoever
    has one is not kept out."""
    wrong = bearer(f"Bearer spine_{'0' * 12}_{'A' * 43}")
    made_up = [wrong | {"X-Forwarded-For": f"198.51.100.{number}"} for number in range(22)]
    statuses = [guarded.ask("GET", "data/weeks", None, headers=one).status_code for one in made_up]
    assert statuses == [401] * limits.FAILURES.amount + [429] * (22 - limits.FAILURES.amount)
    assert guarded.get("data/weeks").status_code == 200


def test_no_secret_is_kept_or_told(
    changed: Api, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Prevents a token from being read where it was used: in the log, the journal, the published file, an answer."""
    caplog.set_level(logging.DEBUG)
    logs.configure(Level.INFO)
    secrets = [text.split("_", 2)[2] for text in changed.tokens.values()]
    hashes = [row["secret_sha256"] for row in _token_rows(changed)]
    texts = [changed.get(path, Scope.ADMIN).text for path in ("uses", "data/weeks", "catalog", "doctor/otc")]
    own = changed.tokens[Scope.READ]  # where it does not belong
    texts += [changed.get(path).text for path in (f"nothing/{own}", f"data/{own}")]
    texts.append(changed.get(f"captures/{own}").text)
    assert changed.get(f"anomalies?week_ending={own}").status_code == 422
    changed.desk.collect()
    home = changed.desk.store.home.root
    assert call("--home", str(home), "publish").code == 0
    shown = call("--home", str(home), "sql", "FROM core_tokens", "-f", "json")
    texts += [shown.out, call("--home", str(home), "tokens", "list", "--all", "-f", "json").out]
    with duckdb.connect(str(changed.desk.store.home.published), read_only=True) as published:
        texts.append(json.dumps(published.execute("FROM core_tokens").fetchall(), default=str))
    texts += [one.getMessage() for one in caplog.records if not one.name.startswith("http")]  # the client's own
    told = "".join(capfd.readouterr())
    assert "api_request" in told
    texts.append(told)
    for text in texts:
        assert not any(secret in text for secret in (*secrets, *hashes))
    journal = "".join(
        zstandard.decompress(path.read_bytes()).decode() for path in changed.desk.store.home.journal.glob("*/*.zst")
    )
    assert not any(secret in journal for secret in secrets)


def _token_rows(api: Api) -> list[dict[str, str]]:
    with api.desk.store.control.read() as connection:
        found = connection.exec_driver_sql("SELECT secret_sha256 FROM core_tokens").mappings()
        return [dict(row) for row in found]


def test_a_request_has_an_id(api: Api) -> None:
    """Prevents a failure from being looked for by its time."""
    named = api.get("data/weeks", headers={"X-Request-Id": "desk-42.a"})
    assert named.headers["X-Request-Id"] == "desk-42.a"
    for hostile in ("a b", "x" * 65, "a\tb", "<script>"):
        assert api.get("data/weeks", headers={"X-Request-Id": hostile}).headers["X-Request-Id"] != hostile
    assert api.get("data/weeks").headers["X-Request-Id"] != api.get("data/weeks").headers["X-Request-Id"]


def test_methods_that_are_not_there(api: Api) -> None:
    """Prevents a wrong method from being a bare text without a way on."""
    for method in ("PUT", "DELETE", "PATCH"):
        answer = api.ask(method, "data/weeks")
        assert answer.status_code == 405
        assert answer.json()["title"] == "Method Not Allowed"
    lost = httpx.get(f"{api.url}/nothing")
    assert (lost.status_code, lost.json()["next"]) == (404, "see the paths in /api/v1/openapi.json")
    assert (
        api.get("data/weeks/", headers={"Host": "elsewhere.example"}).status_code == 404
    )  # and no way to another host
