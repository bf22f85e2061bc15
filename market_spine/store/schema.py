"""The control tables. Migrations create them; this module is how the code names them."""

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
    text,
)

from market_spine.domain.captures import Action, Stage
from market_spine.domain.contracts import Category, Severity
from market_spine.store.columns import METADATA, Moment, one_of
from market_spine.store.operations_tables import (
    EXECUTIONS,
    NOTICE_RECEIPTS,
    NOTICES,
    QUALITY_SCORES,
    SUBSCRIPTIONS,
    WORK_ITEMS,
    WORK_LOG,
)
from market_spine.store.serving_tables import CONSUMPTION, DATA_VERSIONS, TOKENS
from market_spine.store.trust_tables import (
    ANOMALIES,
    ANOMALY_LOG,
    CALENDAR_VINTAGES,
    CERTIFICATE_LOG,
    CERTIFICATES,
    EVENTS,
    HEARTBEATS,
    READINESS,
    READINESS_LOG,
    SCHEDULES,
)

BATCHES = Table(
    "core_batches",
    METADATA,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("batch_id", String, nullable=False, unique=True),
    Column("table_name", String, nullable=False),
    Column("execution_id", String, nullable=False),
    Column("correlation_id", String, nullable=False),
    Column("committed_at", Moment, nullable=False),
)

