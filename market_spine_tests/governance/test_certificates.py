"""Certificates: the same evidence gives the same bytes, nothing is forgotten, and no altered byte goes unseen."""

from __future__ import annotations

import hashlib
import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_spine.domain.errors import StoreError
from market_spine.governance.certificates import canonical, certificate_id, in_force, issue, parsed, supersede
from market_spine.store import journal
from market_spine.store.certificates import TABLES, counts, history, listed
from market_spine.store.control import Control
from market_spine.store.ledger import Draft, apply
from market_spine.store.schema import BATCHES, JOURNALLED
from market_spine.store.store import Store
from market_spine.store.trust_tables import CERTIFICATE_LOG, CERTIFICATES
from market_spine_tests.governance.certificate_desk import OTHER, PLACE, PUBLIC, Desk, known_key
from market_spine_tests.store import conftest as stores
from market_spine_tests.store.builders import DOMAIN, at

control_url, store, sqlite_store = stores.control_url, stores.store, stores.sqlite_store


@pytest.fixture
def desk(store: Store) -> Desk:
    return Desk(store)


# Documents


def test_a_document_is_what_rfc_8785_says(desk: Desk) -> None:
    """Prevents bytes that another program, which follows the standard, would not arrive at."""
    content = {"policy": {"hours": 48.0, "b": True}, "code_version": "ü€\n", "a": [1, None, 0.5, "2"], "B": 1e21}
    identity = desk.issue(content)
    expected = (
        '{"B":1e+21,"a":[1,null,0.5,"2"],"code_version":"ü€\\n","domain":"finra.otc_transparency",'
        '"format":"market-spine-certificate/1","policy":{"b":true,"hours":48},"ready_for":"trading",'
        '"week_ending":"2025-11-14"}'
    )
    (row,) = desk.rows(CERTIFICATES)
    assert row["document"] == expected
    assert identity == row["certificate_id"] == hashlib.sha256(expected.encode()).hexdigest()
    assert {name: row[name] for name in PLACE} == PLACE


def test_issuing_again_gives_the_same_bytes(tmp_path: Path) -> None:
    """Prevents a moment, a run, an order of keys or chance from getting into what is signed."""
    rows = []
    for number, content in enumerate(({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1})):
        store = Store.at(tmp_path / str(number))
        store.ensure()
        known_key(store.home.root)
        desk = Desk(store)
        desk.seconds = number * 1000
        desk.issue(content, reason=str(number))
        rows += desk.rows(CERTIFICATES)
        store.control.dispose()
    first, second = ({name: row[name] for name in row if name != "batch_id"} for row in rows)
    assert first == second
    assert first["key_id"] == hashlib.sha256(PUBLIC).hexdigest()
    assert first["certificate_id"] == certificate_id(**PLACE, content={"a": 1, "b": {"c": 2, "d": 3}})


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        2**53,
        -(2**53),
        Decimal(1),
        date(2025, 11, 14),
        b"x",
        {1: "a number for a name"},
        "half a pair \ud800",
        {"half \udc00": 1},
        {"a set"},
    ],
    ids=ascii,
)
def test_what_json_cannot_hold_is_refused(sqlite_store: Store, value: Any) -> None:
    """Prevents a certificate that other programs read as something else, and one that is half recorded."""
    desk = Desk(sqlite_store)
    with pytest.raises(StoreError, match="not JSON of a certificate"):
        desk.issue({"deep": [{"down": value}]})
    assert desk.rows(CERTIFICATES) == desk.rows(BATCHES) == []


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ({"format": "mine"}, "has its own format"),
        ({"week_ending": "2025-11-07", "domain": "x"}, "has its own domain, week_ending"),
        ({"evidence": []}, "is not a list of captures"),
        ({"evidence": {"captures": {"capture_id": "x"}}}, "is not a list of captures"),
        ({"evidence": {"captures": ["x"]}}, "is not a list of captures"),
        ({"evidence": {"captures": [{"table": "x"}]}}, "is not a list of captures"),
        ({"evidence": {"captures": [{"capture_id": ["x"]}]}}, "is not a list of captures"),
    ],
)
def test_content_of_the_wrong_form_is_refused(sqlite_store: Store, content: dict[str, Any], cause: str) -> None:
    """Prevents a document whose week is another than its row's, and evidence that nobody can look up."""
    with pytest.raises(StoreError, match=cause):
        Desk(sqlite_store).issue(content)


