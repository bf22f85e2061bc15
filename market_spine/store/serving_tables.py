"""The control tables of serving: tokens, and who used which version of the data.

What belongs here: their columns and laws. What does not: captures (`schema`), and the other records beside it.
"""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Integer, String, Table, text

from market_spine.domain.captures import View
from market_spine.domain.serving import Scope, Via
from market_spine.store.columns import METADATA, Moment, one_of

TOKENS = Table(
    "core_tokens",
    METADATA,
    Column("id", String(12), primary_key=True),
    Column("name", String, nullable=False),
    Column("scope", String, nullable=False),
    Column("secret_sha256", String(64), nullable=False, info={"is_secret": True}),  # of 256 random bits
    Column("created_by", String, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment),
    Column("revoked_by", String),
    Column("revoked_at", Moment),
    Column("batch_id", String, ForeignKey("core_batches.batch_id"), nullable=False),
    one_of("scope", Scope),
    CheckConstraint("(revoked_by IS NULL) = (revoked_at IS NULL)", name="revoked_by_somebody"),
)
Index(
    "one_token_of_a_name",
    TOKENS.c.name,
    unique=True,
    sqlite_where=text("revoked_at IS NULL"),
    postgresql_where=text("revoked_at IS NULL"),
)

# The captures that a version of the data names: written once, however often it is used.
DATA_VERSIONS = Table(
    "core_data_versions",
    METADATA,
    Column("data_version", String(32), primary_key=True),
    Column("capture_id", String, ForeignKey("core_manifest.capture_id"), primary_key=True),
    Column("batch_id", String, ForeignKey("core_batches.batch_id"), nullable=False),
)
Index("ix_core_data_versions_capture", DATA_VERSIONS.c.capture_id)

CONSUMPTION = Table(
    "core_consumption",
    METADATA,
    Column("use_id", String(32), primary_key=True),
    Column("used_at", Moment, nullable=False),
    Column("actor", String, nullable=False),  # the name of the token, or the user of the command
    Column("token_id", String(12), ForeignKey("core_tokens.id")),
    Column("via", String, nullable=False),
    Column("request", String, nullable=False),  # as it was asked: path and parameters, or the command
    Column("table_name", String, nullable=False),  # '' where no rows of a table were asked for
    Column("version", String, nullable=False),  # which version was asked for
    Column("form", String, nullable=False),
    Column("status", Integer, nullable=False),  # as HTTP has it; 304: the copy that the user has is still right
    Column("data_version", String(32)),
    Column("row_count", Integer),
    Column("batch_id", String, ForeignKey("core_batches.batch_id"), nullable=False),
    one_of("via", Via),
    one_of("version", (*View, "replay", "")),
    CheckConstraint("token_id IS NULL OR via = 'api'", name="token_of_the_api"),
)
Index("ix_core_consumption_data_version", CONSUMPTION.c.data_version)
Index("ix_core_consumption_used_at", CONSUMPTION.c.used_at)
