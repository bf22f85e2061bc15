"""Tokens: who may ask the API for what, until when. A token is shown once; its hash is kept.

What belongs here: making, revoking and recognising tokens. What does not: the header that brings one (`api`).

    spine_4f2a90c1d377_kq1...   the prefix by which secret scanners know it, its id, 256 random bits

The bits are hashed once with SHA-256: what nobody can guess needs no slow hash, which every request would wait for.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from market_spine.domain.errors import AccessError, ConflictError, NotFoundError, QueryError
from market_spine.domain.serving import Scope
from market_spine.store import tokens as rows_of
from market_spine.store.ledger import Run, transaction
from market_spine.store.serving_tables import TOKENS
from market_spine.store.store import Store

if TYPE_CHECKING:
    from sqlalchemy import Connection

NAME = re.compile(r"[a-z][a-z0-9_.-]{0,39}")
TOKEN = re.compile(r"spine_(?P<id>[0-9a-f]{12})_(?P<secret>[A-Za-z0-9_-]{43})")
LIST = "spine tokens list"
CREATE = "spine tokens create NAME --scope read"
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Holder:
    """Whom a token in force belongs to, and what it may."""

    token_id: str
    name: str
    scope: Scope
    expires_at: datetime | None


def create(
    store: Store, run: Run, name: str, scope: Scope, expires_at: datetime | None, actor: str
) -> tuple[Holder, str]:
    """A new token, and its text, which is kept nowhere. ConflictError where one of that name is in force."""
    if not NAME.fullmatch(name):
        raise QueryError("that is no name for a token", "use small letters, digits, . - and _, e.g. trading-desk")
    if expires_at is not None and expires_at <= run.now:
        raise QueryError(f"{expires_at:%Y-%m-%d %H:%M} UTC is over", "give a moment to come: --expires 90d")
    holder = Holder(secrets.token_hex(6), name, scope, expires_at)
    secret = secrets.token_urlsafe(32)
    with transaction(store.control, store.home, run, TOKENS.name) as draft:
        if rows_of.named(draft.connection, name):
            remedy = f"spine tokens revoke {name}  # or choose another name; {LIST} shows them"
            raise ConflictError(f"there is a token {name} already", remedy)
        row = {
            "id": holder.token_id,
            "name": name,
            "scope": scope.value,
            "secret_sha256": _hash(secret),
            "created_by": actor,
            "created_at": run.now,
            "expires_at": expires_at,
            "revoked_by": None,
            "revoked_at": None,
        }
        draft.put(TOKENS, row)
    return holder, f"spine_{holder.token_id}_{secret}"


def revoke(store: Store, run: Run, name: str, actor: str) -> Row:
    """End the token called ``name``, or of that id. NotFoundError where none in force is."""
    with transaction(store.control, store.home, run, TOKENS.name) as draft:
        row = rows_of.named(draft.connection, name) or rows_of.by_id(draft.connection, name)
        if row is None or row["revoked_at"]:
            raise NotFoundError(f"there is no token {name!r} in force", LIST)
        ended = row | {"revoked_by": actor, "revoked_at": run.now}
        draft.put(TOKENS, {key: value for key, value in ended.items() if key != "batch_id"})
    return ended


def recognise(connection: Connection, text: str, now: datetime) -> Holder:
    """The holder of the token ``text``. AccessError where it is not in force: it is never said why, nor quoted."""
    found = TOKEN.fullmatch(text)
    row = rows_of.by_id(connection, found["id"]) if found else None
    # Compared in any case, so that the time it takes does not tell whether there is such an id.
    is_same = hmac.compare_digest(_hash(found["secret"] if found else ""), row["secret_sha256"] if row else "0" * 64)
    if row is None or not is_same or row["revoked_at"] or (row["expires_at"] and row["expires_at"] <= now):
        raise AccessError("this token is not in force: it is unknown, revoked or expired", f"ask for another: {CREATE}")
    return Holder(row["id"], row["name"], Scope(row["scope"]), row["expires_at"])


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
