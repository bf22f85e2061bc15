"""What stands against the data and what it rests on: anomalies, captures, restatements, certificates, diagnoses."""

from __future__ import annotations

import json
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Path, Query, Request
from pydantic import Field

from market_spine.api import problems
from market_spine.api.desk import Desk
from market_spine.api.models import (
    Anomalies,
    Anomaly,
    AnomalyInFull,
    CaptureInFull,
    CaptureRow,
    Captures,
    Certificate,
    CertificateInFull,
    Certificates,
    Change,
    Resolution,
    RestatementImpact,
)
from market_spine.api.recording import told
from market_spine.api.routes.lists import OfWeek, OfWeeks
from market_spine.api.routes.readiness import Domain
from market_spine.api.security import Operator, Reader, desk_of
from market_spine.assets.expected import schedule_of
from market_spine.assets.names import captured
from market_spine.assets.reading import publish_again
from market_spine.assets.scope import scope_of
from market_spine.assets.tables import derived_of, tables_of
from market_spine.automation.request import feed_of
from market_spine.domain.contracts import Severity
from market_spine.domain.errors import NotFoundError, QueryError, StoreError
from market_spine.feeds import load_feeds
from market_spine.governance import anomalies as closing
from market_spine.governance.diagnosis import Diagnosis, document, schedule_document
from market_spine.governance.doctor import examine
from market_spine.governance.remedies import steps
from market_spine.governance.restatement import impact as compared
from market_spine.store import anomalies, certificates, listings
from market_spine.store.columns import MOST_NUMBER
from market_spine.store.manifest import Capture, by_ids, inputs_of
from market_spine.store.presence import current
from market_spine.store.restatements import predecessor

router = APIRouter(tags=["findings"])
READ = problems.responses(401, 403, 404, 422, 429, 503)
CHANGE = READ | problems.responses(400, 409, 413)
Number = Annotated[int, Path(ge=1, le=MOST_NUMBER, description="Its number", examples=[1])]
CaptureId = Annotated[
    str,
    Path(max_length=200, description="Its id", examples=["finra.otc_transparency:OTC:2025-11-14:20251215T150000Z"]),
]
CertificateId = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="The sha256 of its document")]


class OfAnomalies(OfWeeks):
    """Which anomalies."""

    severity: Severity = Field(Severity.WARN, description="This one and graver ones")
    with_resolved: bool = Field(False, description="Also what no longer holds")
    with_linked: bool = Field(False, description="Also what only follows from another one")


@router.get("/anomalies", responses=READ, summary="What is wrong")
def anomalies_(request: Request, holder: Reader, of: Annotated[OfAnomalies, Query()]) -> Anomalies:
    """The open ones first, of these the gravest; one row per root cause, unless linked ones are asked for."""
    bounds = (of.week, of.tiers, of.severity, of.with_resolved, of.with_linked, of.limit, of.offset)
    with desk_of(request).store.control.read() as connection:
        rows = listings.anomalies(connection, *bounds)
    told(request, holder, row_count=len(rows))
    return Anomalies(items=[Anomaly(**row) for row in rows])


@router.get("/anomalies/{number}", responses=READ, summary="One anomaly in full")
def anomaly(request: Request, holder: Reader, number: Number) -> AnomalyInFull:
    """Its details and sample records, everything that happened to it, and what helps."""
    found = _anomaly(desk_of(request), number)
    told(request, holder, row_count=1)
    return found


@router.post(
    "/anomalies/{number}/resolve",
    responses=CHANGE,
    summary="Close an anomaly by hand",
)
def resolve(request: Request, holder: Operator, number: Number, why: Resolution) -> AnomalyInFull:
    """It opens again where the same is found once more. Scope: operate."""
    desk = desk_of(request)
    closing.resolve(desk.store, desk.run(), number, why.note, holder.name)
    found = _anomaly(desk, number)
    told(request, holder, row_count=1)
    _publish(desk)
    return found


def _publish(desk: Desk) -> None:
    """The anomaly is closed by now: a published file that cannot be made anew is told, and the next run makes it."""
    try:
        publish_again(desk.store)
    except StoreError as error:
        structlog.get_logger().warning("not_published", cause=error.cause, remedy=error.remedy)


def _anomaly(desk: Desk, number: int) -> AnomalyInFull:
    with desk.store.control.read() as connection:
        row = anomalies.by_id(connection, number)
        if row is None:
            raise NotFoundError(f"there is no anomaly {number}", "GET /api/v1/anomalies?with_resolved=true")
        history = anomalies.history(connection, number)
        feed = feed_of(load_feeds(), row["domain"])
        raw = feed.sql_name("raw")
        there = current(connection, [raw])[raw]
    helps = steps(row, feed, there) if row["resolved_at"] is None else []
    kept = {name: value for name, value in row.items() if name not in ("details_json", "sample_records", "batch_id")}
    return AnomalyInFull(
        **kept,
        details=json.loads(row["details_json"]),
        samples=json.loads(row["sample_records"]),
        history=[Change(**{name: value for name, value in line.items() if name != "batch_id"}) for line in history],
        steps=helps,
    )


class OfCaptures(OfWeeks):
    """Which captures."""

    table: str | None = Field(None, max_length=80, description="One table; else every one")
    with_superseded: bool = Field(False, description="Every revision")


