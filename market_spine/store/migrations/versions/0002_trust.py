"""The business record: anomalies, readiness, certificates, expected schedules, events, calendar vintages."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    _core_expected_schedules()
    _core_heartbeats()
    _core_calendar_vintages()
    _core_anomalies()
    _core_anomaly_log()
    _core_certificates()
    _core_certificate_log()
    _core_data_readiness()
    _core_readiness_log()
    _core_events()


def _core_expected_schedules() -> None:
    op.create_table('core_expected_schedules',
    sa.Column('id', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('domain', sa.String(), nullable=False),
    sa.Column('pipeline', sa.String(), nullable=False),
    sa.Column('schedule_type', sa.String(), nullable=False),
    sa.Column('partition_template', sa.String(), nullable=False),
    sa.Column('partition_values', sa.String(), nullable=False),
    sa.Column('expected_delay_hours', sa.Integer(), nullable=False),
    sa.Column('preliminary_hours', sa.Integer(), nullable=False),
    sa.Column('description', sa.String(), nullable=False),
    sa.Column('is_active', sa.Integer(), nullable=False),
    sa.Column('expected_day_of_week', sa.Integer(), nullable=True),
    sa.Column('expected_time', sa.String(), nullable=False),
    sa.Column('timezone', sa.String(), nullable=False),
    sa.Column('publication_lag_days', sa.String(), nullable=False),
    sa.Column('watch_weeks', sa.Integer(), nullable=False),
    sa.CheckConstraint("schedule_type IN ('WEEKLY', 'DAILY', 'MONTHLY', 'ANNUAL')", name=op.f('ck_core_expected_schedules_schedule_type_known')),
    sa.PrimaryKeyConstraint('id'),
    sa.UniqueConstraint('domain', 'pipeline')
    )


def _core_heartbeats() -> None:
    op.create_table('core_heartbeats',
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('beat_at', sa.String(27), nullable=False),
    sa.Column('detail', sa.String(), nullable=False),
    sa.PrimaryKeyConstraint('name')
    )


def _core_calendar_vintages() -> None:
    op.create_table('core_calendar_vintages',
    sa.Column('vintage', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('exchange_code', sa.String(), nullable=False),
    sa.Column('library_version', sa.String(), nullable=False),
    sa.Column('content_hash', sa.String(length=64), nullable=False),
    sa.Column('document', sa.String(), nullable=False),
    sa.Column('reason', sa.String(), nullable=False),
    sa.Column('actor', sa.String(), nullable=False),
    sa.Column('built_at', sa.String(27), nullable=False),
    sa.Column('execution_id', sa.String(), nullable=False),
    sa.Column('batch_id', sa.String(), nullable=False),
    sa.ForeignKeyConstraint(['batch_id'], ['core_batches.batch_id'], ),
    sa.PrimaryKeyConstraint('vintage')
    )


def _core_anomalies() -> None:
    op.create_table('core_anomalies',
    sa.Column('id', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('domain', sa.String(), nullable=False),
    sa.Column('pipeline', sa.String(), nullable=False),
    sa.Column('partition_key', sa.String(), nullable=False),
    sa.Column('stage', sa.String(), nullable=False),
    sa.Column('severity', sa.String(), nullable=False),
    sa.Column('category', sa.String(), nullable=False),
    sa.Column('code', sa.String(), nullable=False),
    sa.Column('message', sa.String(), nullable=False),
    sa.Column('details_json', sa.String(), nullable=False),
    sa.Column('affected_records', sa.BigInteger(), nullable=True),
    sa.Column('sample_records', sa.String(), nullable=False),
    sa.Column('execution_id', sa.String(), nullable=False),
    sa.Column('capture_id', sa.String(), nullable=True),
    sa.Column('detected_at', sa.String(27), nullable=False),
    sa.Column('resolved_at', sa.String(27), nullable=True),
    sa.Column('resolution_note', sa.String(), nullable=True),
    sa.Column('resolved_by', sa.String(), nullable=True),
    sa.Column('fingerprint', sa.String(length=32), nullable=False),
    sa.Column('cause_id', sa.Integer(), nullable=True),
    sa.Column('table_name', sa.String(), nullable=False),
    sa.Column('week_ending', sa.Date(), nullable=False),
    sa.Column('tier', sa.String(), nullable=False),
    sa.Column('last_seen_at', sa.String(27), nullable=False),
    sa.Column('times_seen', sa.Integer(), nullable=False),
    sa.Column('batch_id', sa.String(), nullable=False),
    sa.CheckConstraint("category IN ('INCOMPLETE_INPUT', 'BUSINESS_RULE', 'COMPLETENESS', 'CONSISTENCY', 'FRESHNESS', 'DEPENDENCY')", name=op.f('ck_core_anomalies_category_known')),
    sa.CheckConstraint("severity IN ('INFO', 'WARN', 'ERROR', 'CRITICAL')", name=op.f('ck_core_anomalies_severity_known')),
    sa.CheckConstraint("stage IN ('INGESTED', 'NORMALIZED', 'AGGREGATED', 'ROLLING')", name=op.f('ck_core_anomalies_stage_known')),
    sa.CheckConstraint('(resolved_at IS NULL) = (resolution_note IS NULL)', name=op.f('ck_core_anomalies_resolved_with_a_note')),
    sa.CheckConstraint('(resolved_at IS NULL) = (resolved_by IS NULL)', name=op.f('ck_core_anomalies_resolved_by_someone')),
    sa.CheckConstraint('cause_id <> id', name=op.f('ck_core_anomalies_not_its_own_cause')),
    sa.CheckConstraint('times_seen >= 1', name=op.f('ck_core_anomalies_seen_at_least_once')),
    sa.ForeignKeyConstraint(['batch_id'], ['core_batches.batch_id'], ),
    sa.ForeignKeyConstraint(['cause_id'], ['core_anomalies.id'], deferrable=True, initially='DEFERRED'),
    sa.PrimaryKeyConstraint('id')
    )
    op.create_index('ix_core_anomalies_partition', 'core_anomalies', ['domain', 'week_ending', 'tier'], unique=False)
    op.create_index('one_open_anomaly', 'core_anomalies', ['fingerprint'], unique=True, sqlite_where=sa.text('resolved_at IS NULL'), postgresql_where=sa.text('resolved_at IS NULL'))


def _core_anomaly_log() -> None:
    op.create_table('core_anomaly_log',
    sa.Column('seq', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('anomaly_id', sa.Integer(), nullable=False),
    sa.Column('change', sa.String(), nullable=False),
    sa.Column('severity', sa.String(), nullable=False),
    sa.Column('message', sa.String(), nullable=False),
    sa.Column('cause_id', sa.Integer(), nullable=True),
    sa.Column('capture_id', sa.String(), nullable=True),
    sa.Column('note', sa.String(), nullable=False),
    sa.Column('actor', sa.String(), nullable=False),
    sa.Column('changed_at', sa.String(27), nullable=False),
    sa.Column('execution_id', sa.String(), nullable=False),
    sa.Column('batch_id', sa.String(), nullable=False),
    sa.CheckConstraint("change IN ('opened', 'seen', 'changed', 'resolved')", name=op.f('ck_core_anomaly_log_change_known')),
    sa.CheckConstraint("severity IN ('INFO', 'WARN', 'ERROR', 'CRITICAL')", name=op.f('ck_core_anomaly_log_severity_known')),
    sa.ForeignKeyConstraint(['anomaly_id'], ['core_anomalies.id'], ),
    sa.ForeignKeyConstraint(['batch_id'], ['core_batches.batch_id'], ),
    sa.PrimaryKeyConstraint('seq')
    )
    op.create_index('ix_core_anomaly_log_anomaly', 'core_anomaly_log', ['anomaly_id'], unique=False)


def _core_certificates() -> None:
    op.create_table('core_certificates',
    sa.Column('certificate_id', sa.String(length=64), nullable=False),
    sa.Column('domain', sa.String(), nullable=False),
    sa.Column('week_ending', sa.Date(), nullable=False),
    sa.Column('ready_for', sa.String(), nullable=False),
    sa.Column('document', sa.String(), nullable=False),
    sa.Column('signature', sa.String(length=128), nullable=False),
    sa.Column('key_id', sa.String(length=64), nullable=False),
    sa.Column('batch_id', sa.String(), nullable=False),
    sa.ForeignKeyConstraint(['batch_id'], ['core_batches.batch_id'], ),
    sa.PrimaryKeyConstraint('certificate_id')
    )


def _core_certificate_log() -> None:
    op.create_table('core_certificate_log',
    sa.Column('seq', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('event', sa.String(), nullable=False),
    sa.Column('certificate_id', sa.String(length=64), nullable=False),
    sa.Column('reason', sa.String(), nullable=False),
    sa.Column('actor', sa.String(), nullable=False),
    sa.Column('logged_at', sa.String(27), nullable=False),
    sa.Column('previous_hash', sa.String(length=64), nullable=False),
    sa.Column('entry_hash', sa.String(length=64), nullable=False),
    sa.Column('signature', sa.String(length=128), nullable=False),
    sa.Column('key_id', sa.String(length=64), nullable=False),
    sa.Column('batch_id', sa.String(), nullable=False),
    sa.CheckConstraint("event IN ('issued', 'superseded')", name=op.f('ck_core_certificate_log_event_known')),
    sa.ForeignKeyConstraint(['batch_id'], ['core_batches.batch_id'], ),
    sa.ForeignKeyConstraint(['certificate_id'], ['core_certificates.certificate_id'], ),
    sa.PrimaryKeyConstraint('seq'),
    sa.UniqueConstraint('entry_hash')
    )


def _core_data_readiness() -> None:
    op.create_table('core_data_readiness',
    sa.Column('id', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('domain', sa.String(), nullable=False),
    sa.Column('partition_key', sa.String(), nullable=False),
    sa.Column('is_ready', sa.Integer(), nullable=False),
    sa.Column('ready_for', sa.String(), nullable=False),
    sa.Column('all_partitions_present', sa.Integer(), nullable=False),
    sa.Column('all_stages_complete', sa.Integer(), nullable=False),
    sa.Column('no_critical_anomalies', sa.Integer(), nullable=False),
    sa.Column('dependencies_current', sa.Integer(), nullable=False),
    sa.Column('age_exceeds_preliminary', sa.Integer(), nullable=False),
    sa.Column('blocking_issues', sa.String(), nullable=False),
    sa.Column('certified_at', sa.String(27), nullable=True),
    sa.Column('certified_by', sa.String(), nullable=True),
    sa.Column('certificate_id', sa.String(length=64), nullable=True),
    sa.Column('state', sa.String(), nullable=False),
    sa.Column('week_ending', sa.Date(), nullable=False),
    sa.Column('tiers', sa.String(), nullable=False),
    sa.Column('facts_json', sa.String(), nullable=False),
    sa.Column('judged_at', sa.String(27), nullable=False),
    sa.Column('batch_id', sa.String(), nullable=False),
    sa.CheckConstraint("(is_ready = 1) = (state = 'CERTIFIED')", name=op.f('ck_core_data_readiness_ready_is_certified')),
    sa.CheckConstraint("state IN ('MISSING', 'BLOCKED', 'PRELIMINARY', 'CERTIFIED')", name=op.f('ck_core_data_readiness_state_known')),
    sa.CheckConstraint('(is_ready = 1) = (certificate_id IS NOT NULL)', name=op.f('ck_core_data_readiness_ready_has_a_certificate')),
    sa.ForeignKeyConstraint(['batch_id'], ['core_batches.batch_id'], ),
    sa.ForeignKeyConstraint(['certificate_id'], ['core_certificates.certificate_id'], ),
    sa.PrimaryKeyConstraint('id'),
    sa.UniqueConstraint('domain', 'partition_key', 'ready_for')
    )


def _core_readiness_log() -> None:
    op.create_table('core_readiness_log',
    sa.Column('seq', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('domain', sa.String(), nullable=False),
    sa.Column('week_ending', sa.Date(), nullable=False),
    sa.Column('ready_for', sa.String(), nullable=False),
    sa.Column('from_state', sa.String(), nullable=True),
    sa.Column('to_state', sa.String(), nullable=False),
    sa.Column('blocking_issues', sa.String(), nullable=False),
    sa.Column('facts_json', sa.String(), nullable=False),
    sa.Column('certificate_id', sa.String(length=64), nullable=True),
    sa.Column('actor', sa.String(), nullable=False),
    sa.Column('judged_at', sa.String(27), nullable=False),
    sa.Column('execution_id', sa.String(), nullable=False),
    sa.Column('batch_id', sa.String(), nullable=False),
    sa.CheckConstraint("to_state IN ('MISSING', 'BLOCKED', 'PRELIMINARY', 'CERTIFIED')", name=op.f('ck_core_readiness_log_to_state_known')),
    sa.ForeignKeyConstraint(['batch_id'], ['core_batches.batch_id'], ),
    sa.ForeignKeyConstraint(['certificate_id'], ['core_certificates.certificate_id'], ),
    sa.PrimaryKeyConstraint('seq')
    )
    op.create_index('ix_core_readiness_log_week', 'core_readiness_log', ['domain', 'week_ending', 'ready_for'], unique=False)


def _core_events() -> None:
    op.create_table('core_events',
    sa.Column('event_id', sa.String(length=32), nullable=False),
    sa.Column('event_type', sa.String(), nullable=False),
    sa.Column('domain', sa.String(), nullable=False),
    sa.Column('week_ending', sa.Date(), nullable=False),
    sa.Column('tier', sa.String(), nullable=False),
    sa.Column('message', sa.String(), nullable=False),
    sa.Column('payload_json', sa.String(), nullable=False),
    sa.Column('correlation_id', sa.String(), nullable=False),
    sa.Column('causation_id', sa.String(), nullable=True),
    sa.Column('occurred_at', sa.String(27), nullable=False),
    sa.Column('execution_id', sa.String(), nullable=False),
    sa.Column('batch_id', sa.String(), nullable=False),
    sa.ForeignKeyConstraint(['batch_id'], ['core_batches.batch_id'], ),
    sa.PrimaryKeyConstraint('event_id')
    )
