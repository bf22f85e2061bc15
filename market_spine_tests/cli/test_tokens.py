"""`spine tokens`: made, shown once, listed without the secret, revoked; and the server that they are for."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from market_spine.cli.options import span_of
from market_spine.domain.errors import QueryError
from market_spine_tests.cli.calls import call

MAIN = "from market_spine.cli import main; main()"
TOKEN = re.compile(r"spine_[0-9a-f]{12}_[A-Za-z0-9_-]{43}\n")


def test_a_token_is_shown_once(own_home: Path) -> None:
    """Prevents a token from being lost in other output, and from being shown to who lists tokens."""
    made = call("tokens", "create", "trading-desk", "--expires", "90d", "--actor", "ops")
    assert TOKEN.fullmatch(made.out)
    assert "shown this once" in made.err
    listed = call("tokens", "list", "-f", "json")
    (row,) = listed.json()
    assert (row["name"], row["scope"], row["state"], row["created_by"]) == ("trading-desk", "read", "in force", "ops")
    assert made.out.strip().rpartition("_")[2] not in listed.out
    assert row["expires_at"] > row["created_at"]


def test_a_name_has_one_token_at_a_time(own_home: Path) -> None:
    """Prevents two tokens of one name, of which revoking ends one."""
    call("tokens", "create", "desk")
    again = call("tokens", "create", "desk")
    assert (again.code, "there is a token desk already" in again.err) == (2, True)
    assert call("tokens", "revoke", "desk").code == 0
    assert call("tokens", "create", "desk", "--scope", "operate").code == 0
    states = [(row["scope"], row["state"]) for row in call("tokens", "list", "--all", "-f", "json").json()]
    assert states == [("read", "revoked"), ("operate", "in force")]
    (row,) = call("tokens", "list", "-f", "json").json()
    assert call("tokens", "revoke", row["id"]).code == 0
    gone = call("tokens", "revoke", "desk")
    assert (gone.code, "there is no token 'desk' in force" in gone.err) == (2, True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("create", "Trading Desk"), "no name for a token"),
        (("create", "x", "--expires", "soon"), "is no span of time"),
        (("create", "x", "--expires", "0m"), "is over"),
        (("create", "x", "--scope", "root"), "root"),
        (("revoke", "nobody"), "there is no token"),
    ],
)
def test_a_bad_token_names_cause_and_remedy(own_home: Path, words: tuple[str, ...], told: str) -> None:
    """Prevents a token that nobody can name, or that never works."""
    answer = call("tokens", *words)
    assert (answer.code, answer.out) == (2, "")
    assert told in answer.err


def test_a_span_has_a_unit() -> None:
    """Prevents 90 from being taken for seconds by one command and for days by another."""
    assert (span_of("30m").seconds, span_of("4h").seconds, span_of("2d").days) == (1800, 14400, 2)
    for text in ("", "90", "2w", "-1d", "1.5h", "999999d"):
        with pytest.raises(QueryError, match="is no span of time"):
            span_of(text)


@contextmanager
def served(home: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A real `spine serve` and its address; ended with the test."""
    command = [sys.executable, "-c", MAIN, "--home", str(home), "serve", "--port", "0", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        found = re.search(r"http://\S+", process.stderr.readline())
        assert found, process.stderr.read()
        yield process, found[0]
    finally:
        process.kill()
        process.communicate()


def answered(url: str, token: str) -> httpx.Response:
    """The first answer of a server that is starting: whoever asks waits until it is up."""
    return httpx.get(f"{url}/data/weeks", headers={"Authorization": f"Bearer {token}"}, timeout=60)


@pytest.mark.slow
def test_a_server_that_is_killed_loses_no_use(own_home: Path) -> None:
    """Prevents a kill from taking answers out of the record, and a stop from needing one."""
    token = call("tokens", "create", "desk").out.strip()
    with served(own_home) as (process, url):
        assert answered(url, token).status_code == 200
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    asked = "SELECT actor, table_name, status FROM core_consumption WHERE via = 'api'"
    assert call("sql", asked, "-f", "json").json() == [{"actor": "desk", "table_name": "otc_weeks", "status": 200}]
    with served(own_home) as (process, url):
        assert answered(url, token).status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert process.stderr
        assert "stopped" in process.stderr.read()
    assert len(call("sql", "FROM core_consumption WHERE via = 'api'", "-f", "json").json()) == 2
    assert list((own_home / "uses").glob("taken-*")) == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--host", "203.0.113.1"), "203.0.113.1"),
        (("--host", "nowhere.invalid"), "nowhere.invalid"),
        (("--host", "a" * 70), "label"),  # what is longer than a name may be fails before anybody is asked
    ],
)
def test_an_address_that_cannot_be_served(own_home: Path, options: tuple[str, ...], told: str) -> None:
    """Prevents a server that says it serves, and does not."""
    answer = call("serve", "--port", "0", *options)
    assert (answer.code, "serving" in answer.err) == (2, False)
    assert told in answer.err
    assert "next: choose another" in answer.err


def test_a_rate_that_is_none_is_refused(own_home: Path) -> None:
    """Prevents a limit that was meant from being no limit."""
    answer = call("serve", "--port", "0", MARKET_SPINE_API_RATE="many")
    assert (answer.code, "'many' is no rate" in answer.err) == (2, True)
