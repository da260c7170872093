"""The schema: up, down, and equal to the models."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from anomaly_assets.errors import StorageError
from anomaly_assets.storage import migrate
from anomaly_assets.storage.database import Database, DatabaseUnreachableError
from anomaly_assets.storage.partitions import ensure_partitions

if TYPE_CHECKING:
    from collections.abc import Sequence

MOMENT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def tables(database: Database, schema: str = "public") -> Sequence[str]:
    """Return the names of all tables of a schema."""
    with database.connect() as connection:
        rows = connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = %s", (schema,)
        ).fetchall()
    return sorted(row[0] for row in rows)


def test_migrated_database_has_exactly_the_tables_of_the_models(database: Database) -> None:
    """The check passes on a fresh database, also after partitions were made."""
    with database.connect() as connection:
        ensure_partitions(connection, MOMENT, MOMENT)
    migrate.check(database.url)
    assert migrate.current(database.url) == migrate.head()


def test_altered_table_is_reported(database: Database) -> None:
    """A column that somebody dropped by hand is named."""
    with database.connect() as connection:
        connection.execute("ALTER TABLE labels DROP COLUMN reason")
    with pytest.raises(StorageError, match="reason"):
        migrate.check(database.url)


def test_empty_database_is_told_from_a_migrated_one(empty_database_url: str) -> None:
    """The check says which command brings the tables."""
    assert migrate.current(empty_database_url) is None
    with pytest.raises(StorageError, match="anomaly-assets migrate"):
        migrate.check(empty_database_url)


def test_down_and_up_again_with_rows_and_partitions(database: Database) -> None:
    """Migrating down removes everything, rows and partitions included; up again works."""
    before = tables(database)
    with database.connect() as connection:
        ensure_partitions(connection, MOMENT, MOMENT)
        connection.execute(
            "INSERT INTO readings (entity_id, event_time, stream_id, value, source) "
            "VALUES ('e', %s, 's', 1, 'test')",
            (MOMENT,),
        )
        connection.execute("INSERT INTO entities (entity_id) VALUES ('e')")
    migrate.downgrade(database.url, "base")
    assert tables(database) == ["alembic_version"]
    assert tables(database, "partitions") == []
    migrate.upgrade(database.url)
    assert tables(database) == before
    migrate.check(database.url)


def test_several_processes_may_migrate_at_once(empty_database_url: str) -> None:
    """Concurrent upgrades wait for each other instead of failing."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(migrate.upgrade, [empty_database_url] * 2))
    migrate.check(empty_database_url)


def test_snapshots_are_stored_uncompressed(database: Database) -> None:
    """The blob column has external storage."""
    with database.connect() as connection:
        row = connection.execute(
            "SELECT attstorage FROM pg_attribute "
            "WHERE attrelid = 'model_snapshots'::regclass AND attname = 'blob'"
        ).fetchone()
    assert row == ("e",)


def test_unreachable_server_is_said_so() -> None:
    """Neither alembic nor psycopg tracebacks, but the address without its password."""
    url = "postgresql://ann:secret@127.0.0.1:1/watch"
    with pytest.raises(DatabaseUnreachableError) as caught:
        migrate.current(url)
    assert "secret" not in str(caught.value)


def test_networks_and_suggestions_go_with_their_revision(database: Database) -> None:
    """One revision down removes the two tables and their rows, and no other row; up again works."""
    with database.connect() as connection:
        ensure_partitions(connection, MOMENT, MOMENT)
        connection.execute("INSERT INTO entities (entity_id) VALUES ('e')")
        connection.execute(
            "INSERT INTO readings (entity_id, event_time, stream_id, value, source) "
            "VALUES ('e', %s, 's', 1, 'test')",
            (MOMENT,),
        )
        connection.execute(
            "INSERT INTO causal_networks (entity_id, fitted_at, network, n_windows) "
            "VALUES ('e', %s, '{}', 288)",
            (MOMENT,),
        )
        connection.execute(
            "INSERT INTO suggestions (entity_id, kind, subject, payload, support, first_seen, "
            "last_seen) VALUES ('e', 'edge', 'a -> b', '{}', 0.9, %(at)s, %(at)s)",
            {"at": MOMENT},
        )
    migrate.downgrade(database.url, "0001")
    assert {"causal_networks", "suggestions"}.isdisjoint(tables(database))
    migrate.upgrade(database.url)
    migrate.check(database.url)
    with database.connect() as connection:
        counts = [
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - constants
            for table in ("entities", "readings", "causal_networks", "suggestions")
        ]
    assert counts == [(1,), (1,), (0,), (0,)]


