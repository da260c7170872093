"""Explanations, to and from their table."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from psycopg import sql
from psycopg.types.json import Jsonb

from anomaly_assets.storage.grids import where
from anomaly_assets.storage.partitions import ensure_partitions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anomaly_assets.storage.database import Connection
    from anomaly_assets.streams.windows import WindowRange

_EXPLANATION_FIELDS: Final = (
    "anomaly_id",
    "summary",
    "mode",
    "trigger",
    "primary_cause",
    "confidence",
    "recommended_action",
)
_EXPLANATION_DOCUMENTS: Final = (
    "causal_attribution",
    "temporal_sequence",
    "evidence",
    "alternative_explanations",
)


def write_explanations(
    connection: Connection,
    entity_id: str,
    windows: WindowRange,
    rows: Sequence[Mapping[str, Any]],
) -> int:
    """Store the explanations of a range; returns how many.

    Explanations that somebody asked for (trigger ``forced``) stay, unless `rows` hold them anew.

    Parameters
    ----------
    connection
        A connection to the database.
    entity_id, windows
        Whose explanations, of which windows, are replaced.
    rows
        Records as ``Explanation.to_dict`` returns them; ``window_start`` may be a datetime too.
    """
    ensure_partitions(connection, windows.start_time, windows.end_time)
    names = ("entity_id", "timestamp", *_EXPLANATION_FIELDS, *_EXPLANATION_DOCUMENTS, "record")
    updated = sql.SQL(", ").join(
        sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in names[3:]
    )
    statement = sql.SQL(
        "INSERT INTO causal_explanations ({}) VALUES ({}) "
        "ON CONFLICT (entity_id, timestamp, anomaly_id) DO UPDATE SET {}"
    ).format(
        sql.SQL(", ").join(map(sql.Identifier, names)),
        sql.SQL(", ").join([sql.Placeholder()] * len(names)),
        updated,
    )
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM causal_explanations WHERE entity_id = %(entity_id)s "
            "AND timestamp >= %(start)s AND timestamp < %(end)s AND trigger <> 'forced'",
            where(entity_id, windows),
        )
        cursor.executemany(statement, [_explanation_row(entity_id, row) for row in rows])
    return len(rows)


def _explanation_row(entity_id: str, row: Mapping[str, Any]) -> tuple[Any, ...]:
    start = row["window_start"]
    record = {**row, "window_start": start.isoformat() if isinstance(start, datetime) else start}
    return (
        entity_id,
        start,
        *(row.get(name) for name in _EXPLANATION_FIELDS),
        *(None if row.get(name) is None else Jsonb(row[name]) for name in _EXPLANATION_DOCUMENTS),
        Jsonb(record),
    )
