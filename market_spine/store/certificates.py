"""core_certificates and its log, as put in and as read: by those who decide, by people, and as bare text for a proof.

What belongs here: their rows. What does not: what a document, a hash or a signature is (`governance.certificates`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from market_spine.domain.trust import CertificateEvent
from market_spine.store.columns import moment_text
from market_spine.store.journal import Entry
from market_spine.store.ledger import Draft
from market_spine.store.manifest import IN_LIMIT
from market_spine.store.schema import MANIFEST
from market_spine.store.trust_tables import CERTIFICATE_LOG, CERTIFICATES, READINESS

C, L = CERTIFICATES.c, CERTIFICATE_LOG.c
Row = dict[str, Any]
Texts = dict[str, str]
TABLES: tuple[sa.Table, ...] = (CERTIFICATES, CERTIFICATE_LOG)


def put(draft: Draft, row: Mapping[str, Any]) -> None:
    """A certificate; its link follows with `put_link`."""
    draft.put(CERTIFICATES, row)


def put_link(draft: Draft, row: Mapping[str, Any]) -> None:
    """The next link of the chain."""
    draft.put(CERTIFICATE_LOG, row)


def last_link(draft: Draft) -> Row | None:
    """The end of the chain, the draft's own links included."""
    if drafted := draft.rows.get(CERTIFICATE_LOG.name):
        return drafted[-1]
    newest = sa.select(CERTIFICATE_LOG).order_by(L.seq.desc()).limit(1)
    found = draft.connection.execute(newest).mappings().first()
    return dict(found) if found else None


def events_of(draft: Draft, certificate_id: str) -> list[str]:
    """What happened to one certificate, in order; nothing where there is no such certificate."""
    select = sa.select(L.event).where(L.certificate_id == certificate_id).order_by(L.seq)
    drafted = draft.rows.get(CERTIFICATE_LOG.name, [])
    own = [row["event"] for row in drafted if row["certificate_id"] == certificate_id]
    return [*draft.connection.scalars(select), *own]


def ids_for(draft: Draft, domain: str, week_ending: date, ready_for: str) -> list[str]:
    """The certificates that were ever issued for one week and use case."""
    place = {"domain": domain, "week_ending": week_ending, "ready_for": ready_for}
    select = sa.select(C.certificate_id).where(*(C[name] == value for name, value in place.items()))
    drafted = draft.rows.get(CERTIFICATES.name, [])
    own = [row["certificate_id"] for row in drafted if all(row[name] == value for name, value in place.items())]
    return [*draft.connection.scalars(select), *own]


def listed(
    connection: sa.Connection,
    week_ending: date | None = None,
    ready_for: str | None = None,
    every: bool = False,
    certificate_id: str | None = None,
) -> list[Row]:
    """Certificates with ``is_in_force``, ``issued_at`` and ``issued_by`` (of the last time), the newest week first.

    Those that were superseded are left out unless ``every`` is wanted.
    """
    newest = sa.select(L.certificate_id, sa.func.max(L.seq).label("seq")).group_by(L.certificate_id)
    last = newest.subquery()
    issued = newest.where(L.event == CertificateEvent.ISSUED.value).subquery()
    state, issue = CERTIFICATE_LOG.alias(), CERTIFICATE_LOG.alias()
    is_in_force = state.c.event == CertificateEvent.ISSUED.value
    select = (
        sa.select(
            CERTIFICATES,
            is_in_force.label("is_in_force"),
            issue.c.logged_at.label("issued_at"),
            issue.c.actor.label("issued_by"),
        )
        .join(last, last.c.certificate_id == C.certificate_id)
        .join(state, state.c.seq == last.c.seq)
        .join(issued, issued.c.certificate_id == C.certificate_id)
        .join(issue, issue.c.seq == issued.c.seq)
        .order_by(C.week_ending.desc(), C.domain, C.ready_for, issue.c.seq.desc())
    )
    wanted = {"week_ending": week_ending, "ready_for": ready_for, "certificate_id": certificate_id}
    select = select.where(*(C[name] == value for name, value in wanted.items() if value is not None))
    select = select if every else select.where(is_in_force)
    return [dict(row) for row in connection.execute(select).mappings()]


def in_force(connection: sa.Connection, domain: str) -> set[str]:
    """The ids of the certificates of a domain whose last link issued them."""
    last = sa.select(sa.func.max(L.seq)).group_by(L.certificate_id)
    select = sa.select(L.certificate_id).join(CERTIFICATES, C.certificate_id == L.certificate_id)
    is_issued = L.event == CertificateEvent.ISSUED.value
    return set(connection.scalars(select.where(C.domain == domain, L.seq.in_(last), is_issued)))


def certified_captures(connection: sa.Connection, domain: str, ready_for: str) -> set[str]:
    """The captures that certificates in force are about, of weeks that are ready; as core_certified_captures in SQL."""
    r = READINESS.c
    ready = sa.select(r.certificate_id).where(r.domain == domain, r.ready_for == ready_for, r.is_ready == 1)
    last = sa.select(sa.func.max(L.seq)).group_by(L.certificate_id)
    issued = sa.select(L.certificate_id).where(L.seq.in_(last), L.event == CertificateEvent.ISSUED.value)
    documents = sa.select(C.document).where(C.certificate_id.in_(ready), C.certificate_id.in_(issued))
    found = (json.loads(text)["evidence"]["captures"] for text in connection.scalars(documents))
    return {one["capture_id"] for captures in found for one in captures}


def counts(connection: sa.Connection) -> tuple[int, int]:
    """How many certificates and how many links there are."""
    certificates, links = (connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0 for table in TABLES)
    return certificates, links


def history(connection: sa.Connection, certificate_id: str) -> list[Row]:
    """The links of one certificate, in order."""
    select = sa.select(CERTIFICATE_LOG).where(L.certificate_id == certificate_id).order_by(L.seq)
    return [dict(row) for row in connection.execute(select).mappings()]


def texts(connection: sa.Connection, table: sa.Table, *where: sa.ColumnElement[bool]) -> list[Texts]:
    """Rows as bare text: a date or an encoding that somebody spoilt must be told, not fail to be read."""
    if connection.dialect.name == "sqlite":
        columns: list[Any] = [sa.cast(column, sa.LargeBinary).label(column.name) for column in table.c]
    else:
        columns = [sa.type_coerce(column, sa.types.NullType()).label(column.name) for column in table.c]
    select = sa.select(*columns).where(*where).order_by(*table.primary_key)
    return [{name: _text(value) for name, value in row.items()} for row in connection.execute(select).mappings()]


def captures(connection: sa.Connection, capture_ids: Collection[str]) -> dict[str, Texts]:
    """The manifest's rows of those captures, as bare text."""
    listed, found = sorted(set(capture_ids)), dict[str, Texts]()
    for start in range(0, len(listed), IN_LIMIT):
        is_meant = MANIFEST.c.capture_id.in_(listed[start : start + IN_LIMIT])
        found |= {row["capture_id"]: row for row in texts(connection, MANIFEST, is_meant)}
    return found


def journalled(entries: Iterable[Entry], table: sa.Table) -> list[tuple[int, Texts]]:
    """The rows of ``table`` that journal entries hold, as bare text, each with the number of its entry."""
    return [
        (entry.seq, {name: _text(value) for name, value in row.items()})
        for entry in entries
        for row in entry.rows[table.name]
    ]


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")  # no text of the journal holds what stands for a spoilt byte
    return moment_text(value) if isinstance(value, datetime) else str(value)
