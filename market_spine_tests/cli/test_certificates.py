"""Certificates as people see them, and as others check them without this program."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
import shutil
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from market_spine.domain.tiers import Tier
from market_spine.store.store import Store
from market_spine.store.trust_tables import CERTIFICATE_LOG, CERTIFICATES
from market_spine_tests.cli.calls import call
from market_spine_tests.cli.test_help import COMMANDS
from market_spine_tests.governance.certificate_desk import Desk, captured

OLD, NEW = date(2025, 11, 7), date(2025, 11, 14)
CRITERIA = (
    "all_partitions_present",
    "all_stages_complete",
    "no_critical_anomalies",
    "dependencies_current",
    "age_exceeds_preliminary",
)


def content(store: Store) -> dict[str, Any]:
    """As full as a document gets: criteria, 33 captures, sums, policy."""
    names = [*(f"otc_{number}" for number in range(10)), "otc_symbol_volume_per_day_6w"]
    rows = [one | {"calc_version": "1.0"} for one in captured(store, *Tier, tables=names)]
    return {
        "criteria": {"held": dict.fromkeys(CRITERIA, True), "numbers": {"captures": [33, 33], "stages": ["RAW"]}},
        "evidence": {
            "captures": rows,
            "totals": {str(tier): {"shares": "123456789012.000000", "trades": "3456"} for tier in Tier},
        },
        "policy": {"preliminary_hours": 48, "hash": "0123456789abcdef" * 2, "tiers": [*map(str, Tier)]},
        "not_before": "2025-12-17T15:00:00+00:00",
        "code_version": "0.1.0",
    }


@pytest.fixture
def desk(home: Path) -> Iterator[Desk]:
    """Three certificates, one of which is superseded: two weeks, one for two use cases."""
    store = Store.at(home)
    store.ensure()
    made = Desk(store)
    old = made.issue({"a": 1}, week_ending=OLD)
    whole = content(store)
    made.issue(whole)
    made.issue(whole, ready_for="research")
    made.supersede(old, reason="FINRA restated OTC of that week, and six tables wait for their calculation")
    yield made
    store.control.dispose()


def ids(desk: Desk) -> dict[tuple[date, str], str]:
    return {(row["week_ending"], row["ready_for"]): row["certificate_id"] for row in desk.rows(CERTIFICATES)}


def test_list_has_what_is_in_force(desk: Desk) -> None:
    """Prevents a superseded certificate from being shown unasked, and ids that no command understands."""
    held = ids(desk)
    rows = call("certificates", "list", "-f", "json").json()
    assert [(row["week_ending"], row["ready_for"], row["state"]) for row in rows] == [
        ("2025-11-14", "research", "in force"),
        ("2025-11-14", "trading", "in force"),
    ]
    (row,) = call("certificates", "list", "--ready-for", "trading", "-f", "json").json()
    assert row["certificate_id"] == held[NEW, "trading"]
    assert row["id"] == row["certificate_id"][:12]
    assert (row["issued_at"], row["by"], len(row["signature"])) == ("2025-12-15T15:00:02Z", "check", 128)
    every = call("certificates", "list", "--all", "-f", "csv").csv()
    assert [(one["week_ending"], one["state"]) for one in every] == [
        ("2025-11-14", "in force"),
        ("2025-11-14", "in force"),
        ("2025-11-07", "superseded"),
    ]
    assert call("certificates", "list", "--all", "-w", "2025-11-07", "-f", "json").json()[0]["issued_at"][:4] == "2025"
    assert call("certificates", "list", "-w", "2025-11-07", "-f", "json").json() == []
    table = call("certificates", "list", "--all").out
    assert [line.split()[0] for line in table.splitlines()[2:5]] == ["2025-11-14", "2025-11-14", "2025-11-07"]
    assert all(one["id"] in table for one in every)
    assert max(map(len, table.splitlines())) <= 80


def test_show_reads_well_at_80_columns(desk: Desk) -> None:
    """Prevents a certificate whose evidence is cut off or wraps, and criteria that are not told."""
    shown = call("certificates", "show", ids(desk)[NEW, "trading"][:8])
    assert shown.code == 0, shown.err
    lines = shown.out.splitlines()
    assert [line for line in lines if len(line) > 80] == []
    assert f"certificate  {ids(desk)[NEW, 'trading']}" in lines
    assert "state        in force" in lines
    assert "not_before   2025-12-17 15:00:00Z" in lines
    titles = ("Criteria held", "Criteria numbers", "Evidence captures", "Evidence totals", "Policy", "History")
    assert [line for line in lines if line in titles] == list(titles)
    assert [re.split(" +", line.strip()) for line in lines if line.startswith(CRITERIA)] == [
        [name, "yes"] for name in sorted(CRITERIA)
    ]
    captures = [re.split(" +", line.strip()) for line in lines if line.startswith("otc_")]
    assert len(captures) == 33
    assert captures[-1][:2] == ["otc_symbol_volume_per_day_6w", "OTC"]
    assert "NMS_TIER_1  123,456,789,012   3,456" in shown.out
    assert "issued  2025-12-15 15:00:02Z  check  all hold" in shown.out


def test_show_tells_what_became_of_it(desk: Desk) -> None:
    """Prevents a certificate that no longer holds from looking as if it did."""
    shown = call("certificates", "show", ids(desk)[OLD, "trading"].upper())
    assert "state        superseded" in shown.out
    words = " ".join(shown.out.split())
    assert "1 issued 2025-12-15 15:00:01Z check all hold" in words
    assert "4 superseded 2025-12-15 15:00:04Z ops FINRA restated OTC" in words


def test_show_without_an_id_is_the_newest_week(desk: Desk) -> None:
    """Prevents the wrong certificate from being shown where a week or use case is named instead of an id."""
    for words, wanted in (
        ((), ids(desk)[NEW, "research"]),
        (("--ready-for", "trading"), ids(desk)[NEW, "trading"]),
        (("-w", "2025-11-14", "--ready-for", "research"), ids(desk)[NEW, "research"]),
    ):
        (row,) = call("certificates", "show", *words, "-f", "csv").csv()
        assert row["certificate_id"] == wanted
        assert hashlib.sha256(row["document"].encode()).hexdigest() == wanted
    none = call("certificates", "show", "-w", "2025-11-07")
    assert (none.code, "no certificate is in force for that" in none.out) == (0, True)


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (("show", "zz"), "no certificates begin with 'zz'"),
        (("show", ""), "3 certificates begin with ''"),
        (("show", "-w", "2025-11-07", "-f", "json"), "no certificate is in force for that"),
        (("show", "--signature", "no/such/folder/c.sig"), "cannot write no/such/folder/c.sig"),
        (("key", "zz"), "no keys begin with 'zz'"),
        (("key", "--out", "no/such/folder/k.pem"), "cannot write no/such/folder/k.pem"),
    ],
)
def test_refusals(desk: Desk, words: tuple[str, ...], cause: str) -> None:
    """Prevents a guess, or a traceback, where a question has no answer."""
    answer = call("certificates", *words)
    assert (answer.code, answer.out) == (2, "")
    assert cause in " ".join(answer.err.split())
    assert "next: " in answer.err


def recipe() -> list[str]:
    """The commands that the help gives to outsiders."""
    lines = [line.strip() for line in (COMMANDS["certificates show"].help or "").splitlines()]
    start = next(place for place, line in enumerate(lines) if line.startswith("spine certificates show ID"))
    return lines[start : lines.index("", start)]


@pytest.mark.parametrize("tampered", [False, True], ids=["whole", "tampered"])
def test_others_check_it_as_the_help_says(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tampered: bool
) -> None:
    """Prevents a proof that only this program can follow, and a recipe that always says yes."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed: apt-get install openssl")
    monkeypatch.chdir(tmp_path)
    identity, key_id = ids(desk)[NEW, "trading"], desk.keys.ensure()
    show, key, digest, verify = (shlex.split(line) for line in recipe())
    shown = call(*(identity[:12] if word == "ID" else word for word in show[1 : show.index(">")]))
    assert shown.code == 0, shown.err
    text = shown.out.replace('"captures":[33,33]', '"captures":[33,34]') if tampered else shown.out
    Path(show[-1]).write_bytes(text.encode())
    assert call(*(key_id[:12] if word == "KEY" else word for word in key[1:])).out == f"key_id {key_id}\n"
    summed = subprocess.run(digest, capture_output=True, text=True, check=True)
    checked = subprocess.run(verify, capture_output=True, text=True, check=False)
    expected = (not tampered, 1 if tampered else 0)
    assert (summed.stdout.split()[0] == identity, checked.returncode) == expected, checked.stderr


