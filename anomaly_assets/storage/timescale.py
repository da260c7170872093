"""What the server can do of TimescaleDB, and the statements that make use of it.

The server is asked, never a setting. The hypertables themselves are made by the migrations; what is
here can be added and taken away at any time. Every statement is one string, made by a function that
touches no server.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from anomaly_assets.storage.database import Connection

#: The continuous aggregate of the readings that are still there.
RECENT_HOURS: Final = "readings_hourly_recent"
#: Tables that are compressed, and how their rows are ordered within an entity. Neither
#: ``time_series_data`` nor ``anomaly_scores``: the live path tells versions of their rows by
#: ``xmin``, which rows in the columnstore do not have.
COMPRESSED: Final = {
    "readings": "stream_id, event_time DESC",
    "readings_hourly": "stream_id, hour DESC",
    "stream_health": "stream_id, timestamp DESC",
    "gap_patterns": "context, timestamp DESC",
}
#: Whole chunks older than this are compressed: far behind any replay that happens by itself.
COMPRESS_AFTER: Final = "interval '35 days'"
_COLUMNSTORE_SINCE = (2, 18)


@dataclass(frozen=True)
class Capabilities:
    """What a server can do.

    Parameters
    ----------
    version
        Of the extension, major and minor; None without it.
    licence
        ``timescale`` or ``apache``, as the server says; None without the extension.
    hypertables
        Whether the journal is a hypertable: the first migration decides that once and for all.
    """

    version: tuple[int, int] | None = None
    licence: str | None = None
    hypertables: bool = False

    @property
    def licensed(self) -> bool:
        """Whether compression, policies and continuous aggregates may be used."""
        return self.hypertables and self.licence == "timescale"

    @property
    def columnstore(self) -> bool:
        """Whether compression goes by its newer name."""
        return self.version is not None and self.version >= _COLUMNSTORE_SINCE

    @property
    def kind(self) -> str:
        """``timescale``, ``apache`` (hypertables alone) or ``native`` (monthly partitions)."""
        if not self.hypertables:
            return "native"
        return "timescale" if self.licensed else "apache"


def detect(connection: Connection) -> Capabilities:
    """Ask a server what it can do."""
    row = connection.execute(
        "SELECT (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'), "
        "current_setting('timescaledb.license', true), "
        "(SELECT relkind::text FROM pg_class WHERE oid = to_regclass('readings'))"
    ).fetchone() or (None, None, None)
    version, licence, kind = row
    if version is None:
        return Capabilities()
    major, minor = (int(part) for part in version.split("-")[0].split(".")[:2])
    return Capabilities((major, minor), licence or "apache", hypertables=kind == "r")


def chunks_before() -> str:
    """Return the query for the journal's chunks that end by a moment; on any edition.

    Columns: name as SQL has it, start, end; in order. Parameter ``before``.
    """
    return (
        "SELECT format('%%I.%%I', chunk_schema, chunk_name), range_start, range_end "
        "FROM timescaledb_information.chunks WHERE hypertable_name = 'readings' "
        "AND hypertable_schema = current_schema() AND range_end <= %(before)s ORDER BY range_start"
    )


def drop_chunks() -> str:
    """Return the statement that drops the journal's chunks of a range; on any edition.

    Parameters ``start`` and ``end``. It takes part in the caller's transaction.
    """
    return (
        "SELECT drop_chunks('readings'::regclass, older_than => %(end)s::timestamptz, "
        "newer_than => %(start)s::timestamptz)"
    )


def policies(capabilities: Capabilities, raw_months: int) -> list[str]:
    """Return the statements that have a server compress, aggregate and forget by itself.

    None but on a server licensed for them. They take away what was set up before, so that another
    setting or version takes effect, and are to run in one transaction.

    The journal itself gets no retention policy: that would drop readings whose hourly values nobody
    has verified. Our own job drops them, on every kind of server.

    Parameters
    ----------
    capabilities
        What the server can do.
    raw_months
        How many months readings are kept; 0: for ever.
    """
    if not capabilities.licensed:
        return []
    return [
        *_unlimited_rewriting(),
        *(statement for table in COMPRESSED for statement in _compression(capabilities, table)),
        *_continuous_aggregate(raw_months),
    ]


def mark_of(statements: list[str]) -> str:
    """Return what is written on the continuous aggregate: by it the same policies are known."""
    return "policies " + hashlib.sha256("\n".join(statements).encode()).hexdigest()[:16]


def apply_policies(connection: Connection, capabilities: Capabilities, raw_months: int) -> bool:
    """Set the server's own jobs up, unless they are as they should be; returns whether it did."""
    statements = policies(capabilities, raw_months)
    if not statements:
        return False
    mark = mark_of(statements)
    found = connection.execute(
        "SELECT obj_description(to_regclass(%s), 'pg_class')", (RECENT_HOURS,)
    ).fetchone()
    if found is not None and found[0] == mark:
        return False
    with connection.transaction():
        for statement in statements:
            # No parameters: a per cent sign would be one otherwise.
            connection.execute(statement.encode())
        connection.execute(f"COMMENT ON VIEW {RECENT_HOURS} IS '{mark}'".encode())
    return True


