"""Which statements a server gets, and that it is asked.

There is no TimescaleDB here. What it would be told is run against stand-ins: functions of its
names and signatures, which note that they were called.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest

from anomaly_assets.storage import retention, timescale
from anomaly_assets.storage.tables import PARTITIONED
from anomaly_assets.storage.timescale import Capabilities
from anomaly_assets_tests.pipeline.people import append, execute, query, reading

if TYPE_CHECKING:
    from anomaly_assets.storage.database import Connection, Database

NATIVE = Capabilities()
APACHE = Capabilities((2, 20), "apache", hypertables=True)
TIMESCALE = Capabilities((2, 20), "timescale", hypertables=True)
OLDER = Capabilities((2, 13), "timescale", hypertables=True)
#: Installed after our tables were made: they are partitioned, and stay so.
LATER = Capabilities((2, 20), "timescale", hypertables=False)
MARCH = datetime(2025, 3, 1, tzinfo=UTC)

#: As the extension declares them, apart from "any", which only C functions may take.
STAND_INS = """
CREATE TABLE calls (name text);
CREATE SCHEMA timescaledb_information;
CREATE TABLE timescaledb_information.chunks (hypertable_schema name, hypertable_name name,
    chunk_schema name, chunk_name name, range_start timestamptz, range_end timestamptz);
CREATE FUNCTION drop_chunks(relation regclass, older_than timestamptz = NULL,
    newer_than timestamptz = NULL, "verbose" boolean = false) RETURNS SETOF text
    LANGUAGE plpgsql AS $$ DECLARE one record; BEGIN
    FOR one IN SELECT * FROM timescaledb_information.chunks
        WHERE range_end <= older_than AND range_start >= newer_than LOOP
        EXECUTE format('DROP TABLE %I.%I', one.chunk_schema, one.chunk_name);
        DELETE FROM timescaledb_information.chunks WHERE chunk_name = one.chunk_name;
        RETURN NEXT format('%I.%I', one.chunk_schema, one.chunk_name);
    END LOOP; END $$;
CREATE FUNCTION add_retention_policy(relation regclass, drop_after interval = NULL,
    if_not_exists boolean = false, schedule_interval interval = NULL) RETURNS integer
    LANGUAGE sql AS $$ INSERT INTO calls VALUES ('add_retention_policy'); SELECT 1 $$;
CREATE FUNCTION add_compression_policy(hypertable regclass, compress_after interval = NULL,
    if_not_exists boolean = false) RETURNS integer
    LANGUAGE sql AS $$ INSERT INTO calls VALUES ('add_compression_policy'); SELECT 1 $$;
CREATE FUNCTION remove_compression_policy(hypertable regclass, if_exists boolean = false)
    RETURNS boolean LANGUAGE sql AS $$ SELECT true $$;
CREATE PROCEDURE add_columnstore_policy(hypertable regclass, after interval = NULL,
    if_not_exists boolean = false)
    LANGUAGE sql AS $$ INSERT INTO calls VALUES ('add_columnstore_policy') $$;
CREATE PROCEDURE remove_columnstore_policy(hypertable regclass, if_exists boolean = false)
    LANGUAGE sql AS $$ SELECT true $$;
CREATE FUNCTION add_continuous_aggregate_policy(continuous_aggregate regclass,
    start_offset interval, end_offset interval, schedule_interval interval,
    if_not_exists boolean = false) RETURNS integer
    LANGUAGE sql AS $$ INSERT INTO calls VALUES ('add_continuous_aggregate_policy'); SELECT 1 $$;
CREATE FUNCTION time_bucket(bucket_width interval, ts timestamptz) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE AS $$ SELECT date_bin(bucket_width, ts, '2000-01-03T00:00:00Z') $$;
CREATE FUNCTION newest(state float8, value float8, at timestamptz) RETURNS float8
    LANGUAGE sql AS $$ SELECT value $$;