def test_json_is_what_was_signed(desk: Desk) -> None:
    """Prevents a line's end, an escape or another order of keys from being added on the way out."""
    held = {row["certificate_id"]: row for row in desk.rows(CERTIFICATES)}
    for identity, row in held.items():
        out = call("certificates", "show", identity, "-f", "json").out.encode()
        assert hashlib.sha256(out).hexdigest() == identity
        assert json.loads(out)["week_ending"] == row["week_ending"].isoformat()
        key = load_pem_public_key(call("certificates", "key").out.encode().partition(b"key_id")[0])
        assert isinstance(key, Ed25519PublicKey)
        key.verify(bytes.fromhex(row["signature"]), out)


def alter(home: Path, identity: str, old: str, new: str) -> None:
    with sqlite3.connect(home / "control.db") as control:
        where = "WHERE certificate_id = ?"
        control.execute(
            f"UPDATE core_certificates SET document = replace(document, ?, ?) {where}", [old, new, identity]
        )
    control.close()


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_what_was_altered_is_not_shown(desk: Desk, home: Path, form: str) -> None:
    """Prevents a forged document from being read as a certificate."""
    identity = ids(desk)[NEW, "trading"]
    alter(home, identity, '"OTC"', '"otc"')
    answer = call("certificates", "show", identity[:12], "-f", form)
    assert (answer.code, answer.out) == (2, "")
    assert f"certificate {identity[:12]} was altered" in answer.err
    assert "next: spine certificates verify" in answer.err


