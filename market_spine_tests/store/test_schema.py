"""Control tables: what the code declares is what migrations create, and bad rows are refused, on both databases."""

from __future__ import annotations

from contextlib import suppress
from datetime import date, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from market_spine.store.columns import METADATA, Moment, moment_of, moment_text
from market_spine.store.control import Control, migrations
from market_spine.store.schema import TABLES
from market_spine.store.store import Store
from market_spine_tests.store.builders import T0, WEEK
from market_spine_tests.store.good_rows import BATCH_ROW, GOOD, MANIFEST_ROW

OTHER = {"capture_id": "other", "file_path": "otc_raw/2.parquet", "is_current": 0, "revision": 2}

BAD: list[tuple[str, dict[str, Any]]] = [
    ("core_batches", {"seq": 1, "batch_id": "b2"}),
    ("core_batches", {"seq": 2, "batch_id": "b1"}),
    ("core_batches", {"seq": 2, "batch_id": "b2", "committed_at": None}),
    ("core_manifest", {"capture_id": MANIFEST_ROW["capture_id"]}),
    ("core_manifest", {"is_current": 1}),  # a second current capture of the partition
    ("core_manifest", {"file_path": MANIFEST_ROW["file_path"]}),
    ("core_manifest", {"stage": "RAW"}),
    ("core_manifest", {"stage": "ingested"}),
    ("core_manifest", {"status": "deleted"}),
    ("core_manifest", {"revision": 0}),
    ("core_manifest", {"row_count": -1}),
    ("core_manifest", {"is_current": 2}),
    ("core_manifest", {"tier": "NMS_TIER_1", "is_current": 1, "status": "overwritten"}),
    ("core_manifest", {"tier": None}),
    ("core_manifest", {"week_ending": None}),
    ("core_manifest", {"content_hash": None}),
    ("core_manifest", {"batch_id": "no such batch"}),
    ("core_capture_inputs", {"capture_id": "other"}),  # its own input
    ("core_capture_inputs", {"capture_id": "missing"}),
    ("core_capture_inputs", {"input_capture_id": "missing"}),
    ("core_capture_inputs", {}),  # twice
    ("core_deliveries", {"delivery_id": "d2", "action": "ignored"}),
    ("core_deliveries", {"delivery_id": "d2", "capture_id": None}),
    ("core_deliveries", {"delivery_id": "d2", "capture_id": "missing"}),
    ("core_deliveries", {"delivery_id": "d2", "batch_id": "missing"}),
    ("core_deliveries", {}),
    ("core_rejects", {"line_no": 8, "stage": "LOADED"}),
    ("core_rejects", {"line_no": 8, "scope": "TABLE"}),
    ("core_rejects", {"line_no": -1}),
    ("core_rejects", {"line_no": 8, "batch_id": "missing"}),
    ("core_rejects", {}),
    ("core_quality", {"check_name": "c2", "status": "skipped"}),
    ("core_quality", {"check_name": "c2", "severity": "DEBUG"}),
    ("core_quality", {"check_name": "c2", "category": "OTHER"}),
    ("core_quality", {"check_name": "c2", "capture_id": "missing"}),
    ("core_quality", {"batch_id": "missing"}),
    ("core_quality", {}),
    ("core_calc_dependencies", {"depends_on_table": "x", "weeks_back": -1}),
    ("core_calc_dependencies", {"depends_on_table": "x", "dependency_type": "guess"}),
    ("core_calc_dependencies", {}),
    ("core_anomalies", {"id": 2}),  # a second open anomaly of one fingerprint
    ("core_anomalies", {"id": 2, "fingerprint": "g", "severity": "DEBUG"}),
    ("core_anomalies", {"id": 2, "fingerprint": "g", "category": "NETWORK"}),
    ("core_anomalies", {"id": 2, "fingerprint": "g", "stage": "CALC"}),
    ("core_anomalies", {"id": 2, "fingerprint": "g", "cause_id": 2}),
    ("core_anomalies", {"id": 2, "fingerprint": "g", "cause_id": 9}),
    ("core_anomalies", {"id": 2, "fingerprint": "g", "times_seen": 0}),
    ("core_anomalies", {"id": 2, "fingerprint": "g", "resolved_at": T0, "resolved_by": "ops"}),
    ("core_anomalies", {"id": 2, "fingerprint": "g", "resolved_at": T0, "resolution_note": "mended"}),
    ("core_anomaly_log", {"seq": 2, "anomaly_id": 9}),
    ("core_anomaly_log", {"seq": 2, "change": "deleted"}),
    ("core_anomaly_log", {}),
    ("core_certificates", {}),
    ("core_certificates", {"certificate_id": "d" * 64, "batch_id": "missing"}),
    ("core_certificate_log", {"seq": 2}),  # a second entry of one hash
    ("core_certificate_log", {"seq": 2, "entry_hash": "2" * 64, "event": "revoked"}),
    ("core_certificate_log", {"seq": 2, "entry_hash": "2" * 64, "certificate_id": "missing"}),
    ("core_data_readiness", {"id": 2}),  # a second verdict on one week and use case
    ("core_data_readiness", {"id": 2, "ready_for": "research", "certificate_id": None}),
    ("core_data_readiness", {"id": 2, "ready_for": "research", "is_ready": 0, "certificate_id": None}),
    ("core_data_readiness", {"id": 2, "ready_for": "research", "is_ready": 0, "state": "MISSING"}),
    ("core_readiness_log", {"seq": 2, "to_state": "READY"}),
    ("core_readiness_log", {}),
    ("core_events", {}),
    ("core_calendar_vintages", {}),
    ("core_expected_schedules", {"id": 2}),
    ("core_expected_schedules", {"id": 2, "pipeline": "x", "schedule_type": "HOURLY"}),
    ("core_heartbeats", {}),
    ("core_work_items", {"id": 2, "generation": 2}),  # a second open item of a partition
    ("core_work_items", {"id": 2, "state": "FAILED"}),  # a second item of one generation
    ("core_work_items", {"id": 2, "generation": 0, "partition_key": "x"}),
    ("core_work_items", {"id": 2, "partition_key": "x", "state": "DONE"}),
    ("core_work_items", {"id": 2, "partition_key": "x", "state": "RUNNING"}),  # by whom?
    ("core_work_items", {"id": 2, "partition_key": "x", "locked_by": "w", "locked_at": T0}),
    ("core_work_items", {"id": 2, "partition_key": "x", "state": "RUNNING", "locked_by": "w"}),
    ("core_work_items", {"id": 2, "partition_key": "x", "state": "RETRY_WAIT"}),  # until when?
    ("core_work_items", {"id": 2, "partition_key": "x", "next_attempt_at": T0}),
    ("core_work_items", {"id": 2, "partition_key": "x", "state": "COMPLETE"}),
    ("core_work_items", {"id": 2, "partition_key": "x", "attempt_count": 4}),
    ("core_work_items", {"id": 2, "partition_key": "x", "error_class": "bad luck"}),
    ("core_work_items", {"id": 2, "partition_key": "x", "current_execution_id": "r1"}),
    ("core_work_log", {}),
    ("core_work_log", {"seq": 2, "work_item_id": 9}),
    ("core_work_log", {"seq": 2, "to_state": "DONE"}),
    ("core_executions", {}),
    ("core_executions", {"execution_id": "r2", "status": "STARTED"}),
    ("core_executions", {"execution_id": "r2", "lane": "FAST"}),
    ("core_executions", {"execution_id": "r2", "trigger_source": "cron"}),
    ("core_quality_scores", {}),
    ("core_quality_scores", {"tier": "NMS_TIER_1", "score": 1.01}),
    ("core_quality_scores", {"tier": "NMS_TIER_1", "timeliness": -0.1}),
    ("core_quality_scores", {"tier": "NMS_TIER_1", "grade": "E"}),
    ("core_quality_scores", {"tier": "NMS_TIER_1", "capture_id": "missing"}),
    ("core_subscriptions", {"id": 2}),  # a second one of a name
    ("core_subscriptions", {"id": 2, "name": "x", "min_severity": "DEBUG"}),
    ("core_subscriptions", {"id": 2, "name": "x", "mode": "weekly"}),
    ("core_notices", {"id": 2}),  # a second open notice of one thing
    ("core_notices", {"id": 2, "dedupe_key": "x", "state": "READ"}),
    ("core_notices", {"id": 2, "dedupe_key": "x", "times_told": 0}),
    ("core_notice_receipts", {"id": 2, "notice_id": 9}),
    ("core_notice_receipts", {"id": 2, "subscription_id": 9}),
    ("core_notice_receipts", {"id": 2, "state": "SENT"}),  # when?
    ("core_tokens", {}),
    ("core_tokens", {"id": "x"}),  # a second one of the name that is in force
    ("core_tokens", {"id": "x", "name": "x", "scope": "root"}),
    ("core_tokens", {"id": "x", "name": "x", "revoked_at": T0}),  # by whom?
    ("core_data_versions", {}),
    ("core_data_versions", {"capture_id": "missing"}),
    ("core_consumption", {}),
    ("core_consumption", {"use_id": "x", "via": "mail"}),
    ("core_consumption", {"use_id": "x", "via": "command"}),  # with a token
    ("core_consumption", {"use_id": "x", "version": "newest"}),
    ("core_consumption", {"use_id": "x", "token_id": "missing"}),
]


