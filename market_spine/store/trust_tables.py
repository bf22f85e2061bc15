"""The control tables of the business record: anomalies, readiness, certificates, events, calendar vintages, schedules.

What belongs here: their columns and laws. What does not: the record of captures (`schema`).
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    UniqueConstraint,
    text,
)

from market_spine.domain.captures import Stage
from market_spine.domain.contracts import Category, Severity
from market_spine.domain.trust import AnomalyChange, CertificateEvent, Readiness, ScheduleType
from market_spine.store.columns import METADATA, Moment, one_of

ANOMALIES = Table(
    "core_anomalies",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("domain", String, nullable=False),
    Column("pipeline", String, nullable=False),
    Column("partition_key", String, nullable=False),
    Column("stage", String, nullable=False),
    Column("severity", String, nullable=False),
    Column("category", String, nullable=False),
    Column("code", String, nullable=False),
    Column("message", String, nullable=False),
    Column("details_json", String, nullable=False),
    Column("affected_records", BigInteger),
    Column("sample_records", String, nullable=False),
    Column("execution_id", String, nullable=False),
    Column("capture_id", String),  # what it is about may never have become a capture
    Column("detected_at", Moment, nullable=False),
    Column("resolved_at", Moment),
    Column("resolution_note", String),
    Column("resolved_by", String),
    Column("fingerprint", String(32), nullable=False),
    # A cause may be found after its effect, so that the rows of a rebuild refer forward until they are all in.
    Column("cause_id", Integer, ForeignKey("core_anomalies.id", deferrable=True, initially="DEFERRED")),
    Column("table_name", String, nullable=False),
    Column("week_ending", Date, nullable=False),
    Column("tier", String, nullable=False),
    Column("last_seen_at", Moment, nullable=False),
    Column("times_seen", Integer, nullable=False),
    Column("batch_id", String, ForeignKey("core_batches.batch_id"), nullable=False),
    one_of("stage", Stage),
    one_of("severity", Severity),
    one_of("category", Category),
    CheckConstraint("(resolved_at IS NULL) = (resolution_note IS NULL)", name="resolved_with_a_note"),
    CheckConstraint("(resolved_at IS NULL) = (resolved_by IS NULL)", name="resolved_by_someone"),
    CheckConstraint("times_seen >= 1", name="seen_at_least_once"),
    CheckConstraint("cause_id <> id", name="not_its_own_cause"),
)
Index(
    "one_open_anomaly",
    ANOMALIES.c.fingerprint,
    unique=True,
    sqlite_where=text("resolved_at IS NULL"),
    postgresql_where=text("resolved_at IS NULL"),
)
Index("ix_core_anomalies_partition", ANOMALIES.c.domain, ANOMALIES.c.week_ending, ANOMALIES.c.tier)

ANOMALY_LOG = Table(
    "core_anomaly_log",
    METADATA,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("anomaly_id", Integer, ForeignKey("core_anomalies.id"), nullable=False),
    Column("change", String, nullable=False),
    Column("severity", String, nullable=False),
    Column("message", String, nullable=False),
    Column("cause_id", Integer),
    Column("capture_id", String),
    Column("note", String, nullable=False),
    Column("actor", String, nullable=False),
    Column("changed_at", Moment, nullable=False),
    Column("execution_id", String, nullable=False),
    Column("batch_id", String, ForeignKey("core_batches.batch_id"), nullable=False),
    one_of("change", AnomalyChange),
    one_of("severity", Severity),
)
Index("ix_core_anomaly_log_anomaly", ANOMALY_LOG.c.anomaly_id)

CERTIFICATES = Table(
    "core_certificates",
    METADATA,
    Column("certificate_id", String(64), primary_key=True),  # sha256 of the document
    Column("domain", String, nullable=False),
    Column("week_ending", Date, nullable=False),
    Column("ready_for", String, nullable=False),
    Column("document", String, nullable=False),
    Column("signature", String(128), nullable=False),
    Column("key_id", String(64), nullable=False),
    Column("batch_id", String, ForeignKey("core_batches.batch_id"), nullable=False),
)

CERTIFICATE_LOG = Table(
    "core_certificate_log",
    METADATA,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("event", String, nullable=False),
    Column("certificate_id", String(64), ForeignKey("core_certificates.certificate_id"), nullable=False),
    Column("reason", String, nullable=False),
    Column("actor", String, nullable=False),
    Column("logged_at", Moment, nullable=False),
    Column("previous_hash", String(64), nullable=False),
    Column("entry_hash", String(64), nullable=False, unique=True),
    Column("signature", String(128), nullable=False),
    Column("key_id", String(64), nullable=False),
    Column("batch_id", String, ForeignKey("core_batches.batch_id"), nullable=False),
    one_of("event", CertificateEvent),
)

READINESS = Table(
    "core_data_readiness",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("domain", String, nullable=False),
    Column("partition_key", String, nullable=False),
    Column("is_ready", Integer, nullable=False),
    Column("ready_for", String, nullable=False),
    Column("all_partitions_present", Integer, nullable=False),
    Column("all_stages_complete", Integer, nullable=False),
    Column("no_critical_anomalies", Integer, nullable=False),
    Column("dependencies_current", Integer, nullable=False),
    Column("age_exceeds_preliminary", Integer, nullable=False),
    Column("blocking_issues", String, nullable=False),
    Column("certified_at", Moment),
    Column("certified_by", String),
    Column("certificate_id", String(64), ForeignKey("core_certificates.certificate_id")),
    Column("state", String, nullable=False),
    Column("week_ending", Date, nullable=False),
    Column("tiers", String, nullable=False),
    Column("facts_json", String, nullable=False),
    Column("judged_at", Moment, nullable=False),
    Column("batch_id", String, ForeignKey("core_batches.batch_id"), nullable=False),
    one_of("state", Readiness),
    CheckConstraint("(is_ready = 1) = (state = 'CERTIFIED')", name="ready_is_certified"),
    CheckConstraint("(is_ready = 1) = (certificate_id IS NOT NULL)", name="ready_has_a_certificate"),
    UniqueConstraint("domain", "partition_key", "ready_for"),
)

READINESS_LOG = Table(
    "core_readiness_log",
    METADATA,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("domain", String, nullable=False),
    Column("week_ending", Date, nullable=False),
    Column("ready_for", String, nullable=False),
    Column("from_state", String),
    Column("to_state", String, nullable=False),
    Column("blocking_issues", String, nullable=False),
    Column("facts_json", String, nullable=False),
    Column("certificate_id", String(64), ForeignKey("core_certificates.certificate_id")),
    Column("actor", String, nullable=False),
    Column("judged_at", Moment, nullable=False),
    Column("execution_id", String, nullable=False),
    Column("batch_id", String, ForeignKey("core_batches.batch_id"), nullable=False),
    one_of("to_state", Readiness),
)
Index("ix_core_readiness_log_week", READINESS_LOG.c.domain, READINESS_LOG.c.week_ending, READINESS_LOG.c.ready_for)

EVENTS = Table(
    "core_events",
    METADATA,
    Column("event_id", String(32), primary_key=True),
    Column("event_type", String, nullable=False),
    Column("domain", String, nullable=False),
    Column("week_ending", Date, nullable=False),
    Column("tier", String, nullable=False),
    Column("message", String, nullable=False),
    Column("payload_json", String, nullable=False),
    Column("correlation_id", String, nullable=False),
    Column("causation_id", String),
    Column("occurred_at", Moment, nullable=False),
    Column("execution_id", String, nullable=False),
    Column("batch_id", String, ForeignKey("core_batches.batch_id"), nullable=False),
)

CALENDAR_VINTAGES = Table(
    "core_calendar_vintages",
    METADATA,
    Column("vintage", Integer, primary_key=True, autoincrement=False),
    Column("exchange_code", String, nullable=False),
    Column("library_version", String, nullable=False),
    Column("content_hash", String(64), nullable=False),
    Column("document", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("actor", String, nullable=False),
    Column("built_at", Moment, nullable=False),
    Column("execution_id", String, nullable=False),
    Column("batch_id", String, ForeignKey("core_batches.batch_id"), nullable=False),
)

SCHEDULES = Table(
    "core_expected_schedules",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("domain", String, nullable=False),
    Column("pipeline", String, nullable=False),
    Column("schedule_type", String, nullable=False),
    Column("partition_template", String, nullable=False),
    Column("partition_values", String, nullable=False),
    Column("expected_delay_hours", Integer, nullable=False),
    Column("preliminary_hours", Integer, nullable=False),
    Column("description", String, nullable=False),
    Column("is_active", Integer, nullable=False),
    Column("expected_day_of_week", Integer),
    Column("expected_time", String, nullable=False),
    Column("timezone", String, nullable=False),
    Column("publication_lag_days", String, nullable=False),
    Column("watch_weeks", Integer, nullable=False),
    one_of("schedule_type", ScheduleType),
    UniqueConstraint("domain", "pipeline"),
)

HEARTBEATS = Table(
    "core_heartbeats",
    METADATA,
    Column("name", String, primary_key=True),
    Column("beat_at", Moment, nullable=False),
    Column("detail", String, nullable=False),
)