def test_the_live_tables_go_with_their_revision(database: Database) -> None:
    """One revision down removes the five tables and no other row; up again they are empty."""
    live = ("api_tokens", "idempotency_keys", "alerts", "alert_snoozes", "webhooks")
    kept = ("entities", "readings", "causal_networks")
    with database.connect() as connection:
        ensure_partitions(connection, MOMENT, MOMENT)
        connection.execute("INSERT INTO entities (entity_id) VALUES ('e')")
        connection.execute(
            "INSERT INTO readings (entity_id, event_time, stream_id, value, source) "
            "VALUES ('e', %s, 's', 1, 'test')",
            (MOMENT,),
        )
        connection.execute(
            "INSERT INTO causal_networks (entity_id, fitted_at, network, n_windows) "
            "VALUES ('e', %s, '{}', 288)",
            (MOMENT,),
        )
        connection.execute(
            "INSERT INTO api_tokens (name, digest, may_read, may_write) "
            "VALUES ('n', sha256('secret'), true, true)"
        )
        connection.execute(
            "INSERT INTO idempotency_keys (token_id, key, request_digest) "
            "VALUES (1, 'k', sha256('body'))"
        )
        connection.execute(
            "INSERT INTO alerts (alert_key, entity_id, rule, severity, status, first_seen, "
            "last_seen, summary, details) "
            "VALUES ('k', 'e', 'r', 'info', 'sent', %(at)s, %(at)s, 's', '{}')",
            {"at": MOMENT},
        )
        connection.execute(
            "INSERT INTO alert_snoozes (ends_at, author) VALUES (now() + interval '1 h', 'ann')"
        )
        connection.execute("INSERT INTO webhooks (url, events) VALUES ('http://h/', '{window}')")
    migrate.downgrade(database.url, "0004")
    assert set(live).isdisjoint(tables(database))
    migrate.upgrade(database.url)
    migrate.check(database.url)
    with database.connect() as connection:
        counts = {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - ours
            for table in (*live, *kept)
        }
    assert counts == {**dict.fromkeys(live, (0,)), **dict.fromkeys(kept, (1,))}


def test_snapshots_get_a_number_and_keep_their_state(database: Database) -> None:
    """Models of before become versions; one revision down their states stay, the rest goes."""
    migrate.downgrade(database.url, "0005")
    columns = (
        "entity_id, component, format_version, detector, catalogue_digest, code_version, "
        "river_version, numpy_version, sha256, signature, size, blob, created_by, as_of"
    )
    with database.connect() as connection:
        for component in ("gap_patterns", "tier1_models"):
            connection.execute(
                f"INSERT INTO model_snapshots ({columns}) VALUES ('e', %s, 1, 'D/1', 'c', '0.1', "  # noqa: S608 - constants
                "'0.26', '2.4', 's', 'h', 1, 'x', 'cli', %s)",
                (component, MOMENT),
            )
    migrate.upgrade(database.url)
    migrate.check(database.url)
    with database.connect() as connection:
        versions = connection.execute(
            "SELECT version, learnt_windows FROM model_snapshots ORDER BY version"
        ).fetchall()
        assert versions == [(1, None), (2, None)]
        connection.execute(
            "INSERT INTO model_actions (entity_id, kind, who, why, outcome, details) "
            "VALUES ('e', 'rollback', 'a', 'b', 'pending', '{}')"
        )
        connection.execute(
            "INSERT INTO model_pins (entity_id, version, pinned_by, reason) "
            "VALUES ('e', 1, 'a', 'b')"
        )
    migrate.downgrade(database.url, "0005")
    with database.connect() as connection:
        assert connection.execute("SELECT count(*) FROM model_snapshots").fetchone() == (2,)
    assert "model_actions" not in tables(database)
    migrate.upgrade(database.url)
    migrate.check(database.url)


