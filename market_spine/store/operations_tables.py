"""The control tables of operations: work items, executions, quality scores, subscriptions, notices and receipts.

What belongs here: their columns and laws. What does not: the record of captures (`schema`) and the business record
(`trust_tables`).
"""

from __future__ import annotations

from sqlalchemy import (
    CheckConstraint,
    Column,
    Date,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    UniqueConstraint,
    text,
)

from market_spine.domain.contracts import Severity
from market_spine.domain.operations import (
    Ended,
    Grade,
    Lane,
    Mode,
    NoticeEvent,
    NoticeKind,
    NoticeState,
    ReceiptState,
    Trigger,
)
from market_spine.domain.work import ErrorClass, WorkState
from market_spine.store.columns import METADATA, Moment, one_of

_OPEN = "state IN ('PENDING', 'RUNNING', 'RETRY_WAIT')"

WORK_ITEMS = Table(
    "core_work_items",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("domain", String, nullable=False),
    Column("pipeline", String, nullable=False),
    Column("partition_key", String, nullable=False),
    Column("generation", Integer, nullable=False),  # how often the partition was asked for, from 1
    Column("week_ending", Date, nullable=False),
    Column("tier", String, nullable=False),
    Column("state", String, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("desired_at", Moment, nullable=False),
    Column("give_up_at", Moment),  # until when `not_yet` is no failure
    Column("params_json", String, nullable=False),
    Column("attempt_count", Integer, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("last_error", String),
    Column("error_class", String),
    Column("next_attempt_at", Moment),
    Column("current_execution_id", String),
    Column("latest_execution_id", String),
    Column("locked_by", String),  # the claim: the run key under which Dagster is asked for a run
    Column("locked_at", Moment),
    Column("requested_by", String, nullable=False),
    Column("correlation_id", String, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Column("completed_at", Moment),
    Column("batch_id", String, ForeignKey("core_batches.batch_id"), nullable=False),
    one_of("state", WorkState),
    one_of("error_class", ErrorClass),
    UniqueConstraint("domain", "pipeline", "partition_key", "generation"),
    CheckConstraint("generation >= 1", name="generation_counts_from_1"),
    CheckConstraint("attempt_count BETWEEN 0 AND max_attempts", name="attempts_within_bounds"),
    CheckConstraint("(state = 'RUNNING') = (locked_by IS NOT NULL)", name="running_is_locked"),
    CheckConstraint("(locked_by IS NULL) = (locked_at IS NULL)", name="locked_since"),
    CheckConstraint("(state = 'RETRY_WAIT') = (next_attempt_at IS NOT NULL)", name="waiting_until"),
    CheckConstraint("(state = 'COMPLETE') = (completed_at IS NOT NULL)", name="complete_since"),
    CheckConstraint("state = 'RUNNING' OR current_execution_id IS NULL", name="executed_while_running"),
)
Index(
    "one_open_work_item",
    WORK_ITEMS.c.domain,
    WORK_ITEMS.c.pipeline,
    WORK_ITEMS.c.partition_key,
    unique=True,
    sqlite_where=text(_OPEN),
    postgresql_where=text(_OPEN),
)
Index("ix_core_work_items_state", WORK_ITEMS.c.state)
Index("ix_core_work_items_desired_at", WORK_ITEMS.c.desired_at)
Index("ix_core_work_items_next_attempt", WORK_ITEMS.c.next_attempt_at)
Index("ix_core_work_items_domain_pipeline", WORK_ITEMS.c.domain, WORK_ITEMS.c.pipeline)

WORK_LOG = Table(
    "core_work_log",
    METADATA,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("work_item_id", Integer, ForeignKey("core_work_items.id"), nullable=False),
    Column("from_state", String),
    Column("to_state", String, nullable=False),
    Column("attempt_count", Integer, nullable=False),
    Column("error_class", String),
    Column("message", String, nullable=False),
    Column("execution_id", String),  # the run that the item was settled by
    Column("actor", String, nullable=False),
    Column("changed_at", Moment, nullable=False),
    Column("batch_id", String, ForeignKey("core_batches.batch_id"), nullable=False),
    one_of("to_state", WorkState),
)
Index("ix_core_work_log_item", WORK_LOG.c.work_item_id)

EXECUTIONS = Table(
    "core_executions",
    METADATA,
    Column("execution_id", String, primary_key=True),
    Column("pipeline", String, nullable=False),
    Column("domain", String, nullable=False),
    Column("status", String, nullable=False),
    Column("logical_key", String, nullable=False),  # its partition or range of partitions, '' for none
    Column("lane", String, nullable=False),
    Column("trigger_source", String, nullable=False),
    Column("parent_execution_id", String),
    Column("correlation_id", String, nullable=False),
    Column("params_json", String, nullable=False),
    Column("error", String),
    Column("created_at", Moment, nullable=False),
    Column("started_at", Moment),
    Column("ended_at", Moment, nullable=False),
    Column("batch_id", String, ForeignKey("core_batches.batch_id"), nullable=False),
    one_of("status", Ended),
    one_of("lane", Lane),
    one_of("trigger_source", Trigger),
)
Index("ix_core_executions_ended", EXECUTIONS.c.ended_at)

_SCORES = ("score", "completeness", "validity", "consistency", "timeliness")

QUALITY_SCORES = Table(
    "core_quality_scores",
    METADATA,
    Column("domain", String, primary_key=True),
    Column("week_ending", Date, primary_key=True),
    Column("tier", String, primary_key=True),
    Column("capture_id", String, ForeignKey("core_manifest.capture_id"), nullable=False),
    *(Column(name, Float, nullable=False) for name in _SCORES),
    Column("grade", String, nullable=False),
    Column("details_json", String, nullable=False),
    Column("scored_at", Moment, nullable=False),
    Column("batch_id", String, ForeignKey("core_batches.batch_id"), nullable=False),
    one_of("grade", Grade),
    *(CheckConstraint(f"{name} BETWEEN 0 AND 1", name=f"{name}_is_a_share") for name in _SCORES),
)

SUBSCRIPTIONS = Table(
    "core_subscriptions",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("name", String, nullable=False, unique=True),
    Column("channel", String, nullable=False),  # a name; its address, which may hold a secret, is never stored here
    Column("domain", String, nullable=False),  # '' for all
    Column("min_severity", String, nullable=False),
    Column("ready_for", String, nullable=False),  # '' for all uses
    Column("mode", String, nullable=False),
    Column("is_active", Integer, nullable=False),
    Column("snoozed_until", Moment),
    Column("actor", String, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Column("batch_id", String, ForeignKey("core_batches.batch_id"), nullable=False),
    one_of("min_severity", Severity),
    one_of("mode", Mode),
    CheckConstraint("is_active IN (0, 1)", name="is_active_boolean"),
)

NOTICES = Table(
    "core_notices",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("dedupe_key", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("domain", String, nullable=False),
    Column("severity", String, nullable=False),
    Column("ready_for", String, nullable=False),  # the uses that it is about, with commas; '' for none of its own
    Column("week_ending", Date),
    Column("tier", String, nullable=False),
    Column("title", String, nullable=False),
    Column("body", String, nullable=False),
    Column("anomaly_id", Integer),
    Column("work_item_id", Integer),
    Column("state", String, nullable=False),
    Column("note", String, nullable=False),
    Column("actor", String, nullable=False),
    Column("times_told", Integer, nullable=False),
    Column("first_at", Moment, nullable=False),
    Column("last_at", Moment, nullable=False),
    Column("batch_id", String, ForeignKey("core_batches.batch_id"), nullable=False),
    one_of("kind", NoticeKind),
    one_of("severity", Severity),
    one_of("state", NoticeState),
    CheckConstraint("times_told >= 1", name="told_at_least_once"),
)
Index(
    "one_open_notice",
    NOTICES.c.dedupe_key,
    unique=True,
    sqlite_where=text("state <> 'CLOSED'"),
    postgresql_where=text("state <> 'CLOSED'"),
)

NOTICE_RECEIPTS = Table(
    "core_notice_receipts",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("notice_id", Integer, ForeignKey("core_notices.id"), nullable=False),
    Column("subscription_id", Integer, ForeignKey("core_subscriptions.id"), nullable=False),
    Column("channel", String, nullable=False),
    Column("telling", Integer, nullable=False),  # the times_told of its notice that it is of
    Column("event", String, nullable=False),
    Column("title", String, nullable=False),  # what was said then, so that a retry says the same
    Column("body", String, nullable=False),
    Column("state", String, nullable=False),
    Column("attempt_count", Integer, nullable=False),  # counted before the attempt is made
    Column("next_attempt_at", Moment),
    Column("last_error", String),
    Column("created_at", Moment, nullable=False),
    Column("sent_at", Moment),
    Column("batch_id", String, ForeignKey("core_batches.batch_id"), nullable=False),
    one_of("event", NoticeEvent),
    one_of("state", ReceiptState),
    UniqueConstraint("notice_id", "telling", "subscription_id"),
    CheckConstraint("(state = 'SENT') = (sent_at IS NOT NULL)", name="sent_since"),
    CheckConstraint("(state = 'PENDING') = (next_attempt_at IS NOT NULL)", name="pending_until"),
    CheckConstraint("attempt_count >= 0", name="attempts_not_negative"),
)
Index("ix_core_notice_receipts_state", NOTICE_RECEIPTS.c.state)
Index("ix_core_notices_dedupe_key", NOTICES.c.dedupe_key)
