"""Explanations, to and from their table."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from psycopg import sql
from psycopg.types.json import Jsonb

from anomaly_assets.errors import StorageError
from anomaly_assets.storage.grids import where
from anomaly_assets.storage.partitions import ensure_partitions
from anomaly_assets.streams.windows import WINDOW_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anomaly_assets.storage.database import Connection
    from anomaly_assets.streams.windows import WindowRange

WINDOW: Final = timedelta(seconds=WINDOW_SECONDS)
_EXPLANATION_FIELDS: Final = (
    "anomaly_id",
    "episode_end",
    "windows",
    "peak_score",
    "ongoing",
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
    """Store the explanations of the episodes that begin in a range; returns how many.

    What was there of episodes that begin in it goes, whichever windows it was grouped from.
    Explanations that somebody asked for (trigger ``forced``) stay, unless `rows` hold them anew.

    Parameters
    ----------
    connection
        A connection to the database.
    entity_id, windows
        Whose explanations, of episodes that begin in which windows, are replaced.
    rows
        Records as ``Explanation.to_dict`` returns them, of episodes that begin in these windows;
        without an episode, ``window_start`` (which may be a datetime too) is one by itself.

    Raises
    ------
    StorageError
        If an episode begins elsewhere.
    """
    ensure_partitions(connection, windows.start_time, windows.end_time)
    made = [_explanation_row(entity_id, row) for row in rows]
    for _, start, *_ in made:
        if not windows.start_time <= start < windows.end_time:
            msg = (
                f"entity {entity_id!r}: an episode begins at {start.isoformat()}, outside of the "
                f"windows {windows.start_time.isoformat()} to {windows.end_time.isoformat()} that "
                "are replaced; give their explanations only"
            )
            raise StorageError(msg)
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
        cursor.executemany(statement, made)
    return len(made)


def ongoing_since(connection: Connection, entity_id: str, before: datetime) -> datetime | None:
    """Return the start of the first episode that began before a time and was left ongoing."""
    row = connection.execute(
        "SELECT min(timestamp) FROM causal_explanations "
        "WHERE entity_id = %s AND timestamp < %s AND ongoing AND trigger <> 'forced'",
        (entity_id, before),
    ).fetchone()
    return None if row is None else row[0]


def episodes_to_look_at(
    connection: Connection, entities: Sequence[str], windows: WindowRange
) -> set[str]:
    """Return which entities have an episode that goes on into a range, or that begins in it."""
    rows = connection.execute(
        "SELECT DISTINCT entity_id FROM causal_explanations "
        "WHERE entity_id = ANY(%(entities)s) AND trigger <> 'forced' AND timestamp < %(end)s "
        "AND (timestamp >= %(start)s OR ongoing)",
        {"entities": list(entities), "start": windows.start_time, "end": windows.end_time},
    ).fetchall()
    return {entity_id for (entity_id,) in rows}


def first_episode(
    connection: Connection, entity_id: str, windows: WindowRange
) -> tuple[str, datetime, datetime] | None:
    """Return identifier, start and end of the first explained episode with windows in a range."""
    return connection.execute(
        "SELECT anomaly_id::text, timestamp, episode_end FROM causal_explanations "
        "WHERE entity_id = %(entity_id)s AND timestamp < %(end)s AND episode_end > %(start)s "
        "AND trigger <> 'forced' ORDER BY timestamp LIMIT 1",
        where(entity_id, windows),
    ).fetchone()


def _explanation_row(entity_id: str, row: Mapping[str, Any]) -> tuple[Any, ...]:
    window = _moment(row["window_start"])
    start = _moment(row.get("episode_start", window))
    episode = {
        "episode_end": _moment(row.get("episode_end", window + WINDOW)),
        "windows": row.get("windows", 1),
        "peak_score": row.get("peak_score", row.get("score")),
        "ongoing": row.get("ongoing", False),
    }
    fields = {**row, **episode}
    record = {name: v.isoformat() if isinstance(v, datetime) else v for name, v in row.items()}
    return (
        entity_id,
        start,
        *(fields.get(name) for name in _EXPLANATION_FIELDS),
        *(None if row.get(name) is None else Jsonb(row[name]) for name in _EXPLANATION_DOCUMENTS),
        Jsonb(record),
    )


def _moment(value: datetime | str) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(value)