def _unlimited_rewriting() -> list[str]:
    # Replays delete and write whole days; the default of 100,000 rows a transaction is less.
    limit = "timescaledb.max_tuples_decompressed_per_dml_transaction"
    alter = f"format('ALTER DATABASE %I SET {limit} = 0', current_database())"
    return [f"DO $$ BEGIN EXECUTE {alter}; END $$"]


def _compression(capabilities: Capabilities, table: str) -> list[str]:
    order = COMPRESSED[table]
    if capabilities.columnstore:
        options = (
            "timescaledb.enable_columnstore = true, timescaledb.segmentby = 'entity_id', "
            f"timescaledb.orderby = '{order}'"
        )
        return [
            f"ALTER TABLE {table} SET ({options})",
            f"CALL remove_columnstore_policy('{table}', if_exists => true)",
            f"CALL add_columnstore_policy('{table}', after => {COMPRESS_AFTER})",
        ]
    options = (
        "timescaledb.compress = true, timescaledb.compress_segmentby = 'entity_id', "
        f"timescaledb.compress_orderby = '{order}'"
    )
    return [
        f"ALTER TABLE {table} SET ({options})",
        f"SELECT remove_compression_policy('{table}', if_exists => true)",
        f"SELECT add_compression_policy('{table}', {COMPRESS_AFTER})",
    ]


def _continuous_aggregate(raw_months: int) -> list[str]:
    query = (
        "SELECT entity_id, time_bucket(interval '1 hour', event_time) AS hour, stream_id, "
        "count(*) AS readings, avg(value) AS mean, min(value) AS min, max(value) AS max, "
        "sum(value) AS sum, last(value, event_time) AS last, min(event_time) AS first_event, "
        "max(event_time) AS last_event FROM readings GROUP BY 1, 2, 3"
    )
    options = "timescaledb.continuous, timescaledb.materialized_only = false"
    # It is refreshed over the last four weeks alone: a refresh over a range whose readings are
    # gone would delete its hours too.
    span = "start_offset => interval '28 days', end_offset => interval '1 hour'"
    every = "schedule_interval => interval '1 hour'"
    statements = [
        f"DROP MATERIALIZED VIEW IF EXISTS {RECENT_HOURS}",
        f"CREATE MATERIALIZED VIEW {RECENT_HOURS} WITH ({options}) AS {query} WITH NO DATA",
        f"SELECT add_continuous_aggregate_policy('{RECENT_HOURS}', {span}, {every})",
    ]
    if raw_months:
        kept = f"drop_after => interval '{raw_months} months'"
        statements.append(f"SELECT add_retention_policy('{RECENT_HOURS}', {kept})")
    return statements
