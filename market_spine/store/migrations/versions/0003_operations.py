"""Operations: work items, executions, quality scores, subscriptions, notices and their receipts."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    _core_work_items()
    _core_work_log()
    _core_executions()
    _core_quality_scores()
    _core_subscriptions()
    _core_notices()
    _core_notice_receipts()


def _core_work_items() -> None:
    op.create_table('core_work_items',
    sa.Column('id', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('domain', sa.String(), nullable=False),
    sa.Column('pipeline', sa.String(), nullable=False),
    sa.Column('partition_key', sa.String(), nullable=False),
    sa.Column('generation', sa.Integer(), nullable=False),
    sa.Column('week_ending', sa.Date(), nullable=False),
    sa.Column('tier', sa.String(), nullable=False),
    sa.Column('state', sa.String(), nullable=False),
    sa.Column('priority', sa.Integer(), nullable=False),
    sa.Column('desired_at', sa.String(27), nullable=False),
    sa.Column('give_up_at', sa.String(27), nullable=True),
    sa.Column('params_json', sa.String(), nullable=False),
    sa.Column('attempt_count', sa.Integer(), nullable=False),
    sa.Column('max_attempts', sa.Integer(), nullable=False),
    sa.Column('last_error', sa.String(), nullable=True),
    sa.Column('error_class', sa.String(), nullable=True),
    sa.Column('next_attempt_at', sa.String(27), nullable=True),
    sa.Column('current_execution_id', sa.String(), nullable=True),
    sa.Column('latest_execution_id', sa.String(), nullable=True),
    sa.Column('locked_by', sa.String(), nullable=True),
    sa.Column('locked_at', sa.String(27), nullable=True),
    sa.Column('requested_by', sa.String(), nullable=False),
    sa.Column('correlation_id', sa.String(), nullable=False),
    sa.Column('created_at', sa.String(27), nullable=False),
    sa.Column('updated_at', sa.String(27), nullable=False),
    sa.Column('completed_at', sa.String(27), nullable=True),
    sa.Column('batch_id', sa.String(), nullable=False),
    sa.CheckConstraint("(state = 'COMPLETE') = (completed_at IS NOT NULL)", name=op.f('ck_core_work_items_complete_since')),
    sa.CheckConstraint("(state = 'RETRY_WAIT') = (next_attempt_at IS NOT NULL)", name=op.f('ck_core_work_items_waiting_until')),
    sa.CheckConstraint("(state = 'RUNNING') = (locked_by IS NOT NULL)", name=op.f('ck_core_work_items_running_is_locked')),
    sa.CheckConstraint("error_class IN ('transient', 'unavailable', 'not_yet', 'schema', 'refused')", name=op.f('ck_core_work_items_error_class_known')),
    sa.CheckConstraint("state = 'RUNNING' OR current_execution_id IS NULL", name=op.f('ck_core_work_items_executed_while_running')),
    sa.CheckConstraint("state IN ('PENDING', 'RUNNING', 'RETRY_WAIT', 'COMPLETE', 'FAILED', 'CANCELLED')", name=op.f('ck_core_work_items_state_known')),
    sa.CheckConstraint('(locked_by IS NULL) = (locked_at IS NULL)', name=op.f('ck_core_work_items_locked_since')),
    sa.CheckConstraint('attempt_count BETWEEN 0 AND max_attempts', name=op.f('ck_core_work_items_attempts_within_bounds')),
    sa.CheckConstraint('generation >= 1', name=op.f('ck_core_work_items_generation_counts_from_1')),
    sa.ForeignKeyConstraint(['batch_id'], ['core_batches.batch_id'], ),
    sa.PrimaryKeyConstraint('id'),
    sa.UniqueConstraint('domain', 'pipeline', 'partition_key', 'generation')
    )
    op.create_index('ix_core_work_items_desired_at', 'core_work_items', ['desired_at'], unique=False)
    op.create_index('ix_core_work_items_domain_pipeline', 'core_work_items', ['domain', 'pipeline'], unique=False)
    op.create_index('ix_core_work_items_next_attempt', 'core_work_items', ['next_attempt_at'], unique=False)
    op.create_index('ix_core_work_items_state', 'core_work_items', ['state'], unique=False)
    op.create_index('one_open_work_item', 'core_work_items', ['domain', 'pipeline', 'partition_key'], unique=True, sqlite_where=sa.text("state IN ('PENDING', 'RUNNING', 'RETRY_WAIT')"), postgresql_where=sa.text("state IN ('PENDING', 'RUNNING', 'RETRY_WAIT')"))


def _core_work_log() -> None:
    op.create_table('core_work_log',
    sa.Column('seq', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('work_item_id', sa.Integer(), nullable=False),
    sa.Column('from_state', sa.String(), nullable=True),
    sa.Column('to_state', sa.String(), nullable=False),
    sa.Column('attempt_count', sa.Integer(), nullable=False),
    sa.Column('error_class', sa.String(), nullable=True),
    sa.Column('message', sa.String(), nullable=False),
    sa.Column('execution_id', sa.String(), nullable=True),
    sa.Column('actor', sa.String(), nullable=False),
    sa.Column('changed_at', sa.String(27), nullable=False),
    sa.Column('batch_id', sa.String(), nullable=False),
    sa.CheckConstraint("to_state IN ('PENDING', 'RUNNING', 'RETRY_WAIT', 'COMPLETE', 'FAILED', 'CANCELLED')", name=op.f('ck_core_work_log_to_state_known')),
    sa.ForeignKeyConstraint(['batch_id'], ['core_batches.batch_id'], ),
    sa.ForeignKeyConstraint(['work_item_id'], ['core_work_items.id'], ),
    sa.PrimaryKeyConstraint('seq')
    )
    op.create_index('ix_core_work_log_item', 'core_work_log', ['work_item_id'], unique=False)


def _core_executions() -> None:
    op.create_table('core_executions',
    sa.Column('execution_id', sa.String(), nullable=False),
    sa.Column('pipeline', sa.String(), nullable=False),
    sa.Column('domain', sa.String(), nullable=False),
    sa.Column('status', sa.String(), nullable=False),
    sa.Column('logical_key', sa.String(), nullable=False),
    sa.Column('lane', sa.String(), nullable=False),
    sa.Column('trigger_source', sa.String(), nullable=False),
    sa.Column('parent_execution_id', sa.String(), nullable=True),
    sa.Column('correlation_id', sa.String(), nullable=False),
    sa.Column('params_json', sa.String(), nullable=False),
    sa.Column('error', sa.String(), nullable=True),
    sa.Column('created_at', sa.String(27), nullable=False),
    sa.Column('started_at', sa.String(27), nullable=True),
    sa.Column('ended_at', sa.String(27), nullable=False),
    sa.Column('batch_id', sa.String(), nullable=False),
    sa.CheckConstraint("lane IN ('NORMAL', 'BACKFILL')", name=op.f('ck_core_executions_lane_known')),
    sa.CheckConstraint("status IN ('SUCCESS', 'FAILURE', 'CANCELED')", name=op.f('ck_core_executions_status_known')),
    sa.CheckConstraint("trigger_source IN ('schedule', 'sensor', 'backfill', 'command', 'ui')", name=op.f('ck_core_executions_trigger_source_known')),
    sa.ForeignKeyConstraint(['batch_id'], ['core_batches.batch_id'], ),
    sa.PrimaryKeyConstraint('execution_id')
    )
    op.create_index('ix_core_executions_ended', 'core_executions', ['ended_at'], unique=False)


def _core_quality_scores() -> None:
    op.create_table('core_quality_scores',
    sa.Column('domain', sa.String(), nullable=False),
    sa.Column('week_ending', sa.Date(), nullable=False),
    sa.Column('tier', sa.String(), nullable=False),
    sa.Column('capture_id', sa.String(), nullable=False),
    sa.Column('score', sa.Float(), nullable=False),
    sa.Column('completeness', sa.Float(), nullable=False),
    sa.Column('validity', sa.Float(), nullable=False),
    sa.Column('consistency', sa.Float(), nullable=False),
    sa.Column('timeliness', sa.Float(), nullable=False),
    sa.Column('grade', sa.String(), nullable=False),
    sa.Column('details_json', sa.String(), nullable=False),
    sa.Column('scored_at', sa.String(27), nullable=False),
    sa.Column('batch_id', sa.String(), nullable=False),
    sa.CheckConstraint("grade IN ('A', 'B', 'C', 'D', 'F')", name=op.f('ck_core_quality_scores_grade_known')),
    sa.CheckConstraint('completeness BETWEEN 0 AND 1', name=op.f('ck_core_quality_scores_completeness_is_a_share')),
    sa.CheckConstraint('consistency BETWEEN 0 AND 1', name=op.f('ck_core_quality_scores_consistency_is_a_share')),
    sa.CheckConstraint('score BETWEEN 0 AND 1', name=op.f('ck_core_quality_scores_score_is_a_share')),
    sa.CheckConstraint('timeliness BETWEEN 0 AND 1', name=op.f('ck_core_quality_scores_timeliness_is_a_share')),
    sa.CheckConstraint('validity BETWEEN 0 AND 1', name=op.f('ck_core_quality_scores_validity_is_a_share')),
    sa.ForeignKeyConstraint(['batch_id'], ['core_batches.batch_id'], ),
    sa.ForeignKeyConstraint(['capture_id'], ['core_manifest.capture_id'], ),
    sa.PrimaryKeyConstraint('domain', 'week_ending', 'tier')
    )


def _core_subscriptions() -> None:
    op.create_table('core_subscriptions',
    sa.Column('id', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('channel', sa.String(), nullable=False),
    sa.Column('domain', sa.String(), nullable=False),
    sa.Column('min_severity', sa.String(), nullable=False),
    sa.Column('ready_for', sa.String(), nullable=False),
    sa.Column('mode', sa.String(), nullable=False),
    sa.Column('is_active', sa.Integer(), nullable=False),
    sa.Column('snoozed_until', sa.String(27), nullable=True),
    sa.Column('actor', sa.String(), nullable=False),
    sa.Column('created_at', sa.String(27), nullable=False),
    sa.Column('updated_at', sa.String(27), nullable=False),
    sa.Column('batch_id', sa.String(), nullable=False),
    sa.CheckConstraint("min_severity IN ('INFO', 'WARN', 'ERROR', 'CRITICAL')", name=op.f('ck_core_subscriptions_min_severity_known')),
    sa.CheckConstraint("mode IN ('immediate', 'digest')", name=op.f('ck_core_subscriptions_mode_known')),
    sa.CheckConstraint('is_active IN (0, 1)', name=op.f('ck_core_subscriptions_is_active_boolean')),
    sa.ForeignKeyConstraint(['batch_id'], ['core_batches.batch_id'], ),
    sa.PrimaryKeyConstraint('id'),
    sa.UniqueConstraint('name')
    )


def _core_notices() -> None:
    op.create_table('core_notices',
    sa.Column('id', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('dedupe_key', sa.String(), nullable=False),
    sa.Column('kind', sa.String(), nullable=False),
    sa.Column('domain', sa.String(), nullable=False),
    sa.Column('severity', sa.String(), nullable=False),
    sa.Column('ready_for', sa.String(), nullable=False),
    sa.Column('week_ending', sa.Date(), nullable=True),
    sa.Column('tier', sa.String(), nullable=False),
    sa.Column('title', sa.String(), nullable=False),
    sa.Column('body', sa.String(), nullable=False),
    sa.Column('anomaly_id', sa.Integer(), nullable=True),
    sa.Column('work_item_id', sa.Integer(), nullable=True),
    sa.Column('state', sa.String(), nullable=False),
    sa.Column('note', sa.String(), nullable=False),
    sa.Column('actor', sa.String(), nullable=False),
    sa.Column('times_told', sa.Integer(), nullable=False),
    sa.Column('first_at', sa.String(27), nullable=False),
    sa.Column('last_at', sa.String(27), nullable=False),
    sa.Column('batch_id', sa.String(), nullable=False),
    sa.CheckConstraint("kind IN ('ANOMALY', 'RESTATEMENT', 'READINESS', 'WORK', 'CHANNEL', 'DIGEST')", name=op.f('ck_core_notices_kind_known')),
    sa.CheckConstraint("severity IN ('INFO', 'WARN', 'ERROR', 'CRITICAL')", name=op.f('ck_core_notices_severity_known')),
    sa.CheckConstraint("state IN ('OPEN', 'ACKNOWLEDGED', 'CLOSED')", name=op.f('ck_core_notices_state_known')),
    sa.CheckConstraint('times_told >= 1', name=op.f('ck_core_notices_told_at_least_once')),
    sa.ForeignKeyConstraint(['batch_id'], ['core_batches.batch_id'], ),
    sa.PrimaryKeyConstraint('id')
    )
    op.create_index('ix_core_notices_dedupe_key', 'core_notices', ['dedupe_key'], unique=False)
    op.create_index('one_open_notice', 'core_notices', ['dedupe_key'], unique=True, sqlite_where=sa.text("state <> 'CLOSED'"), postgresql_where=sa.text("state <> 'CLOSED'"))


def _core_notice_receipts() -> None:
    op.create_table('core_notice_receipts',
    sa.Column('id', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('notice_id', sa.Integer(), nullable=False),
    sa.Column('subscription_id', sa.Integer(), nullable=False),
    sa.Column('channel', sa.String(), nullable=False),
    sa.Column('telling', sa.Integer(), nullable=False),
    sa.Column('event', sa.String(), nullable=False),
    sa.Column('title', sa.String(), nullable=False),
    sa.Column('body', sa.String(), nullable=False),
    sa.Column('state', sa.String(), nullable=False),
    sa.Column('attempt_count', sa.Integer(), nullable=False),
    sa.Column('next_attempt_at', sa.String(27), nullable=True),
    sa.Column('last_error', sa.String(), nullable=True),
    sa.Column('created_at', sa.String(27), nullable=False),
    sa.Column('sent_at', sa.String(27), nullable=True),
    sa.Column('batch_id', sa.String(), nullable=False),
    sa.CheckConstraint("(state = 'PENDING') = (next_attempt_at IS NOT NULL)", name=op.f('ck_core_notice_receipts_pending_until')),
    sa.CheckConstraint("(state = 'SENT') = (sent_at IS NOT NULL)", name=op.f('ck_core_notice_receipts_sent_since')),
    sa.CheckConstraint("event IN ('opened', 'raised', 'closed', 'told')", name=op.f('ck_core_notice_receipts_event_known')),
    sa.CheckConstraint("state IN ('PENDING', 'SENT', 'FAILED', 'SUPPRESSED')", name=op.f('ck_core_notice_receipts_state_known')),
    sa.CheckConstraint('attempt_count >= 0', name=op.f('ck_core_notice_receipts_attempts_not_negative')),
    sa.ForeignKeyConstraint(['batch_id'], ['core_batches.batch_id'], ),
    sa.ForeignKeyConstraint(['notice_id'], ['core_notices.id'], ),
    sa.ForeignKeyConstraint(['subscription_id'], ['core_subscriptions.id'], ),
    sa.PrimaryKeyConstraint('id'),
    sa.UniqueConstraint('notice_id', 'telling', 'subscription_id')
    )
    op.create_index('ix_core_notice_receipts_state', 'core_notice_receipts', ['state'], unique=False)