NUMBERS = st.integers(1 - 2**53, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
LEAVES = st.none() | st.booleans() | st.text() | NUMBERS
VALUES = st.recursive(LEAVES, lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(), one, max_size=3))


@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_every_document_is_read_back_as_canonical(content: dict[str, Any]) -> None:
    """Prevents certificates that can be issued and never verified (1e20 is written as a whole number)."""
    document = canonical(content)
    assert canonical(parsed(document)) == document


@pytest.mark.parametrize(
    "document",
    [
        "[]",
        "1",
        '{"a": 1}',
        '{"b":1,"a":1}',
        '{"a":1,"a":1}',
        '{"a":1.0}',
        '{"a":NaN}',
        "{",
        "\ufeff{}",
        '{"a":"\\u0041"}',
    ],
)
def test_what_is_not_canonical_is_refused(document: str) -> None:
    """Prevents two texts from passing for one document."""
    with pytest.raises(StoreError):
        parsed(document.encode())


# The chain


def test_the_chain_tells_everything(desk: Desk) -> None:
    """Prevents a link that leaves out who, when or why, or that does not hold on to the one before."""
    first = desk.issue({"a": 1}, reason="all hold")
    desk.supersede(first, reason="restated")
    second = desk.issue({"a": 2}, reason="all hold again")
    desk.supersede(second, reason="as before")
    assert desk.issue({"a": 1}, reason="taken back") == first
    links = desk.rows(CERTIFICATE_LOG)
    assert [(row["seq"], row["event"], row["certificate_id"], row["reason"], row["actor"]) for row in links] == [
        (1, "issued", first, "all hold", "check"),
        (2, "superseded", first, "restated", "ops"),
        (3, "issued", second, "all hold again", "check"),
        (4, "superseded", second, "as before", "ops"),
        (5, "issued", first, "taken back", "check"),
    ]
    previous = "0" * 64
    for row in links:
        moment = f"2025-12-15T15:00:{row['seq']:02d}.000000Z"
        names = ("actor", "certificate_id", "event", "reason", "seq")
        entry = {name: row[name] for name in names} | {"logged_at": moment, "previous_hash": previous}
        text = json.dumps(entry, sort_keys=True, separators=(",", ":"))
        previous = hashlib.sha256(text.encode()).hexdigest()
        assert row["entry_hash"] == previous
        assert desk.keys.public(row["key_id"]).has_signed(previous.encode(), row["signature"])
    assert [row["certificate_id"] for row in desk.rows(CERTIFICATES)] == sorted([first, second])
    assert desk.verify() == []


def test_one_certificate_is_in_force_for_a_week_and_use_case(desk: Desk) -> None:
    """Prevents two answers to one question, and events that did not happen."""
    first = desk.issue({"a": 1})
    for content in ({"a": 1}, {"a": 2}):
        with pytest.raises(StoreError, match=f"{first[:12]} is in force for {DOMAIN} 2025-11-14 trading"):
            desk.issue(content)
    desk.issue({"a": 1}, ready_for="research")
    desk.issue({"a": 1}, week_ending=date(2025, 11, 21))
    desk.issue({"a": 1}, domain="other")
    desk.supersede(first)
    with pytest.raises(StoreError, match="not in force: it was superseded before"):
        desk.supersede(first)
    with pytest.raises(StoreError, match="there is no certificate 0000"):
        desk.supersede("0" * 64)
    assert desk.do(lambda draft: in_force(draft, **PLACE)) is None
    assert desk.do(lambda draft: in_force(draft, **OTHER)) == certificate_id(**OTHER, content={"a": 1})
    with desk.store.control.read() as connection:
        assert counts(connection) == (4, 5)
    assert desk.verify() == []


