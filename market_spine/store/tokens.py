"""core_tokens, as read and as put in; what a token is and may is `governance.tokens`'s."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from market_spine.store.columns import shown
from market_spine.store.serving_tables import TOKENS

T = TOKENS.c
Row = dict[str, Any]


def by_id(connection: sa.Connection, token_id: str) -> Row | None:
    """One token, in force or not."""
    found = connection.execute(sa.select(TOKENS).where(T.id == token_id)).mappings().first()
    return dict(found) if found else None


def named(connection: sa.Connection, name: str) -> Row | None:
    """The token called ``name`` that was not revoked."""
    found = connection.execute(sa.select(TOKENS).where(T.name == name, T.revoked_at.is_(None))).mappings().first()
    return dict(found) if found else None


def listed(connection: sa.Connection, with_revoked: bool = False) -> list[Row]:
    """Tokens, the oldest first, without what their secrets are compared with."""
    select = sa.select(*shown(TOKENS)).order_by(T.created_at, T.id)
    chosen = select if with_revoked else select.where(T.revoked_at.is_(None))
    return [dict(row) for row in connection.execute(chosen).mappings()]