def test_verify_names_what_differs(desk: Desk, home: Path) -> None:
    """Prevents a certificate that was altered from passing, here or in the verification of everything."""
    assert call("certificates", "verify").out == "3 certificates, 4 links: all whole\n"
    assert call("certificates", "verify", "-f", "json").json() == []
    identity = ids(desk)[NEW, "trading"]
    alter(home, identity, '"hash":"01', '"hash":"10')
    answer = call("certificates", "verify")
    assert answer.code == 1
    words = " ".join(answer.out.split())
    assert f"certificate {identity} its document was altered: it has the id" in words
    assert "the journal has another document" in words
    # What differs in one certificate stands together, and what helps once behind all of it, with the files to move.
    assert (answer.out.count(f"certificate {identity}"), answer.out.count("next: ")) == (1, 1)
    files = " ".join(str(home / f"control.db{ending}") for ending in ("", "-wal", "-shm"))
    assert answer.out.rstrip().splitlines()[-1].startswith(f"  next: move the control database away ({files}), then: ")
    assert "all whole" not in words
    every = call("certificates", "verify", "-f", "json")
    assert (every.code, {one["name"] for one in every.json()}) == (1, {identity})
    both = call("verify", "-f", "json")
    assert (both.code, {one["kind"] for one in both.json()}) == (1, {"capture", "certificate", "control"})


