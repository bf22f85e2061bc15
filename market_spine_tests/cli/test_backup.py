"""Backups by command, of a store with restatements, rejects and certificates: what is said, and what comes back."""

from __future__ import annotations

from pathlib import Path

from market_spine.domain.serving import Via
from market_spine.governance.consumption import Use, put_down
from market_spine.store.manifest import Question, tables
from market_spine.store.store import Store
from market_spine_tests.cli.calls import call
from market_spine_tests.journeys.stage import NOW


def hashes(home: Path) -> dict[tuple[str, str], str]:
    """Table and partition -> content hash, of what is current."""
    store = Store.at(home)
    with store.control.read() as connection:
        names = tuple(tables(connection))
    found = {(one.table_name, str(one.key)): one.content_hash for one in store.select(Question(names))}
    store.control.dispose()
    return found


def test_a_restored_store_answers_as_the_other_one(own_home: Path, tmp_path: Path) -> None:
    """Prevents a backup that is found to lack something on the day it is needed."""
    folder, again = str(tmp_path / "backup"), str(tmp_path / "again")
    made = call("backup", folder)
    assert made.code == 0, made.err
    assert f"captures    {len(hashes(own_home))}" not in made.out, "superseded ones are there too"
    (told,) = call("backup", folder, "-f", "json").json()
    assert (told["copied_files"], told["current_captures"]) == (0, len(hashes(own_home)))
    back = call("--home", again, "restore", folder)
    assert back.code == 0, back.err
    assert "everything is there, whole and unaltered" in back.out
    assert f"next: spine --home {again} init" in back.out
    assert hashes(Path(again)) == hashes(own_home)
    for words in (("certificates", "verify"), ("verify",), ("init",), ("deliveries",), ("anomalies", "list", "--all")):
        answer = call("--home", again, *words)
        assert answer.code == 0, f"{words} {answer.err}"
        if words[0] in ("deliveries", "anomalies"):
            assert answer.out == call(*words).out
    assert (Path(again) / "market_spine.duckdb").is_file()


def test_the_last_uses_are_in_it(own_home: Path, tmp_path: Path) -> None:
    """Prevents a use that nobody has made a row of yet from being forgotten with the machine."""
    folder, again = str(tmp_path / "backup"), str(tmp_path / "again")
    store = Store.at(own_home)
    put_down(store, [Use(NOW, "desk", Via.API, "GET /the-last-one")])
    assert call("backup", folder).code == 0
    assert call("--home", again, "restore", folder).code == 0
    asked = call(
        "--home", again, "sql", "SELECT count(*) AS n FROM core_consumption WHERE request = 'GET /the-last-one'"
    )
    assert "1" in asked.out.split()


def test_what_cannot_be_restored_says_so(own_home: Path, tmp_path: Path) -> None:
    """Prevents an operator who is left alone with half a store, or with one in the way."""
    folder = tmp_path / "backup"
    nothing = call("--home", str(tmp_path / "again"), "restore", str(folder))
    assert (nothing.code, "there is no folder" in nothing.err) == (2, True)
    folder.mkdir()
    cut = call("--home", str(tmp_path / "again"), "restore", str(folder))
    assert (cut.code, "is no complete backup: backup.json is missing" in cut.err) == (2, True)
    assert call("backup", str(folder)).code == 0
    in_use = call("restore", str(folder))
    assert (in_use.code, "is not empty" in in_use.err) == (2, True)
    half = tmp_path / "half"
    half.mkdir()
    (half / "restore-unfinished.json").write_text("{}")
    for words in (("verify",), ("init",), ("backup", str(tmp_path / "other")), ("publish",)):
        answer = call("--home", str(half), *words)
        assert (answer.code, "its restore was cut short" in answer.err) == (2, True), words
        assert f"next: repeat it: spine --home {half} restore FOLDER" in answer.err


def test_a_store_that_was_never_begun_has_no_backup(home: Path, tmp_path: Path) -> None:
    """Prevents a nightly success over nothing, since a home was misspelt."""
    answer = call("backup", str(tmp_path / "backup"))
    assert (answer.code, "there is no store in" in answer.err) == (2, True)
    assert not (tmp_path / "backup").exists()
