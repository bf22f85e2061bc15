"""Serving: tokens, versions of the data, and who used them."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    _core_tokens()
    _core_data_versions()
    _core_consumption()


def _core_tokens() -> None:
    op.create_table('core_tokens',
    sa.Column('id', sa.String(length=12), nullable=False),
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('scope', sa.String(), nullable=False),
    sa.Column('secret_sha256', sa.String(length=64), nullable=False),
    sa.Column('created_by', sa.String(), nullable=False),
    sa.Column('created_at', sa.String(27), nullable=False),
    sa.Column('expires_at', sa.String(27), nullable=True),
    sa.Column('revoked_by', sa.String(), nullable=True),
    sa.Column('revoked_at', sa.String(27), nullable=True),
    sa.Column('batch_id', sa.String(), nullable=False),
    sa.CheckConstraint("(revoked_by IS NULL) = (revoked_at IS NULL)", name=op.f('ck_core_tokens_revoked_by_somebody')),
    sa.CheckConstraint("scope IN ('read', 'operate', 'admin')", name=op.f('ck_core_tokens_scope_known')),
    sa.ForeignKeyConstraint(['batch_id'], ['core_batches.batch_id'], ),
    sa.PrimaryKeyConstraint('id')
    )
    op.create_index('one_token_of_a_name', 'core_tokens', ['name'], unique=True, sqlite_where=sa.text('revoked_at IS NULL'), postgresql_where=sa.text('revoked_at IS NULL'))


def _core_data_versions() -> None:
    op.create_table('core_data_versions',
    sa.Column('data_version', sa.String(length=32), nullable=False),
    sa.Column('capture_id', sa.String(), nullable=False),
    sa.Column('batch_id', sa.String(), nullable=False),
    sa.ForeignKeyConstraint(['batch_id'], ['core_batches.batch_id'], ),
    sa.ForeignKeyConstraint(['capture_id'], ['core_manifest.capture_id'], ),
    sa.PrimaryKeyConstraint('data_version', 'capture_id')
    )
    op.create_index('ix_core_data_versions_capture', 'core_data_versions', ['capture_id'], unique=False)


def _core_consumption() -> None:
    op.create_table('core_consumption',
    sa.Column('use_id', sa.String(length=32), nullable=False),
    sa.Column('used_at', sa.String(27), nullable=False),
    sa.Column('actor', sa.String(), nullable=False),
    sa.Column('token_id', sa.String(length=12), nullable=True),
    sa.Column('via', sa.String(), nullable=False),
    sa.Column('request', sa.String(), nullable=False),
    sa.Column('table_name', sa.String(), nullable=False),
    sa.Column('version', sa.String(), nullable=False),
    sa.Column('form', sa.String(), nullable=False),
    sa.Column('status', sa.Integer(), nullable=False),
    sa.Column('data_version', sa.String(length=32), nullable=True),
    sa.Column('row_count', sa.Integer(), nullable=True),
    sa.Column('batch_id', sa.String(), nullable=False),
    sa.CheckConstraint("token_id IS NULL OR via = 'api'", name=op.f('ck_core_consumption_token_of_the_api')),
    sa.CheckConstraint("version IN ('latest', 'as-of', 'first-release', 'all-revisions', 'replay', '')", name=op.f('ck_core_consumption_version_known')),
    sa.CheckConstraint("via IN ('api', 'command')", name=op.f('ck_core_consumption_via_known')),
    sa.ForeignKeyConstraint(['batch_id'], ['core_batches.batch_id'], ),
    sa.ForeignKeyConstraint(['token_id'], ['core_tokens.id'], ),
    sa.PrimaryKeyConstraint('use_id')
    )
    op.create_index('ix_core_consumption_data_version', 'core_consumption', ['data_version'], unique=False)
    op.create_index('ix_core_consumption_used_at', 'core_consumption', ['used_at'], unique=False)