def test_labels_keep_what_was_said(database: Database) -> None:
    """Labels of before gain no cause and keep their note as the reason; down, causes alone go."""
    migrate.downgrade(database.url, "0003")
    with database.connect() as connection:
        connection.execute(
            "INSERT INTO labels (entity_id, start_time, end_time, verdict, note, author, "
            "undone_at) VALUES ('e', %(at)s, %(at)s + interval '1 hour', 'confirmed', 'seen', "
            "'Ann', %(at)s), ('e', %(at)s, %(at)s + interval '1 hour', 'expected', NULL, NULL, "
            "NULL)",
            {"at": MOMENT},
        )
    migrate.upgrade(database.url)
    migrate.check(database.url)
    with database.connect() as connection:
        rows = connection.execute(
            "SELECT verdict, cause, events, reason, author, undone_at, undone_by FROM labels "
            "ORDER BY label_id"
        ).fetchall()
        assert rows == [
            ("confirmed", None, None, "seen", "Ann", MOMENT, None),
            ("expected", None, None, None, None, None, None),
        ]
        connection.execute(
            "UPDATE labels SET cause = 'sauna', title = 'Sauna', recommended_action = 'Wait.', "
            "events = '[[\"up\", 0]]', undone_at = %s, undone_by = 'Bob'",
            (MOMENT,),
        )
    migrate.downgrade(database.url, "0003")
    with database.connect() as connection:
        left = connection.execute(
            "SELECT verdict, note, author, undone_at FROM labels ORDER BY label_id"
        ).fetchall()
    assert left == [("confirmed", "seen", "Ann", MOMENT), ("expected", None, None, MOMENT)]
    migrate.upgrade(database.url)
    migrate.check(database.url)


def test_retention_goes_with_its_revision(database: Database) -> None:
    """One revision down loses hourly values, erasures and refusals for age, and no other row."""
    with database.connect() as connection:
        ensure_partitions(connection, MOMENT, MOMENT)
        hour = MOMENT.replace(minute=0, second=0)
        connection.execute("INSERT INTO entities (entity_id, raw_from) VALUES ('e', %s)", (hour,))
        connection.execute(
            "INSERT INTO readings_hourly VALUES ('e', %(at)s, 's', 1, 0, 1, 1, 1, 1, 1, %(at)s, "
            "%(at)s)",
            {"at": hour},
        )
        connection.execute(
            "INSERT INTO erasures (subject, erased_by, counts) "
            "VALUES (repeat('a', 64), 'ann', '{}')"
        )
        for reason in ("past_retention", "future_time"):
            connection.execute(
                "INSERT INTO rejected_readings (entity_id, stream_id, raw, reason, detail, source) "
                "VALUES ('e', 's', 'x', %s, 'd', 'test')",
                (reason,),
            )
    migrate.downgrade(database.url, "0005")
    assert {"readings_hourly", "erasures"}.isdisjoint(tables(database))
    assert not [name for name in tables(database, "partitions") if "hourly" in name]
    migrate.upgrade(database.url)
    migrate.check(database.url)
    with database.connect() as connection:
        assert connection.execute("SELECT entity_id, raw_from FROM entities").fetchall() == [
            ("e", None)
        ]
        assert connection.execute("SELECT reason FROM rejected_readings").fetchall() == [
            ("future_time",)
        ]