@router.get("/captures", responses=READ, summary="Which versions there are")
def captures(request: Request, holder: Reader, of: Annotated[OfCaptures, Query()]) -> Captures:
    """The newest week first: the current ones, or every revision."""
    name = captured(of.table)[0].sql_name if of.table else None
    bounds = (name, of.week, of.tiers, of.with_superseded, of.limit, of.offset)
    with desk_of(request).store.control.read() as connection:
        rows = listings.captures(connection, *bounds)
    told(request, holder, row_count=len(rows))
    return Captures(items=[CaptureRow(**row) for row in rows])


@router.get("/captures/{capture_id}", responses=READ, summary="One capture in full")
def capture(request: Request, holder: Reader, capture_id: CaptureId) -> CaptureInFull:
    """Its file's hashes, the run that made it, and what it was made from."""
    one = _capture(desk_of(request), capture_id)
    with desk_of(request).store.control.read() as connection:
        made_from = inputs_of(connection, [one.capture_id])[one.capture_id]
    told(request, holder, row_count=1)
    names = ("computed_at", "content_hash", "file_sha256", "file_bytes", "policy", "execution_id", "correlation_id")
    more = {name: getattr(one, name) for name in (*names, "landing_id")}
    return CaptureInFull(**listings.capture_row(one), **more, made_from=list(made_from))


@router.get("/captures/{capture_id}/impact", responses=READ, summary="What a restatement changed")
def impact(request: Request, holder: Reader, capture_id: CaptureId) -> RestatementImpact:
    """A raw capture against the newest one before it with other content: symbols, shares, measures, windows,
    certificates, and who had used what it superseded."""
    desk = desk_of(request)
    after = _capture(desk, capture_id)
    raw = {feed.sql_name("raw"): feed for feed in load_feeds()}
    if after.table_name not in raw:
        raise QueryError(
            f"{after.table_name} is made from what was delivered: only that is restated",
            f"ask about a capture of {', '.join(raw)}",
        )
    feed = raw[after.table_name]
    with desk.store.control.read() as connection:
        before = predecessor(connection, after)
    if before is None:
        raise NotFoundError(f"no capture before {capture_id} has other content", "it restates nothing")
    desk.collect()
    with desk.answers.turn():
        found = compared(desk.store, feed, derived_of(feed), before, after)
    told(request, holder, captures=(before, after), table_name=after.table_name, version="all-revisions")
    details = json.loads(json.dumps(found.details(), default=str))
    del details["consumers"]
    return RestatementImpact(**details, message=found.message, consumers=list(found.consumers))


def _capture(desk: Desk, capture_id: str) -> Capture:
    with desk.store.control.read() as connection:
        found = by_ids(connection, [capture_id])
    if capture_id not in found:
        raise NotFoundError(f"there is no capture {capture_id!r}", "GET /api/v1/captures?with_superseded=true")
    return found[capture_id]


class OfCertificates(OfWeek):
    """Which certificates."""

    ready_for: str | None = Field(None, max_length=40, description="One use; all if unset")
    with_superseded: bool = Field(False, description="Also those that are no longer in force")


@router.get("/certificates", responses=READ, summary="Readiness certificates")
def certificates_(request: Request, holder: Reader, of: Annotated[OfCertificates, Query()]) -> Certificates:
    """The newest week first: those in force, or every one."""
    with desk_of(request).store.control.read() as connection:
        rows = certificates.listed(connection, of.week, of.ready_for, of.with_superseded)
    page = rows[of.offset : of.offset + of.limit]
    told(request, holder, row_count=len(page))
    return Certificates(items=[Certificate(**row) for row in page])


@router.get("/certificates/{certificate_id}", responses=READ, summary="One certificate")
def certificate(request: Request, holder: Reader, certificate_id: CertificateId) -> CertificateInFull:
    """With exactly the text that was signed; its sha256 is the id, its signature Ed25519."""
    with desk_of(request).store.control.read() as connection:
        found = certificates.listed(connection, every=True, certificate_id=certificate_id)
    if not found:
        raise NotFoundError(
            f"there is no certificate {certificate_id}", "GET /api/v1/certificates?with_superseded=true"
        )
    told(request, holder, row_count=1)
    return CertificateInFull(**found[0])


Weeks = Annotated[int, Query(ge=1, le=1000, description="The newest due weeks of each tier that are looked at")]


@router.get("/doctor/{domain}", responses=READ, summary="How the newest weeks are")
def doctor(request: Request, holder: Reader, domain: Domain, weeks: Weeks = 4) -> dict[str, Any]:
    """What is missing, late, half-finished, out of date, wrong or uncertified, and the commands that help; as
    `spine doctor --format json` tells it."""
    found = _examined(desk_of(request), domain, weeks)
    told(request, holder)
    return document(found)


@router.get("/expectations/{domain}", responses=READ, summary="What is expected, and what came")
def expectations(request: Request, holder: Reader, domain: Domain, weeks: Weeks = 4) -> dict[str, Any]:
    """The schedule, the partitions that it expects, those that are missing and those that came late."""
    found = _examined(desk_of(request), domain, weeks)
    told(request, holder)
    whole = document(found)
    return {
        "domain": whole["domain"],
        "schedule": schedule_document(found),
        "gaps": whole["gaps"],
        "late": whole["late"],
    }


def _examined(desk: Desk, domain: str, weeks: int) -> Diagnosis:
    feed = feed_of(load_feeds(), domain, "use")
    scope = scope_of(feed)
    return examine(desk.store, feed, schedule_of(feed), scope, tables_of(feed), desk.now(), weeks)
