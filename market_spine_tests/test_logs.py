"""Logs: their level, form and place, and that no secret is in them, however it comes in."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from market_spine.domain.errors import SourceError
from market_spine.logs import HIDDEN, Form, Level, Redactor, configure, redacted
from market_spine.settings import Settings, start_logging
from market_spine_tests.cli.calls import call

PASSWORD = "hunter2-Zx"
CLEAN = Redactor((PASSWORD,)).clean


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """The settings of structlog are the process's: what a test sets ends with it."""
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.mark.parametrize(
    ("given_", "logged"),
    [
        ({"password": "x"}, {"password": HIDDEN}),
        ({"FINRA_API_CLIENT_SECRET": "x"}, {"FINRA_API_CLIENT_SECRET": HIDDEN}),
        ({"headers": {"Authorization": "Bearer abc", "n": 1}}, {"headers": {"Authorization": HIDDEN, "n": 1}}),
        ({"x-api-key": 7, "set-cookie": None}, {"x-api-key": HIDDEN, "set-cookie": HIDDEN}),
        ([{"access_token": "a"}, ("b", {"PGPASSWORD": 1})], [{"access_token": HIDDEN}, ["b", {"PGPASSWORD": HIDDEN}]]),
        ("postgresql://u:p@host/db", f"postgresql://u:{HIDDEN}@host/db"),
        ("postgresql+psycopg://u:p@ss/w:rd@host:5432/db", f"postgresql+psycopg://u:{HIDDEN}@host:5432/db"),
        ("postgresql://u@host/db", "postgresql://u@host/db"),
        ("https://api.finra.org:443/data?limit=5", "https://api.finra.org:443/data?limit=5"),
        ("postgresql:///db?host=h&password=p&user=u", f"postgresql:///db?host=h&password={HIDDEN}&user=u"),
        ('{"client_secret": "a b", "n": 1}', f'{{"client_secret": {HIDDEN}, "n": 1}}'),
        ("it says 'token': 'a b' here", f"it says 'token': {HIDDEN} here"),
        ("Authorization: Basic dXNlcjpwYXNz", f"Authorization: {HIDDEN} {HIDDEN}"),
        ("sent Bearer eyJhbGciOi.J9.x-y_z=", f"sent Bearer {HIDDEN}"),
        (f"it was {PASSWORD}!", f"it was {HIDDEN}!"),
        ({PASSWORD: 1}, {HIDDEN: 1}),
        (SourceError(f"refused {PASSWORD}", "again"), f"SourceError: refused {HIDDEN}\n  next: again"),
        ({"partition_key": "OTC|2025-11-14", "rows": 3, "share": 0.5, "ok": True, "none": None},) * 2,
        ([Path("/a/b"), datetime(2025, 1, 1, tzinfo=UTC)], ["/a/b", "2025-01-01 00:00:00+00:00"]),
        ("otc_raw OTC:2025-11-14: 3 rows, secretaries; tokens",) * 2,
    ],
    ids=lambda value: str(value)[:50],
)  # fmt: skip
def test_what_is_hidden_and_what_is_not(given_: Any, logged: Any) -> None:
    """Prevents a secret from standing in a log, and a log from being made unreadable."""
    assert CLEAN(given_) == logged


TEXTS = st.text(max_size=20)
NAMES = st.sampled_from(["password", "API_KEY", "client-secret", "refreshToken", "Proxy-Authorization", "pwd"])
# What a secret may be made of that stands in a text without quotes: no blank, no end of a parameter.
SECRETS = st.from_regex(r"[A-Za-z0-9$!*+~.^_-]{10,40}", fullmatch=True)
AROUND = st.text("abc XYZ019.,/-", max_size=12)


@given(NAMES, SECRETS, TEXTS, AROUND, AROUND)
def test_a_secret_under_a_telling_name_is_never_logged(
    name: str, secret: str, other: str, before: str, after: str
) -> None:
    """Prevents a secret from getting through in some nesting, form or neighbourhood that nobody thought of."""
    text = f"{before} "
    forms = [
        {name: secret},
        [{"a": {other: {name: [secret, {other: secret}]}}}],
        f"{text}{name}={secret} {after}",
        f"{text}{name}: {secret}, {after}",
        f"{text}{json.dumps({name: secret})}{after}",
        f"{text}{ {name: secret}!r}{after}",
        f"{text}https://user:{secret}@host/{after}",
        f"{text}Bearer {secret} {after}",
        ValueError(f"{name}={secret}"),
    ]
    for form in forms:
        assert secret not in json.dumps(CLEAN(form))


@given(SECRETS | TEXTS | st.lists(TEXTS) | st.dictionaries(TEXTS, st.lists(SECRETS)))
def test_cleaning_twice_changes_nothing(value: Any) -> None:
    """Prevents a text that was cleaned from being mangled where it is logged once more."""
    once = CLEAN(value)
    assert CLEAN(once) == once


@given(TEXTS.filter(bool), AROUND, AROUND)
def test_a_known_secret_is_nowhere(secret: str, before: str, after: str) -> None:
    """Prevents FINRA's secret from being logged because the text around it says nothing of it."""
    cleaned = Redactor((secret,)).clean([f"{before}{secret}{after}", {secret: secret}])
    assert secret not in re.sub(re.escape(HIDDEN), "", json.dumps(cleaned, ensure_ascii=False)) or secret in '[]{}", :'


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    told = capsys.readouterr()
    assert told.out == ""
    return [json.loads(line) for line in told.err.splitlines()]