def test_the_advice_of_verify_restores_what_was_altered(home: Path) -> None:
    """Prevents advice that leads nowhere: rows that were altered in the database come back from the journal."""
    store = Store.at(home)
    store.ensure()
    desk = Desk(store)
    identity = desk.issue({"a": 1})
    desk.supersede(identity)
    held = [desk.rows(table) for table in (CERTIFICATES, CERTIFICATE_LOG)]
    store.control.dispose()
    assert call("verify").code == 0
    alter(home, identity, '"a":1', '"a":2')
    told = call("verify").out
    files = re.search(r"move the control database away \((.*?)\), then: spine rebuild ", told)
    assert files
    for path in map(Path, shlex.split(files[1])):
        path.unlink(missing_ok=True)
    assert not [*home.glob("control.db*")]
    assert call("rebuild").code == 0
    assert call("certificates", "verify").out == "1 certificate, 2 links: all whole\n"
    assert [desk.rows(table) for table in (CERTIFICATES, CERTIFICATE_LOG)] == held
    store.control.dispose()


def test_an_empty_store_has_no_certificates(home: Path) -> None:
    """Prevents a store that never certified anything from failing its verification."""
    assert call("init").code == 0
    assert call("certificates", "verify").out == "0 certificates, 0 links: all whole\n"
    assert "no certificates" in call("certificates", "list").out
    assert "no certificate is in force" in call("certificates", "show").out


def test_init_makes_the_key_and_key_prints_it(home: Path, tmp_path: Path) -> None:
    """Prevents a store without a key, a second key, and a public key that is not the one that signs."""
    first = call("init")
    folder = home / "keys"
    (public,) = folder.glob("*.pub.pem")
    key_id = public.name.removesuffix(".pub.pem")
    assert f"{key_id[:12]}... in {folder}" in first.out
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "signing.pem", public)]
    assert modes == [0o700, 0o600, 0o644]
    private = (folder / "signing.pem").read_bytes()
    assert call("init").code == 0
    assert (folder / "signing.pem").read_bytes() == private
    assert call("certificates", "key").out == f"{public.read_text()}key_id {key_id}\n"
    out = tmp_path / "k.pem"
    assert call("certificates", "key", key_id[:6].upper(), "--out", str(out)).out == f"key_id {key_id}\n"
    assert out.read_bytes() == public.read_bytes()
    key = load_pem_public_key(out.read_bytes())
    assert isinstance(key, Ed25519PublicKey)
    assert hashlib.sha256(key.public_bytes_raw()).hexdigest() == key_id


def test_an_old_key_can_be_had_too(desk: Desk, home: Path) -> None:
    """Prevents certificates of a replaced key that outsiders could no longer check."""
    old = desk.keys.ensure()
    (home / "keys" / "signing.pem").unlink()
    new = call("certificates", "key").out.split()[-1]
    assert new != old
    assert call("certificates", "key", old[:8]).out == f"{desk.keys.public_path(old).read_text()}key_id {old}\n"
    assert call("certificates", "verify").code == 0


def test_no_command_shows_the_private_key(desk: Desk, home: Path) -> None:
    """Prevents the secret from getting into a terminal or a log, by a failure least of all."""
    path = home / "keys" / "signing.pem"
    text = path.read_text()
    secret = text.splitlines()[1]
    told = ""
    for spoil in (None, 0o644, 0o600):
        if spoil is not None:
            path.chmod(spoil)
        if spoil == 0o600:
            path.write_text(text.replace(secret[:4], "!!!!"))
        for words in (["init"], ["certificates", "key"], ["certificates", "show"], ["certificates", "verify"]):
            answer = call("--traceback", "--verbose", *words)
            told += answer.out + answer.err
    assert f"chmod 600 {path}" in told
    assert "is not an Ed25519 private key" in told
    assert secret[20:40] not in told
    assert base64.b64decode(secret)[-32:].hex() not in told
    assert "PRIVATE KEY" not in told