def insert(connection: sa.Connection, table: str, row: dict[str, Any]) -> None:
    connection.execute(sa.insert(METADATA.tables[table]), row)


@pytest.fixture
def filled(store: Store) -> Store:
    """One good row in every table, and a second, not current, capture of the same partition."""
    with store.control.write() as connection:
        insert(connection, "core_batches", BATCH_ROW)
        insert(connection, "core_manifest", MANIFEST_ROW | OTHER)
        for table in (one for one in TABLES if one.name != "core_batches"):
            insert(connection, table.name, GOOD[table.name])
    return store


def test_bad_rows_are_refused(filled: Store) -> None:
    """Prevents a law of the record from holding in one writer's code only, or on one of the databases only."""
    third = {"capture_id": "third", "file_path": "otc_raw/3.parquet", "is_current": 0, "revision": 3}
    base = GOOD | {"core_manifest": MANIFEST_ROW | third}
    accepted = []
    for table, change in BAD:
        with suppress(sa.exc.IntegrityError):
            with filled.control.write() as connection:  # some laws are looked at when it commits
                insert(connection, table, base[table] | change)
            accepted.append((table, change))
    assert accepted == []


def test_the_good_rows_of_the_table_above_are_accepted(filled: Store) -> None:
    """Prevents the cases above from passing because something else of the row is wrong."""
    with filled.control.write() as connection:
        for number in range(3):
            row = {"capture_id": f"n{number}", "file_path": f"{number}", "is_current": 0, "revision": 3}
            insert(connection, "core_manifest", MANIFEST_ROW | row)
        insert(connection, "core_capture_inputs", {"capture_id": "n0", "input_capture_id": "n1"})
        insert(connection, "core_deliveries", GOOD["core_deliveries"] | {"delivery_id": "d2"})
        blocked = {"delivery_id": "d3", "action": "blocked", "capture_id": None}
        insert(connection, "core_deliveries", GOOD["core_deliveries"] | blocked)
        insert(connection, "core_rejects", GOOD["core_rejects"] | {"line_no": 0})
        insert(connection, "core_quality", GOOD["core_quality"] | {"check_name": "c2"})


