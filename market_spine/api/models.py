"""What answers look like, with units and examples: the schemas of the OpenAPI document.

What belongs here: forms. What does not: where the values come from (`routes`).
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from market_spine.api.words import Answer

WEEK = Field(description="Friday that ends the trading week", examples=["2025-11-14"])
TIER = Field(description="NMS_TIER_1, NMS_TIER_2, OTC, or ALL for what is of a whole week", examples=["OTC"])
MOMENT = "2025-12-15T15:00:00Z"


class DataPage(Answer):
    """Rows of one table, the newest week first."""

    table: str = Field(description="The SQL name of the table or view", examples=["otc_symbol_hhi"])
    data_version: str = Field(
        description="Names the captures that the rows rest on", examples=["0d5c0c3f7a0b8a4f0f6b1f2d9a3c4e51"]
    )
    missing: list[str] = Field(
        description="Weeks and tiers that were asked for and of which there is no capture in this version",
        examples=[["2025-11-14 NMS_TIER_2"]],
    )
    rows: list[dict[str, Any]] = Field(
        description="Column -> value; units are in /catalog/{table}. Decimals have all their digits",
        examples=[[{"week_ending": "2025-11-14", "tier": "OTC", "symbol": "AAAA", "hhi": 0.5}]],
    )
    row_count: int = Field(description="Rows in this answer", examples=[1])
    next: str | None = Field(description="The cursor of the next page; null where this is the last one")


class Issue(Answer):
    """One thing that stands against a week."""

    model_config = ConfigDict(extra="allow")

    code: str = Field(description="What it is", examples=["PRELIMINARY"])
    message: str = Field(description="The same in words")
    remedy: str = Field(description="The command that helps")
    detail: dict[str, Any] = Field(
        description="The same for programs; the members depend on the code",
        examples=[{"preliminary_hours": 48, "ready_after": "2025-12-17T15:00:00+00:00"}],
    )


class Verdict(Answer):
    """Whether a week may be used for something, and why."""

    domain: str = Field(examples=["finra.otc_transparency"])
    week_ending: date = WEEK
    ready_for: str = Field(description="The use: trading, compliance or research", examples=["trading"])
    is_ready: bool
    state: str = Field(description="CERTIFIED, PRELIMINARY, BLOCKED or MISSING", examples=["CERTIFIED"])
    all_partitions_present: bool = Field(description="Criterion 1: every tier of the use is there")
    all_stages_complete: bool = Field(description="Criterion 2: every table of the use is made")
    no_critical_anomalies: bool = Field(description="Criterion 3: no open CRITICAL anomaly of the week")
    dependencies_current: bool = Field(description="Criterion 4: nothing is out of date")
    age_exceeds_preliminary: bool = Field(description="Criterion 5: the preliminary period is over")
    blocking_issues: list[Issue] = Field(description="What stands against it; none where it is ready")
    certified_at: datetime | None = Field(examples=[MOMENT])
    certified_by: str | None = Field(examples=["automated_check"])
    certificate_id: str | None = Field(description="The certificate in force: the sha256 of its document")
    certificate: str | None = Field(description="Where it is", examples=["/api/v1/certificates/3f0c..."])
    judged_at: datetime = Field(description="As of when it was judged; what is on record holds until something changes")


class Verdicts(Answer):
    """The verdicts on all weeks, the newest first."""

    items: list[Verdict]


class Anomaly(Answer):
    """One thing that is or was wrong."""

    id: int
    severity: str = Field(examples=["WARN"])
    week_ending: date = WEEK
    tier: str = TIER
    code: str = Field(examples=["LATE_DATA"])
    message: str
    follows: int = Field(description="Open anomalies that only follow from it")
    state: str = Field(examples=["open"])
    resolved_at: datetime | None
    category: str = Field(examples=["FRESHNESS"])
    table_name: str = Field(examples=["otc_raw"])
    affected_records: int | None
    times_seen: int
    detected_at: datetime
    last_seen_at: datetime


class Anomalies(Answer):
    """Anomalies: the open ones first, of these the gravest."""

    items: list[Anomaly]


class Change(Answer):
    """One line of a log."""

    model_config = ConfigDict(extra="allow")

    actor: str
    changed_at: datetime


class AnomalyInFull(Answer):
    """One anomaly with its details, samples and history."""

    model_config = ConfigDict(extra="allow")

    id: int
    severity: str
    code: str
    message: str
    details: dict[str, Any]
    samples: list[dict[str, Any]]
    history: list[Change]
    steps: list[str] = Field(description="Commands that help, while it is open")


class Resolution(BaseModel):
    """Why an anomaly is settled."""

    model_config = ConfigDict(extra="forbid")

    note: str = Field(
        min_length=1,
        max_length=2000,
        pattern=r"^[^\x00]*$",
        description="What was found, and why it is settled",
        examples=["FINRA confirmed the quantities"],
    )


class CaptureRow(Answer):
    """One capture: one immutable version of one partition of one table."""

    table: str = Field(examples=["otc_raw"])
    week_ending: date = WEEK
    tier: str = TIER
    revision: int = Field(description="Counts from 1 for each partition")
    state: str = Field(description="current, superseded or overwritten")
    rows: int
    captured_at: datetime = Field(description="When its content became known")
    version: str = Field(description="The version of the calculation", examples=["1.0"])
    capture_id: str = Field(examples=["finra.otc_transparency:OTC:2025-11-14:20251215T150000Z"])


class Captures(Answer):
    """Captures, the newest week first."""

    items: list[CaptureRow]


class CaptureInFull(CaptureRow):
    """One capture with what it was made from and what was made of it."""

    computed_at: datetime
    content_hash: str = Field(description="Over its rows, whatever their order")
    file_sha256: str
    file_bytes: int
    policy: str
    execution_id: str = Field(description="The Dagster run that made it")
    correlation_id: str = Field(description="The business process that it belongs to")
    landing_id: str | None = Field(description="The bytes that arrived; null for what is calculated")
    made_from: list[str] = Field(description="The captures that it was made from")


class Consumer(Answer):
    """Somebody who used something."""

    actor: str = Field(examples=["trading-desk"])
    via: str = Field(examples=["api"])
    uses: int
    first_used_at: datetime
    last_used_at: datetime


class RestatementImpact(Answer):
    """What a restatement changed, and who had used what it superseded."""

    model_config = ConfigDict(extra="allow")

    before: str = Field(description="The capture that it superseded")
    after: str
    message: str
    rows: dict[str, int] = Field(description="added, removed and changed rows")
    consumers: list[Consumer]


class Certificate(Answer):
    """One readiness certificate."""

    certificate_id: str = Field(description="The sha256 of its document")
    domain: str
    week_ending: date = WEEK
    ready_for: str
    is_in_force: bool
    issued_at: datetime
    issued_by: str
    key_id: str
    signature: str = Field(description="Ed25519 over the document, hexadecimal")


class Certificates(Answer):
    """Certificates, the newest week first."""

    items: list[Certificate]


class CertificateInFull(Certificate):
    """One certificate with exactly the text that was signed."""

    document: str
