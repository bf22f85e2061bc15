"""Certificates for tests: a desk that issues and supersedes them, each in a transaction of its own, and a known key."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.governance import certificates
from market_spine.governance.certificates import issue, supersede
from market_spine.governance.keys import Keys
from market_spine.store.commit import commit
from market_spine.store.differences import Difference
from market_spine.store.ledger import Draft, Run, transaction
from market_spine.store.store import Store
from market_spine.store.trust_tables import CERTIFICATES
from market_spine_tests.store.builders import DOMAIN, RAW, WEEK, at, batch, raw

PLACE: dict[str, Any] = {"domain": DOMAIN, "week_ending": WEEK, "ready_for": "trading"}
OTHER = PLACE | {"ready_for": "research"}
# RFC 8032, 7.1, test 2: a private key and its public key.
SECRET = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")


def known_key(home: Path) -> Keys:
    """The key of the RFC in the place of the store's own, as any other program would write it."""
    der = bytes.fromhex("302e020100300506032b657004220420") + SECRET  # PKCS 8 of Ed25519, RFC 8410
    folder = home / "keys"
    folder.mkdir(parents=True, mode=0o700)
    text = base64.b64encode(der).decode()
    (folder / "signing.pem").write_text(f"-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
    (folder / "signing.pem").chmod(0o600)
    return Keys(folder)


class Desk:
    """A store in which certificates are issued and superseded, each in a transaction of its own, a second apart."""

    def __init__(self, store: Store) -> None:
        self.store, self.keys, self.seconds = store, Keys.of(store.home), 0

    def do(self, act: Callable[[Draft], Any]) -> Any:
        self.seconds += 1
        run = Run(f"run-{self.seconds}", "business-1", at(self.seconds))
        with transaction(self.store.control, self.store.home, run, CERTIFICATES.name) as draft:
            return act(draft)

    def issue(self, content: dict[str, Any], reason: str = "all hold", **place: Any) -> str:
        where = PLACE | place
        issued = self.do(lambda one: issue(one, self.keys, **where, content=content, actor="check", reason=reason))
        return str(issued)

    def supersede(self, identity: str, reason: str = "restated") -> None:
        self.do(lambda one: supersede(one, self.keys, identity, actor="ops", reason=reason))

    def verify(self) -> list[Difference]:
        return certificates.verify(self.store)

    def rows(self, table: sa.Table) -> list[dict[str, Any]]:
        with self.store.control.read() as connection:
            select = sa.select(table).order_by(*table.primary_key)
            return [dict(row) for row in connection.execute(select).mappings()]


def captured(store: Store, *tiers: Tier, tables: Sequence[str] = (RAW,)) -> list[dict[str, Any]]:
    """Captures of the week, and what a certificate says of them."""
    made = [
        raw(WeekKey(WEEK, tier), content=name, capture_id=f"{name}:{tier}:{WEEK}", table_name=name)
        for name in tables
        for tier in tiers
    ]
    commit(store.control, store.home, batch(*made))
    return [
        {
            "capture_id": one.capture_id,
            "table": one.table_name,
            "tier": one.key.tier_text,
            "revision": 1,
            "row_count": one.row_count,
            "content_hash": one.content_hash,
            "file_sha256": one.file_sha256,
            "captured_at": one.captured_at.isoformat(),
        }
        for one in made
    ]


def filled(store: Store) -> Desk:
    """Two certificates that rest on a capture, one of them superseded and issued again: four links."""
    desk = Desk(store)
    content = {"evidence": {"captures": captured(store, Tier.OTC)}, "code_version": "0.1.0"}
    first = desk.issue(content)
    desk.issue(content, ready_for="research")
    desk.supersede(first)
    desk.issue(content)
    return desk
