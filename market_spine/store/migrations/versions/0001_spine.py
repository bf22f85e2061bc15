"""The control tables of the spine: manifest, inputs, deliveries, rejects, quality, dependencies."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "core_migrations",
        sa.Column("migration_id", sa.String(), primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False),
    )
    _core_batches()
    _core_calc_dependencies()
    _core_manifest()
    _core_rejects()
    _core_capture_inputs()
    _core_deliveries()
    _core_quality()
    op.execute(STAGE_COMPLETIONS)


# Per tier and current capture: week-partitioned tables are not part of a tier's chain.
STAGE_COMPLETIONS = """
CREATE VIEW core_stage_completions AS
SELECT domain, week_ending, tier, stage, count(*) AS tables_complete, max(computed_at) AS completed_at
FROM core_manifest
WHERE is_current = 1 AND tier <> 'ALL'
GROUP BY domain, week_ending, tier, stage
"""


def _core_batches() -> None:
    op.create_table('core_batches',
    sa.Column('seq', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('batch_id', sa.String(), nullable=False),
    sa.Column('table_name', sa.String(), nullable=False),
    sa.Column('execution_id', sa.String(), nullable=False),
    sa.Column('correlation_id', sa.String(), nullable=False),
    sa.Column('committed_at', sa.String(27), nullable=False),
    sa.PrimaryKeyConstraint('seq'),
    sa.UniqueConstraint('batch_id')
    )


def _core_calc_dependencies() -> None:
    op.create_table('core_calc_dependencies',
    sa.Column('domain', sa.String(), nullable=False),
    sa.Column('table_name', sa.String(), nullable=False),
    sa.Column('depends_on_table', sa.String(), nullable=False),
    sa.Column('depends_on_domain', sa.String(), nullable=False),
    sa.Column('weeks_back', sa.Integer(), nullable=False),
    sa.Column('dependency_type', sa.String(), nullable=False),
    sa.CheckConstraint("dependency_type IN ('calculation', 'reference')", name=op.f('ck_core_calc_dependencies_dependency_type_known')),
    sa.CheckConstraint('weeks_back >= 0', name=op.f('ck_core_calc_dependencies_weeks_back_not_negative')),
    sa.PrimaryKeyConstraint('domain', 'table_name', 'depends_on_table')
    )


def _core_manifest() -> None:
    op.create_table('core_manifest',
    sa.Column('capture_id', sa.String(), nullable=False),
    sa.Column('domain', sa.String(), nullable=False),
    sa.Column('table_name', sa.String(), nullable=False),
    sa.Column('stage', sa.String(), nullable=False),
    sa.Column('week_ending', sa.Date(), nullable=False),
    sa.Column('tier', sa.String(), nullable=False),
    sa.Column('partition_key', sa.String(), nullable=False),
    sa.Column('status', sa.String(), nullable=False),
    sa.Column('revision', sa.Integer(), nullable=False),
    sa.Column('is_current', sa.Integer(), nullable=False),
    sa.Column('row_count', sa.Integer(), nullable=False),
    sa.Column('content_hash', sa.String(length=32), nullable=False),
    sa.Column('file_path', sa.String(), nullable=False),
    sa.Column('file_sha256', sa.String(length=64), nullable=False),
    sa.Column('file_bytes', sa.BigInteger(), nullable=False),
    sa.Column('captured_at', sa.String(27), nullable=False),
    sa.Column('computed_at', sa.String(27), nullable=False),
    sa.Column('calc_version', sa.String(), nullable=False),
    sa.Column('inputs_hash', sa.String(length=32), nullable=False),
    sa.Column('landing_id', sa.String(length=64), nullable=True),
    sa.Column('policy', sa.String(), nullable=False),
    sa.Column('execution_id', sa.String(), nullable=False),
    sa.Column('batch_id', sa.String(), nullable=False),
    sa.Column('correlation_id', sa.String(), nullable=False),
    sa.Column('metrics_json', sa.String(), server_default='{}', nullable=False),
    sa.CheckConstraint("is_current = 0 OR status = 'complete'", name=op.f('ck_core_manifest_current_is_complete')),
    sa.CheckConstraint("stage IN ('INGESTED', 'NORMALIZED', 'AGGREGATED', 'ROLLING')", name=op.f('ck_core_manifest_stage_known')),
    sa.CheckConstraint("status IN ('complete', 'overwritten')", name=op.f('ck_core_manifest_status_known')),
    sa.CheckConstraint('is_current IN (0, 1)', name=op.f('ck_core_manifest_is_current_boolean')),
    sa.CheckConstraint('revision >= 1', name=op.f('ck_core_manifest_revision_counts_from_1')),
    sa.CheckConstraint('row_count >= 0', name=op.f('ck_core_manifest_row_count_not_negative')),
    sa.ForeignKeyConstraint(['batch_id'], ['core_batches.batch_id'], ),
    sa.PrimaryKeyConstraint('capture_id'),
    sa.UniqueConstraint('file_path')
    )
    op.create_index('ix_core_manifest_batch', 'core_manifest', ['batch_id'], unique=False)
    op.create_index('ix_core_manifest_history', 'core_manifest', ['table_name', 'week_ending', 'tier', 'captured_at'], unique=False)
    op.create_index('one_current_capture', 'core_manifest', ['table_name', 'week_ending', 'tier'], unique=True, sqlite_where=sa.text('is_current = 1'), postgresql_where=sa.text('is_current = 1'))


def _core_rejects() -> None:
    op.create_table('core_rejects',
    sa.Column('source_id', sa.String(), nullable=False),
    sa.Column('table_name', sa.String(), nullable=False),
    sa.Column('week_ending', sa.Date(), nullable=False),
    sa.Column('tier', sa.String(), nullable=False),
    sa.Column('part_no', sa.Integer(), nullable=False),
    sa.Column('line_no', sa.Integer(), nullable=False),
    sa.Column('domain', sa.String(), nullable=False),
    sa.Column('stage', sa.String(), nullable=False),
    sa.Column('reason_code', sa.String(), nullable=False),
    sa.Column('detail', sa.String(), nullable=False),
    sa.Column('raw_text', sa.String(), nullable=False),
    sa.Column('scope', sa.String(), nullable=False),
    sa.Column('execution_id', sa.String(), nullable=False),
    sa.Column('batch_id', sa.String(), nullable=False),
    sa.Column('rejected_at', sa.String(27), nullable=False),
    sa.CheckConstraint("scope IN ('ROW', 'SYMBOL_METRICS')", name=op.f('ck_core_rejects_scope_known')),
    sa.CheckConstraint("stage IN ('INGESTED', 'NORMALIZED', 'AGGREGATED', 'ROLLING')", name=op.f('ck_core_rejects_stage_known')),
    sa.CheckConstraint('line_no >= 0', name=op.f('ck_core_rejects_line_no_not_negative')),
    sa.ForeignKeyConstraint(['batch_id'], ['core_batches.batch_id'], ),
    sa.PrimaryKeyConstraint('source_id', 'table_name', 'week_ending', 'tier', 'part_no', 'line_no')
    )


def _core_capture_inputs() -> None:
    op.create_table('core_capture_inputs',
    sa.Column('capture_id', sa.String(), nullable=False),
    sa.Column('input_capture_id', sa.String(), nullable=False),
    sa.CheckConstraint('capture_id <> input_capture_id', name=op.f('ck_core_capture_inputs_not_its_own_input')),
    sa.ForeignKeyConstraint(['capture_id'], ['core_manifest.capture_id'], ),
    sa.ForeignKeyConstraint(['input_capture_id'], ['core_manifest.capture_id'], ),
    sa.PrimaryKeyConstraint('capture_id', 'input_capture_id')
    )
    op.create_index('ix_core_capture_inputs_input', 'core_capture_inputs', ['input_capture_id'], unique=False)


def _core_deliveries() -> None:
    op.create_table('core_deliveries',
    sa.Column('delivery_id', sa.String(), nullable=False),
    sa.Column('landing_id', sa.String(length=64), nullable=False),
    sa.Column('domain', sa.String(), nullable=False),
    sa.Column('week_ending', sa.Date(), nullable=False),
    sa.Column('tier', sa.String(), nullable=False),
    sa.Column('source_kind', sa.String(), nullable=False),
    sa.Column('source_name', sa.String(), nullable=False),
    sa.Column('week_source', sa.String(), nullable=False),
    sa.Column('headers_json', sa.String(), nullable=False),
    sa.Column('fetched_at', sa.String(27), nullable=False),
    sa.Column('line_count', sa.Integer(), nullable=False),
    sa.Column('action', sa.String(), nullable=False),
    sa.Column('reason', sa.String(), nullable=False),
    sa.Column('capture_id', sa.String(), nullable=True),
    sa.Column('execution_id', sa.String(), nullable=False),
    sa.Column('batch_id', sa.String(), nullable=False),
    sa.CheckConstraint("action = 'blocked' OR capture_id IS NOT NULL", name=op.f('ck_core_deliveries_captured_or_blocked')),
    sa.CheckConstraint("action IN ('inserted', 'updated', 'skipped', 'blocked')", name=op.f('ck_core_deliveries_action_known')),
    sa.ForeignKeyConstraint(['batch_id'], ['core_batches.batch_id'], ),
    sa.ForeignKeyConstraint(['capture_id'], ['core_manifest.capture_id'], ),
    sa.PrimaryKeyConstraint('delivery_id')
    )


def _core_quality() -> None:
    op.create_table('core_quality',
    sa.Column('batch_id', sa.String(), nullable=False),
    sa.Column('table_name', sa.String(), nullable=False),
    sa.Column('week_ending', sa.Date(), nullable=False),
    sa.Column('tier', sa.String(), nullable=False),
    sa.Column('check_name', sa.String(), nullable=False),
    sa.Column('domain', sa.String(), nullable=False),
    sa.Column('capture_id', sa.String(), nullable=True),
    sa.Column('status', sa.String(), nullable=False),
    sa.Column('severity', sa.String(), nullable=False),
    sa.Column('category', sa.String(), nullable=False),
    sa.Column('is_expected', sa.Integer(), nullable=False),
    sa.Column('is_blocking', sa.Integer(), nullable=False),
    sa.Column('actual', sa.String(), nullable=False),
    sa.Column('expected', sa.String(), nullable=False),
    sa.Column('details_json', sa.String(), nullable=False),
    sa.Column('execution_id', sa.String(), nullable=False),
    sa.Column('checked_at', sa.String(27), nullable=False),
    sa.CheckConstraint("category IN ('INCOMPLETE_INPUT', 'BUSINESS_RULE', 'COMPLETENESS', 'CONSISTENCY', 'FRESHNESS', 'DEPENDENCY')", name=op.f('ck_core_quality_category_known')),
    sa.CheckConstraint("severity IN ('INFO', 'WARN', 'ERROR', 'CRITICAL')", name=op.f('ck_core_quality_severity_known')),
    sa.CheckConstraint("status IN ('passed', 'failed')", name=op.f('ck_core_quality_status_known')),
    sa.ForeignKeyConstraint(['batch_id'], ['core_batches.batch_id'], ),
    sa.ForeignKeyConstraint(['capture_id'], ['core_manifest.capture_id'], ),
    sa.PrimaryKeyConstraint('batch_id', 'table_name', 'week_ending', 'tier', 'check_name')
    )
    op.create_index('ix_core_quality_partition', 'core_quality', ['table_name', 'week_ending', 'tier'], unique=False)