CREATE AGGREGATE last(float8, timestamptz) (SFUNC = newest, STYPE = float8);
"""


@pytest.fixture
def standing_in(database: Database) -> Database:
    """Return a database with stand-ins for what the extension brings."""
    with database.connect() as connection:
        connection.execute(STAND_INS)
    return database


def run(connection: Connection, statement: str) -> None:
    """Run a statement; of options that only the extension knows, see that nothing else is amiss."""
    if "timescaledb." not in statement or statement.startswith("DO"):
        connection.execute(statement.encode())
        return
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=r"namespace .timescaledb."):
        connection.execute(statement.encode())
    if statement.startswith("CREATE MATERIALIZED VIEW"):
        head, _, rest = statement.partition(" WITH (")
        connection.execute(f"{head} {rest.partition(') ')[2]}".encode())


def test_this_server_is_native(database: Database) -> None:
    """Without the extension there are monthly partitions, and nothing to set up."""
    with database.connect() as connection:
        found = timescale.detect(connection)
        assert found == NATIVE
        assert timescale.apply_policies(connection, found, 6) is False


@pytest.mark.parametrize(
    ("capabilities", "kind"),
    [(NATIVE, "native"), (LATER, "native"), (APACHE, "apache"), (TIMESCALE, "timescale")],
)
def test_the_kind_of_server_follows_from_what_it_says(
    capabilities: Capabilities, kind: str
) -> None:
    """An extension that came after our tables, or without a licence, is not made use of."""
    assert capabilities.kind == kind
    assert bool(timescale.policies(capabilities, 6)) is (kind == "timescale")


@pytest.mark.parametrize("capabilities", [TIMESCALE, OLDER])
@pytest.mark.parametrize("months", [0, 6])
def test_the_statements_of_a_licensed_server_run(
    standing_in: Database, capabilities: Capabilities, months: int
) -> None:
    """Each is accepted, with the compression of its version; retention only where it is asked."""
    with standing_in.connect() as connection:
        for statement in timescale.policies(capabilities, months):
            run(connection, statement)
    calls = [row[0] for row in query(standing_in, "SELECT name FROM calls")]
    compression = (
        "add_columnstore_policy" if capabilities is TIMESCALE else "add_compression_policy"
    )
    assert calls.count(compression) == len(timescale.COMPRESSED)
    assert calls.count("add_continuous_aggregate_policy") == 1
    assert calls.count("add_retention_policy") == (1 if months else 0)
    (row,) = query(
        standing_in,
        "SELECT setconfig FROM pg_db_role_setting AS s JOIN pg_database AS d "
        "ON d.oid = s.setdatabase WHERE d.datname = current_database()",
    )
    assert row[0] == ["timescaledb.max_tuples_decompressed_per_dml_transaction=0"]


def test_the_continuous_aggregate_says_what_the_roll_up_says(standing_in: Database) -> None:
    """Its columns are those of the hourly table, its values those that verified ones will be."""
    for minutes, value in ((0, 60.0), (10, 70.0), (70, 65.0)):
        append(standing_in, "ann", reading("steps", MARCH + timedelta(minutes=minutes), value))
    execute(standing_in, "UPDATE entities SET aggregated_until = '2025-05-01'")
    with standing_in.connect() as connection:
        for statement in timescale.policies(TIMESCALE, 6):
            run(connection, statement)
        connection.execute("REFRESH MATERIALIZED VIEW readings_hourly_recent")
        piece = retention.old_pieces(connection, NATIVE, MARCH + timedelta(days=40))[0]
        retention.aggregate_and_drop(connection, NATIVE, piece)
    columns = (
        "entity_id, hour, stream_id, readings, mean, min, max, sum, last, first_event, last_event"
    )
    views = [
        query(standing_in, f"SELECT {columns} FROM {name} ORDER BY hour")  # noqa: S608 - constants
        for name in ("readings_hourly_recent", "readings_hourly")
    ]
    assert views[0] == views[1]
    assert len(views[0]) == 2


def test_policies_are_set_up_once_and_anew_for_another_setting() -> None:
    """What is written on the view tells one set of policies from another."""
    marks = [
        timescale.mark_of(timescale.policies(capabilities, months))
        for capabilities, months in ((TIMESCALE, 6), (TIMESCALE, 6), (TIMESCALE, 7), (OLDER, 6))
    ]
    assert marks[0] == marks[1]
    assert len(set(marks)) == 3


def test_what_is_compressed_is_cut_by_time_and_ordered_by_the_rest_of_its_key() -> None:
    """Nothing whose row versions the live path asks for, which compressed rows do not have."""
    assert set(timescale.COMPRESSED) <= set(PARTITIONED)
    assert {"time_series_data", "anomaly_scores"}.isdisjoint(timescale.COMPRESSED)
    for table, order in timescale.COMPRESSED.items():
        assert PARTITIONED[table] in order


def test_chunks_are_aggregated_and_dropped_on_an_unlicensed_server(standing_in: Database) -> None:
    """The same path as with months: whole old chunks go, verified, in one transaction."""
    # A chunk is a child of its hypertable; here, of a partitioned table.
    append(standing_in, "ann", reading("steps", MARCH + timedelta(hours=1), 5.0))
    append(standing_in, "ann", reading("steps", MARCH + timedelta(days=40), 6.0))
    execute(standing_in, "UPDATE entities SET aggregated_until = '2025-05-01'")
    execute(
        standing_in,
        "INSERT INTO timescaledb_information.chunks VALUES ('public', 'readings', 'partitions', "
        "'readings_2025_03', '2025-03-01Z', '2025-04-01Z'), ('public', 'readings', 'partitions', "
        "'readings_2025_04', '2025-04-01Z', '2025-05-01Z')",
    )
    with standing_in.connect() as connection:
        (piece,) = retention.old_pieces(connection, APACHE, MARCH + timedelta(days=45))
        assert piece.name == "partitions.readings_2025_03"
        assert retention.aggregate_and_drop(connection, APACHE, piece) == retention.Dropped(
            piece, 1, 1
        )
        assert retention.old_pieces(connection, APACHE, MARCH + timedelta(days=45)) == []
    assert query(standing_in, "SELECT sum(readings) FROM readings_hourly") == [(1,)]
    assert query(standing_in, "SELECT value FROM readings") == [(6.0,)]