def test_an_input_cannot_be_deleted_while_something_was_made_from_it(filled: Store) -> None:
    """Prevents lineage from pointing at nothing (SQLite checks foreign keys only where it is told to)."""
    manifest = METADATA.tables["core_manifest"]
    with pytest.raises(sa.exc.IntegrityError), filled.control.write() as connection:
        connection.execute(sa.delete(manifest).where(manifest.c.capture_id == "other"))


def _shape(inspector: sa.Inspector, table: str) -> dict[str, Any]:
    unique = {tuple(one["column_names"]) for one in inspector.get_unique_constraints(table)}
    foreign = [(tuple(one["constrained_columns"]), one["referred_table"]) for one in inspector.get_foreign_keys(table)]
    indexes = {
        (one["name"], tuple(one["column_names"]), bool(one["unique"]), _where(one))
        for one in inspector.get_indexes(table)
        if not one.get("duplicates_constraint")
    }
    return {
        "columns": [
            (column["name"], str(column["type"]), column["nullable"], str(column["default"]))
            for column in inspector.get_columns(table)
        ],
        "primary key": inspector.get_pk_constraint(table)["constrained_columns"],
        "unique": unique,
        "foreign keys": sorted(foreign),
        "checks": {(one["name"], one["sqltext"]) for one in inspector.get_check_constraints(table)},
        "indexes": indexes,
    }


