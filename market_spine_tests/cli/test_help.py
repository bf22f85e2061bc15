"""Help: every command has one, with an example that works, and asking for it loads nothing heavy."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer.main

from market_spine.cli.app import app
from market_spine.domain.contracts import Severity
from market_spine.store.store import Store
from market_spine_tests.automation.post_office import webhook, write
from market_spine_tests.cli.calls import call
from market_spine_tests.extended import extended
from market_spine_tests.governance.anomaly_desk import seen
from market_spine_tests.governance.notice_board import Board

HEAVY = ("dagster", "duckdb", "sqlalchemy", "pandas", "pyarrow", "numpy", "sqlglot", "pydantic", "exchange_calendars")


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


COMMANDS = dict(commands(typer.main.get_command(app)))


def examples(help_text: str | None) -> list[str]:
    lines = (line.strip() for line in (help_text or "").splitlines())
    return [line.removeprefix("Example: ") for line in lines if line.startswith("Example: ")]


ENDLESS = ("metrics serve", "serve")  # until they are stopped: test_metrics and test_tokens do
EXAMPLES = [
    (name, example) for name, command in COMMANDS.items() for example in examples(command.help) if name not in ENDLESS
]


def test_the_commands_were_found() -> None:
    """Prevents the tests below from passing on nothing."""
    assert {"demo", "init", "db init", "run", "backfill", "query", "sql", "captures diff", "rejects"} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_of_itself(name: str) -> None:
    """Prevents a command whose help leaves one guessing."""
    found = examples(COMMANDS[name].help)
    assert found
    assert all(
        name.rsplit(maxsplit=1)[-1] in shlex.split(example) and example.startswith("spine ") for example in found
    )


@contextmanager
def ready_for(name: str, home: Path) -> Iterator[None]:
    """What the example of a command is about, where the demo does not have it."""
    if not name.startswith("notify"):
        if name == "restore":
            call("backup", "backups/market-spine")
        if name.startswith("work"):
            call("work", "enqueue", "otc.weekly_refresh", "-w", "2025-10-10", "-t", "OTC")
        if name == "tokens revoke":
            call("tokens", "create", "trading-desk")
        if name == "work retry":
            call("work", "run", "--source", "file:.")  # refused: the demo's weeks are generated
        yield
        return
    store = Store.at(home)
    store.ensure()
    with webhook() as hook:
        write(store.home.channels, desk=hook.url)
        board = Board(store)
        if name != "notify subscribe":
            board.subscribe()
        board.look(seen("NOT_DELIVERED", severity=Severity.ERROR))
        board.draft()
        yield
    store.control.dispose()


LOADING = ("backfill", "rebuild", "run", "work run")  # for seconds each, as tests of their own do
WORKING = [
    extended(name, example, when=name in LOADING, name=example)
    for name, example in EXAMPLES
    if name != "demo"  # those are played by `demo_home` and test_scenarios
]


@pytest.mark.parametrize(("name", "example"), WORKING)
def test_every_example_works(
    name: str, example: str, own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents documentation that fails when it is followed."""
    monkeypatch.chdir(tmp_path)
    with ready_for(name, own_home):
        answer = call(*shlex.split(example)[1:])
    # The demo's weeks are of 2025: what the doctor finds is that all since are missing, and his exit code says so.
    assert answer.code == (1 if name == "doctor" else 0), answer.err
    assert answer.out.strip()


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_fits_the_terminal(name: str, width: int) -> None:
    """Prevents help that wraps."""
    answer = call(*name.split(), "--help", width=width)
    assert answer.code == 0
    assert [line for line in answer.out.splitlines() if len(line) > width] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_no_sentence_is_broken(name: str) -> None:
    """Prevents lines of the source from standing in the help as lines: only the first paragraph is filled."""
    paragraphs = (COMMANDS[name].help or "").split("\n\n")[1:]
    lines = [line for one in paragraphs if not one.startswith("\b") for line in one.splitlines()]
    assert [line for line in lines if not line.startswith("Example: ") and not line.endswith((".", ":"))] == []


def test_help_loads_nothing_heavy() -> None:
    """Prevents seconds of imports for a page of text (it took 0.3 s; with Dagster alone it is 1.6 s)."""
    code = (
        "import sys; from market_spine.cli.app import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        f"sys.stderr.write(' '.join(name for name in {HEAVY!r} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "backfill" in done.stdout


def test_no_command_at_all_shows_help() -> None:
    """Prevents a bare `spine` from failing without a word."""
    assert "spine demo" in call().out + call().err