def test_json_has_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents lines that programs cannot read, ids that are lost on the way, and logs on stdout among results."""
    configure(Level.INFO, Form.JSON, [PASSWORD, ""])
    log = structlog.get_logger()
    with structlog.contextvars.bound_contextvars(execution_id="run-1"):
        log.info("committed", rows=3, error=f"two\nlines of {PASSWORD}")
    log.debug("unseen", heavy=object())
    try:
        raise SourceError(f"no {PASSWORD}", "again")
    except SourceError:
        log.exception("failed")
    first, second = lines(capsys)
    assert datetime.fromisoformat(first.pop("timestamp")).tzinfo == UTC
    assert first == {
        "event": "committed",
        "level": "info",
        "execution_id": "run-1",
        "rows": 3,
        "error": f"two\nlines of {HIDDEN}",
    }
    assert (second["event"], second["level"], "execution_id" in second) == ("failed", "error", False)
    assert f"SourceError: no {HIDDEN}" in second["exception"]
    assert PASSWORD not in json.dumps(second)


@pytest.mark.parametrize("level", Level)
def test_from_its_level_on(level: Level, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents a level from hiding its own lines, or showing lower ones."""
    configure(level, Form.JSON)
    for one in Level:
        getattr(structlog.get_logger(), one.lower())("told")
    assert [line["level"].upper() for line in lines(capsys)] == list(Level)[list(Level).index(level) :]


def test_pretty_lines_are_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents colours in a file, and a traceback that ends the line of the log with a warning."""
    configure(secrets=[PASSWORD])
    structlog.get_logger().warning("control_lock_waited", seconds=1.5)
    try:
        raise ValueError(PASSWORD)
    except ValueError:
        structlog.get_logger().exception("failed")
    told = capsys.readouterr().err
    assert re.match(r"\S+Z \[warning  \] control_lock_waited +seconds=1.5\n", told)
    assert f"ValueError: {HIDDEN}" in told
    assert (PASSWORD in told, "\x1b" in told) == (False, False)


NASTY = ("x", "token", "a.", "a://b:", "http://", "bearer ", "basic", "spine_", "token = ", "token=", 'a="', "-", " ")


@pytest.mark.parametrize("text", NASTY)
def test_a_long_text_is_cleaned_in_no_time(text: str) -> None:
    """Prevents whoever can reach the API from keeping it busy: a URL may have 8 KiB, and took 8 s of these."""
    started = time.process_time()
    Redactor().text(text * (8192 // len(text)))
    assert time.process_time() - started < 1.5


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("x=token=abc", "x=token=[secret]"),
        ("x--token=abc&b=1", "x--token=[secret]&b=1"),
        ("token=abc token=def", "token=[secret] token=[secret]"),
        ("path=/x\x1b[2J\x00\x9b31m", "path=/x\\x1b[2J\\x00\\x9b31m"),
        ("one\n\ttwo", "one\n\ttwo"),
    ],
)
def test_what_a_terminal_would_obey_is_spelt_out(text: str, shown: str) -> None:
    """Prevents a path from clearing the screen of whoever reads the log, or from hiding a value behind another name."""
    assert Redactor().text(text) == shown


def test_what_is_kept_elsewhere_is_cleaned_alike() -> None:
    """Prevents the error of a run from keeping what its log does not have, whether or not logging was set up."""
    assert redacted("password=abc") == f"password={HIDDEN}"
    assert redacted(PASSWORD) == PASSWORD
    configure(secrets=[PASSWORD])
    assert redacted({"a": [PASSWORD]}) == {"a": [HIDDEN]}


def test_the_settings_secrets_are_known(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents a secret of the settings from being logged, as it is or as a URL spells it."""
    monkeypatch.setenv("FINRA_API_CLIENT_SECRET", "se/cret@1")
    monkeypatch.setenv("MARKET_SPINE_CONTROL_URL", "postgresql://u:control-word@h/d")
    monkeypatch.setenv("MARKET_SPINE_DAGSTER_URL", "postgresql://u:dagster%40word@h/d")
    monkeypatch.setenv("MARKET_SPINE_LOG_FORMAT", "JSON")
    for what_is_no_url in ("postgresql://[u:p@h/d", "?"):  # refused where it is used, by its name
        start_logging(Settings(control_url=SecretStr(what_is_no_url)))
    start_logging(Settings())
    structlog.get_logger().warning("told", said="se/cret@1 se%2Fcret%401 control-word dagster@word dagster%40word")
    (line,) = lines(capsys)
    assert line["said"] == " ".join([HIDDEN] * 5)


@pytest.mark.parametrize(("name", "value"), [("LOG_LEVEL", "verbose"), ("LOG_FORMAT", "xml")])
def test_a_wrong_setting_is_told(name: str, value: str, home: Path) -> None:
    """Prevents a word that means nothing from silently meaning the default."""
    env: dict[str, Any] = {f"MARKET_SPINE_{name}": value}
    answer = call("executions", "list", **env)
    assert answer.code == 2
    assert f"error: MARKET_SPINE_{name}: Input should be" in answer.err
    assert f"next: set MARKET_SPINE_{name} right, or unset it" in " ".join(answer.err.split())


def test_words_are_taken_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents `debug` from being refused where everybody writes it so."""
    monkeypatch.setenv("MARKET_SPINE_LOG_LEVEL", "debug")
    assert Settings().log_level is Level.DEBUG
    monkeypatch.setenv("MARKET_SPINE_LOG_LEVEL", "loud")
    with pytest.raises(ValidationError):
        Settings()