def _where(index: Any) -> str:
    options = index.get("dialect_options", {})
    return str(options.get("sqlite_where", options.get("postgresql_where", "")))


def test_metadata_is_what_the_migrations_create(store: Store, tmp_path: Any, request: pytest.FixtureRequest) -> None:
    """Prevents the code from naming a column, constraint or index that real stores do not have, or the reverse."""
    migrated = {table.name: _shape(sa.inspect(store.control.engine), table.name) for table in TABLES}
    with store.control.write() as connection:
        if store.control.is_postgres:
            connection.execute(sa.text("CREATE SCHEMA declared"))
            connection.execute(sa.text("SET LOCAL search_path TO declared"))
            METADATA.create_all(connection)
            declared = {table.name: _shape(sa.inspect(connection), table.name) for table in TABLES}
        else:
            other = sa.create_engine(f"sqlite:///{tmp_path / 'declared.db'}", poolclass=NullPool)
            METADATA.create_all(other)
            declared = {table.name: _shape(sa.inspect(other), table.name) for table in TABLES}
    assert len(migrated) == 27
    assert migrated == declared
    assert all(shape["columns"] for shape in migrated.values())


def test_every_core_table_has_a_declaration(store: Store) -> None:
    """Prevents a table of the migrations from being forgotten by journal, rebuild and the published file."""
    found = {name for name in sa.inspect(store.control.engine).get_table_names() if name.startswith("core_")}
    assert found - {"core_migrations"} == {table.name for table in TABLES}


@pytest.mark.parametrize("moment", [T0, T0.replace(microsecond=1), T0.replace(microsecond=999_999)])
def test_moments_survive_and_sort(filled: Store, moment: datetime) -> None:
    """Prevents fractions from being lost, and 15:00:00Z from sorting after 15:00:00.5Z as bare text would."""
    manifest = METADATA.tables["core_manifest"]
    with filled.control.write() as connection:
        connection.execute(sa.update(manifest).where(manifest.c.capture_id == "other").values(captured_at=moment))
    with filled.control.read() as connection:
        select = sa.select(manifest.c.captured_at).where(manifest.c.capture_id == "other")
        assert connection.scalar(select) == moment
        assert connection.scalar(select.where(manifest.c.captured_at <= moment)) == moment
        assert connection.scalar(select.where(manifest.c.captured_at < moment)) is None


def test_moments_of_other_zones_are_stored_in_utc_and_naive_ones_refused() -> None:
    """Prevents a clock of New York, or a local one, from dating a capture hours off."""
    from zoneinfo import ZoneInfo

    assert moment_text(datetime(2025, 12, 15, 10, tzinfo=ZoneInfo("America/New_York"))) == "2025-12-15T15:00:00.000000Z"
    with pytest.raises(ValueError, match="no time zone"):
        moment_text(datetime(2025, 12, 15, 10))  # noqa: DTZ001  # the mistake under test
    assert Moment().process_bind_param(None, sa.create_engine("sqlite://").dialect) is None


@pytest.mark.parametrize("text", ["2025-12-15T10:00:00.000000", "2025-12-15T10:00:00.000000-05:00", "2025-12-15", ""])
def test_what_is_no_moment_in_utc_is_refused(text: str) -> None:
    """Prevents a text that somebody else wrote into the database from being read as local time."""
    with pytest.raises(ValueError, match=r"not a moment in UTC|Invalid isoformat"):
        moment_of(text)


def test_dates_come_back_as_dates(filled: Store) -> None:
    """Prevents a week from being a text on one database and a date on the other."""
    with filled.control.read() as connection:
        weeks = set(connection.scalars(sa.select(METADATA.tables["core_manifest"].c.week_ending)))
    assert weeks == {WEEK}
    assert {type(week) for week in weeks} == {date}


def test_a_second_database_has_nothing_of_the_first(store: Store, tmp_path: Any) -> None:
    """Prevents engines from being shared between stores by anything but their URL."""
    other = Control(f"sqlite:///{tmp_path / 'other.db'}")
    assert other.ensure() == [migration for migration, _ in migrations()]
    assert other.engine is not store.control.engine
    other.dispose()