def test_one_transaction_may_hold_many(desk: Desk) -> None:
    """Prevents rows of the same draft from being overlooked: a range certifies many weeks at once."""

    def act(draft: Draft) -> None:
        def put(content: dict[str, Any], **place: Any) -> str:
            return issue(draft, desk.keys, **(PLACE | place), content=content, actor="check", reason="all hold")

        first = put({"a": 1})
        with pytest.raises(StoreError, match="is in force"):
            put({"a": 1})
        supersede(draft, desk.keys, first, actor="ops", reason="restated")
        assert in_force(draft, **PLACE) is None
        assert in_force(draft, **PLACE | {"ready_for": "x"}) is None
        second = put({"a": 2})
        assert in_force(draft, **PLACE) == second
        supersede(draft, desk.keys, second, actor="ops", reason="restated")
        assert put({"a": 1}) == first
        put({"a": 1}, week_ending=date(2025, 11, 21))

    desk.do(act)
    assert [row["seq"] for row in desk.rows(CERTIFICATE_LOG)] == [1, 2, 3, 4, 5, 6]
    assert len(desk.rows(CERTIFICATES)) == 3
    assert desk.verify() == []


def test_the_list_has_the_newest_week_first(desk: Desk) -> None:
    """Prevents a superseded certificate from passing for one in force, or the first issue for the last."""
    old = desk.issue({"a": 1}, week_ending=date(2025, 11, 7))
    first = desk.issue({"a": 1})
    desk.supersede(first)
    desk.supersede(old)
    second = desk.issue({"a": 2})
    desk.issue({"a": 1}, week_ending=date(2025, 11, 7), reason="taken back")
    with desk.store.control.read() as connection:
        rows = listed(connection, every=True)
        found = [(one["certificate_id"], one["is_in_force"], one["issued_at"], one["issued_by"]) for one in rows]
        assert found == [
            (second, True, at(5), "check"),
            (first, False, at(2), "check"),
            (old, True, at(6), "check"),
        ]
        assert [one["certificate_id"] for one in listed(connection)] == [second, old]
        assert [one["certificate_id"] for one in listed(connection, week_ending=date(2025, 11, 7))] == [old]
        assert listed(connection, ready_for="research") == []
        assert [one["reason"] for one in history(connection, old)] == ["all hold", "restated", "taken back"]


def test_a_replay_of_the_journal_gives_the_same_rows(desk: Desk, tmp_path: Path) -> None:
    """Prevents a rebuild that loses certificates, or alters one so that its signature fails."""
    first = desk.issue({"a": "ü"})
    desk.supersede(first)
    desk.issue({"a": "ü"})
    other = Control(f"sqlite:///{tmp_path / 'other.db'}")
    other.ensure()
    with other.write() as connection:
        for entry in journal.read(desk.store.home.journal, JOURNALLED):
            apply(connection, entry)
    replayed = Desk(Store(desk.store.home, other))
    for table in TABLES:
        assert replayed.rows(table) == desk.rows(table) != []
    assert replayed.verify() == []
    other.dispose()


def test_a_kill_between_journal_and_commit_is_no_difference(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a false alarm: the entry of a transaction that never committed is taken over by the next one."""
    first = desk.issue({"a": 1})

    def killed(folder: Path, entry: journal.Entry) -> Path:
        write(folder, entry)
        raise KeyboardInterrupt

    write = journal.write
    monkeypatch.setattr(journal, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        desk.supersede(first)
    monkeypatch.undo()
    assert len(list(journal.read(desk.store.home.journal, JOURNALLED))) == 2
    assert desk.verify() == []
    desk.supersede(first)
    assert desk.verify() == []
