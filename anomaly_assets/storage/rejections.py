"""What was refused at the door, kept so that nothing vanishes unseen."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa

from anomaly_assets.storage import bulk

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anomaly_assets.storage.database import Connection

#: Columns that a caller gives, all text but the last two.
COLUMNS = ("entity_id", "stream_id", "raw", "reason", "detail", "row_number", "event_time")


def record_rejections(
    connection: Connection,
    rejected: Mapping[str, pa.Array],
    *,
    source: str,
    source_digest: str = "",
    received_at: datetime | None = None,
) -> int:
    """Store refused readings; those of the same source, row and stream are stored once.

    Parameters
    ----------
    connection
        A connection to the database.
    rejected
        The columns :data:`COLUMNS`; ``row_number`` int64 and ``event_time`` a timestamp may hold
        NULL.
    source, source_digest
        Where they come from, and the SHA-256 of its content where it is a file.
    received_at
        When they arrived; default: now.

    Returns
    -------
    int
        Number of rows that were not there yet.
    """
    count = len(rejected["reason"])
    if count == 0:
        return 0
    names = ", ".join((*COLUMNS, "source", "source_digest", "received_at"))
    columns = {name: rejected[name] for name in COLUMNS}
    columns["source"] = bulk.constant(source, count)
    columns["source_digest"] = bulk.constant(source_digest, count)
    received = pa.scalar(received_at or datetime.now(tz=UTC), pa.timestamp("us", tz="UTC"))
    columns["received_at"] = pa.repeat(received, count)
    with connection.transaction():
        connection.execute(
            "CREATE TEMPORARY TABLE IF NOT EXISTS staged_rejections (entity_id text, "
            "stream_id text, raw text, reason text, detail text, row_number bigint, "
            "event_time timestamptz, source text, source_digest text, received_at timestamptz) "
            "ON COMMIT DELETE ROWS"
        )
        connection.execute("TRUNCATE staged_rejections")
        bulk.copy_rows(connection, "staged_rejections", columns)
        return connection.execute(
            f"INSERT INTO rejected_readings ({names}) SELECT {names} "  # noqa: S608 - constants
            "FROM staged_rejections ORDER BY source, source_digest, row_number, stream_id "
            "ON CONFLICT DO NOTHING"
        ).rowcount
