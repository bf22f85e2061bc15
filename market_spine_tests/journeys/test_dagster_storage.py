"""Dagster's record in PostgreSQL by setting: it holds what SQLite holds, and every way to get it wrong is told."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import dagster as dg
import pytest

from market_spine.automation import instance as opening
from market_spine.automation.instance import URL, open_instance, write_config
from market_spine.automation.postgres_storage import KeptConnectionsStorage
from market_spine.domain.errors import StoreError
from market_spine.store.control import Control
from market_spine_tests.cli.calls import call
from market_spine_tests.journeys.test_event_log import history


@pytest.fixture
def url(postgres_database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty database, as MARKET_SPINE_DAGSTER_URL names it."""
    named = postgres_database.replace("+psycopg", "")
    monkeypatch.setenv(URL, named)
    return named


def test_the_server_holds_what_files_hold(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents partitions that the pages do not know, or an asset whose newest event is an old one, on the server."""
    monkeypatch.delenv("DAGSTER_EVENT_BATCH_SIZE", raising=False)
    with open_instance(tmp_path / "files") as files:
        wanted = history(files)
    monkeypatch.delenv("DAGSTER_EVENT_BATCH_SIZE", raising=False)
    with open_instance(tmp_path / "server", url) as server:
        assert history(server) == wanted
        kind = server.get_ref().storage_data
        assert kind is not None
        assert kind.class_name == KeptConnectionsStorage.__name__
    assert not list((tmp_path / "server").rglob("*.db"))


def test_a_backfill_by_command(url: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents commands that keep a record of their own beside the daemon's, a history of checks that knows no
    partitions (it is logged past Dagster's own ways), and a password in a file that is not secret."""
    monkeypatch.setenv(URL, url.replace("postgres@", "postgres:hush@"))
    done = call("backfill", "--weeks-back", "2", "--tier", "OTC")
    assert done.code in (0, 1), done.err
    assert f"env: {URL}" in (home / "dagster" / "dagster.yaml").read_text()
    with open_instance(home / "dagster", url) as instance:
        check = dg.AssetCheckKey(dg.AssetKey(["otc", "raw"]), "captured")
        records = instance.event_log_storage.get_asset_check_execution_history(check, limit=20)
        told = [one.event.asset_check_evaluation for one in records if one.event]
        runs = len(instance.get_runs())
    assert sorted(str(one.partition)[:4] for one in told if one and one.passed) == ["None", "OTC|", "OTC|"]
    assert runs >= 3
    assert [one for one in home.rglob("*") if one.is_file() and b"hush" in one.read_bytes()] == []


WRONG = [
    ("mysql://u:hush@h/d", "is no URL of the form postgresql://"),
    ("postgresql+psycopg://u:hush@h/d", "is no URL of the form postgresql://"),
    ("postgresql://u:x@hush@127.0.0.1/d", "is no URL of the form postgresql://"),
    ("postgresql://u:hush/x@127.0.0.1/d", "is no URL of the form postgresql://"),
    ("postgresql://u:x?hush@127.0.0.1/d", "is no URL of the form postgresql://"),
    ("postgresql://u:x#hush@127.0.0.1/d", "is no URL of the form postgresql://"),
    ("postgresql://u:hush@127.0.0.1:port/d", "is no URL of the form postgresql://"),
    ("postgresql://u:x@127.0.0.1/d?passwrd=hush", "has an option that PostgreSQL does not know"),
    ("postgresql://u:hush@127.0.0.1:1/d", "Connection refused"),
]


@pytest.mark.parametrize(("wrong", "said"), WRONG)
def test_a_url_that_leads_nowhere_is_told_at_once(
    wrong: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prevents six seconds of retries that end in a traceback, with the password in it."""
    with pytest.raises(StoreError, match=said) as told:
        open_instance(tmp_path / "dagster", wrong)
    assert "hush" not in f"{told.value}{capsys.readouterr()}"
    assert not (tmp_path / "dagster").exists()


def test_a_database_that_is_not_there_is_named(url: str, tmp_path: Path) -> None:
    """Prevents a search for the server where only the database is missing."""
    host = url.partition("host=")[2]
    with pytest.raises(StoreError, match='database "nowhere" does not exist'):
        open_instance(tmp_path / "dagster", f"postgresql://postgres@/nowhere?host={host}")


def test_the_control_database_is_refused(url: str, postgres_database: str, tmp_path: Path) -> None:
    """Prevents two programs that keep their schema's version in one table: the first update of one breaks the other."""
    control = Control(postgres_database)
    control.ensure()
    control.dispose()
    with pytest.raises(StoreError, match="which is a control database") as told:
        open_instance(tmp_path / "dagster", url)
    assert "createdb dagster" in told.value.remedy


def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a ModuleNotFoundError from inside of Dagster."""
    real = importlib.util.find_spec
    monkeypatch.setattr(opening, "find_spec", lambda name: None if name == "dagster_postgres" else real(name))
    with pytest.raises(StoreError) as told:
        write_config(tmp_path / "dagster", "postgresql://u@h/d")
    assert "pip install 'market-spine[postgres]'" in told.value.remedy


def test_a_file_that_says_otherwise_is_refused(url: str, tmp_path: Path) -> None:
    """Prevents a daemon that reads one record, and commands that write another."""
    write_config(tmp_path / "files")
    with pytest.raises(StoreError, match="keeps Dagster's record elsewhere") as told:
        open_instance(tmp_path / "files", url)
    assert f"mv {tmp_path / 'files' / 'dagster.yaml'}" in told.value.remedy
    write_config(tmp_path / "server", url)
    with pytest.raises(StoreError, match=f"keeps Dagster's record in PostgreSQL, and {URL} is not set"):
        open_instance(tmp_path / "server")
    assert write_config(tmp_path / "server", url) is False
    (tmp_path / "files" / "dagster.yaml").write_text("a: [")
    with pytest.raises(StoreError, match="cannot be read"):
        write_config(tmp_path / "files")