MANIFEST = Table(
    "core_manifest",
    METADATA,
    Column("capture_id", String, primary_key=True),
    Column("domain", String, nullable=False),
    Column("table_name", String, nullable=False),
    Column("stage", String, nullable=False),
    Column("week_ending", Date, nullable=False),
    Column("tier", String, nullable=False),
    Column("partition_key", String, nullable=False),
    Column("status", String, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("is_current", Integer, nullable=False),
    Column("row_count", Integer, nullable=False),
    Column("content_hash", String(32), nullable=False),
    Column("file_path", String, nullable=False, unique=True),
    Column("file_sha256", String(64), nullable=False),
    Column("file_bytes", BigInteger, nullable=False),
    Column("captured_at", Moment, nullable=False),
    Column("computed_at", Moment, nullable=False),
    Column("calc_version", String, nullable=False),
    Column("inputs_hash", String(32), nullable=False),
    Column("landing_id", String(64)),
    Column("policy", String, nullable=False),
    Column("execution_id", String, nullable=False),
    Column("batch_id", String, ForeignKey("core_batches.batch_id"), nullable=False),
    Column("correlation_id", String, nullable=False),
    Column("metrics_json", String, nullable=False, server_default="{}"),
    one_of("stage", Stage),
    one_of("status", ("complete", "overwritten")),
    CheckConstraint("revision >= 1", name="revision_counts_from_1"),
    CheckConstraint("row_count >= 0", name="row_count_not_negative"),
    CheckConstraint("is_current IN (0, 1)", name="is_current_boolean"),
    CheckConstraint("is_current = 0 OR status = 'complete'", name="current_is_complete"),
)
Index(
    "one_current_capture",
    MANIFEST.c.table_name,
    MANIFEST.c.week_ending,
    MANIFEST.c.tier,
    unique=True,
    sqlite_where=text("is_current = 1"),
    postgresql_where=text("is_current = 1"),
)
Index(
    "ix_core_manifest_history", MANIFEST.c.table_name, MANIFEST.c.week_ending, MANIFEST.c.tier, MANIFEST.c.captured_at
)
Index("ix_core_manifest_batch", MANIFEST.c.batch_id)

CAPTURE_INPUTS = Table(
    "core_capture_inputs",
    METADATA,
    Column("capture_id", String, ForeignKey("core_manifest.capture_id"), primary_key=True),
    Column("input_capture_id", String, ForeignKey("core_manifest.capture_id"), primary_key=True),
    CheckConstraint("capture_id <> input_capture_id", name="not_its_own_input"),
)
Index("ix_core_capture_inputs_input", CAPTURE_INPUTS.c.input_capture_id)

DELIVERIES = Table(
    "core_deliveries",
    METADATA,
    Column("delivery_id", String, primary_key=True),
    Column("landing_id", String(64), nullable=False),
    Column("domain", String, nullable=False),
    Column("week_ending", Date, nullable=False),
    Column("tier", String, nullable=False),
    Column("source_kind", String, nullable=False),
    Column("source_name", String, nullable=False),
    Column("week_source", String, nullable=False),
    Column("headers_json", String, nullable=False),
    Column("fetched_at", Moment, nullable=False),
    Column("line_count", Integer, nullable=False),
    Column("action", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("capture_id", String, ForeignKey("core_manifest.capture_id")),
    Column("execution_id", String, nullable=False),
    Column("batch_id", String, ForeignKey("core_batches.batch_id"), nullable=False),
    one_of("action", Action),
    CheckConstraint("action = 'blocked' OR capture_id IS NOT NULL", name="captured_or_blocked"),
)

REJECTS = Table(
    "core_rejects",
    METADATA,
    Column("source_id", String, primary_key=True),
    Column("table_name", String, primary_key=True),
    Column("week_ending", Date, primary_key=True),
    Column("tier", String, primary_key=True),
    Column("part_no", Integer, primary_key=True),
    Column("line_no", Integer, primary_key=True),
    Column("domain", String, nullable=False),
    Column("stage", String, nullable=False),
    Column("reason_code", String, nullable=False),
    Column("detail", String, nullable=False),
    Column("raw_text", String, nullable=False),
    Column("scope", String, nullable=False),
    Column("execution_id", String, nullable=False),
    Column("batch_id", String, ForeignKey("core_batches.batch_id"), nullable=False),
    Column("rejected_at", Moment, nullable=False),
    one_of("stage", Stage),
    one_of("scope", ("ROW", "SYMBOL_METRICS")),
    CheckConstraint("line_no >= 0", name="line_no_not_negative"),
)

QUALITY = Table(
    "core_quality",
    METADATA,
    Column("batch_id", String, ForeignKey("core_batches.batch_id"), primary_key=True),
    Column("table_name", String, primary_key=True),
    Column("week_ending", Date, primary_key=True),
    Column("tier", String, primary_key=True),
    Column("check_name", String, primary_key=True),
    Column("domain", String, nullable=False),
    Column("capture_id", String, ForeignKey("core_manifest.capture_id")),
    Column("status", String, nullable=False),
    Column("severity", String, nullable=False),
    Column("category", String, nullable=False),
    Column("is_expected", Integer, nullable=False),
    Column("is_blocking", Integer, nullable=False),
    Column("actual", String, nullable=False),
    Column("expected", String, nullable=False),
    Column("details_json", String, nullable=False),
    Column("execution_id", String, nullable=False),
    Column("checked_at", Moment, nullable=False),
    one_of("status", ("passed", "failed")),
    one_of("severity", Severity),
    one_of("category", Category),
)
Index("ix_core_quality_partition", QUALITY.c.table_name, QUALITY.c.week_ending, QUALITY.c.tier)

CALC_DEPENDENCIES = Table(
    "core_calc_dependencies",
    METADATA,
    Column("domain", String, primary_key=True),
    Column("table_name", String, primary_key=True),
    Column("depends_on_table", String, primary_key=True),
    Column("depends_on_domain", String, nullable=False),
    Column("weeks_back", Integer, nullable=False),
    Column("dependency_type", String, nullable=False),
    one_of("dependency_type", ("calculation", "reference")),
    CheckConstraint("weeks_back >= 0", name="weeks_back_not_negative"),
)

# What the journal holds, in the order in which foreign keys allow rows to be put in.
JOURNALLED: tuple[Table, ...] = (
    BATCHES,
    MANIFEST,
    CAPTURE_INPUTS,
    DELIVERIES,
    REJECTS,
    QUALITY,
    ANOMALIES,
    ANOMALY_LOG,
    CERTIFICATES,
    CERTIFICATE_LOG,
    READINESS,
    READINESS_LOG,
    EVENTS,
    CALENDAR_VINTAGES,
    WORK_ITEMS,
    WORK_LOG,
    EXECUTIONS,
    QUALITY_SCORES,
    SUBSCRIPTIONS,
    NOTICES,
    NOTICE_RECEIPTS,
    TOKENS,
    DATA_VERSIONS,
    CONSUMPTION,
)
# Of those, the ones whose rows a later transaction replaces, by primary key; the journal has every one.
STANDING: frozenset[Table] = frozenset(
    {ANOMALIES, READINESS, WORK_ITEMS, EXECUTIONS, QUALITY_SCORES, SUBSCRIPTIONS, NOTICES, NOTICE_RECEIPTS, TOKENS}
)
# No history: these follow the code (dependencies, schedules) or the clock (heartbeats).
TABLES: tuple[Table, ...] = (*JOURNALLED, CALC_DEPENDENCIES, SCHEDULES, HEARTBEATS)
