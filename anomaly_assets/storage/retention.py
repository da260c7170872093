"""Old readings: aggregated by the hour, verified, and then dropped, a whole piece at a time.

A piece is what the server can drop without touching a row: a monthly partition, or on TimescaleDB a
chunk. Hourly values, the check that they stand for every reading, and the drop are one transaction,
so a kill leaves a piece either whole or aggregated.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from psycopg import sql

from anomaly_assets.errors import StorageError
from anomaly_assets.storage import timescale
from anomaly_assets.storage.partitions import SCHEMA, ensure_partitions

if TYPE_CHECKING:
    from anomaly_assets.storage.database import Connection

#: Windows this long after a piece are still aggregated with its readings in view.
LOOKBACK: Final = timedelta(days=1)
#: Key of the advisory lock under which pieces go.
_LOCK: Final = 0x616E6F6D_72657465
_CHILD: Final = re.compile(r"^readings_(\d{4,})_(\d\d)$")
_SHOWN: Final = 3

_ROLL_UP: Final = sql.SQL("""
INSERT INTO readings_hourly AS h (entity_id, hour, stream_id, readings, late, mean, min, max, sum,
       last, first_event, last_event)
SELECT entity_id, date_bin('1 hour', event_time, '2000-01-01T00:00:00Z'), stream_id, count(*),
       count(*) FILTER (WHERE late), sum(value ORDER BY event_time) / count(*), min(value),
       max(value), sum(value ORDER BY event_time),
       (array_agg(value ORDER BY event_time DESC))[1], min(event_time), max(event_time)
FROM readings WHERE event_time >= {start} AND event_time < {end}
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
ON CONFLICT (entity_id, hour, stream_id) DO UPDATE SET
    readings = h.readings + excluded.readings,
    late = h.late + excluded.late,
    mean = (h.sum + excluded.sum) / (h.readings + excluded.readings),
    min = least(h.min, excluded.min),
    max = greatest(h.max, excluded.max),
    sum = h.sum + excluded.sum,
    last = CASE WHEN excluded.last_event >= h.last_event THEN excluded.last ELSE h.last END,
    first_event = least(h.first_event, excluded.first_event),
    last_event = greatest(h.last_event, excluded.last_event)
""")
#: Who would still need the piece: windows that were not aggregated, or are to be once more.
_WAITING: Final = """
SELECT e.entity_id FROM entities AS e
WHERE (coalesce(e.aggregated_until < %(needed)s, true) AND EXISTS (SELECT FROM readings AS r
       WHERE r.entity_id = e.entity_id AND r.event_time >= %(start)s AND r.event_time < %(end)s
       AND NOT r.late))
   OR EXISTS (SELECT FROM late_windows AS l WHERE l.entity_id = e.entity_id
       AND l."window" >= %(start)s AND l."window" < %(needed)s)
ORDER BY 1
"""


@dataclass(frozen=True)
class Piece:
    """A stretch of the journal that can be dropped as a whole.

    Parameters
    ----------
    name
        Of its table, as SQL has it.
    start, end
        What it holds, ``[start, end)``.
    """

    name: str
    start: datetime
    end: datetime


@dataclass(frozen=True)
class Outlook:
    """What would become of a piece.

    Parameters
    ----------
    piece
        Which one.
    readings
        Its rows.
    waiting
        Entities whose windows have still to be aggregated from it: while there are any, it stays.
    """

    piece: Piece
    readings: int
    waiting: tuple[str, ...]

    @property
    def reason(self) -> str:
        """Why it stays; empty where it can go."""
        if not self.waiting:
            return ""
        shown = ", ".join(self.waiting[:_SHOWN])
        more = len(self.waiting) - _SHOWN
        return (
            f"windows of {shown}{f' and {more} more' if more > 0 else ''} are not processed to the "
            "end of it; run anomaly-assets backfill"
        )


@dataclass(frozen=True)
class Dropped:
    """A piece that has gone.

    Parameters
    ----------
    piece
        Which one.
    readings
        Its rows; each is counted in one of the hours.
    hours
        Rows of hourly values made or added to.
    """

    piece: Piece
    readings: int
    hours: int


def boundary(now: datetime, raw_months: int) -> datetime | None:
    """Return the moment before which readings are old; None where they are kept for ever.

    Parameters
    ----------
    now
        Aware.
    raw_months
        Calendar months; a day that the earlier month does not have is its last one.
    """
    if raw_months == 0:
        return None
    utc = now.astimezone(UTC)
    number = utc.year * 12 + utc.month - 1 - raw_months
    first = datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC)
    last = _following(first) - timedelta(days=1)
    return utc.replace(year=first.year, month=first.month, day=min(utc.day, last.day))


def old_pieces(
    connection: Connection, capabilities: timescale.Capabilities, before: datetime
) -> list[Piece]:
    """Return the pieces of the journal that lie wholly before a moment, the oldest first."""
    if capabilities.hypertables:
        rows = connection.execute(timescale.chunks_before(), {"before": before}).fetchall()
        return [Piece(str(name), start, end) for name, start, end in rows]
    rows = connection.execute(
        "SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid "
        "WHERE i.inhparent = 'readings'::regclass ORDER BY 1"
    ).fetchall()
    found = []
    for (name,) in rows:
        month = _CHILD.fullmatch(str(name))
        if month is None:
            continue
        start = datetime(int(month[1]), int(month[2]), 1, tzinfo=UTC)
        if _following(start) <= before:
            found.append(Piece(f"{SCHEMA}.{name}", start, _following(start)))
    return sorted(found, key=lambda piece: piece.start)


def look_at(connection: Connection, piece: Piece) -> Outlook:
    """Return what would become of a piece."""
    count = sum(_raw_counts(connection, piece).values())
    return Outlook(piece, count, _waiting(connection, piece))


def aggregate_and_drop(
    connection: Connection, capabilities: timescale.Capabilities, piece: Piece
) -> Dropped | None:
    """Aggregate a piece by the hour, make sure that no reading is missing, and drop it.

    Returns
    -------
    Dropped or None
        None if it is no longer there, or has come to be needed.

    Raises
    ------
    StorageError
        If the hourly values do not stand for every reading; everything is then as it was.
    """
    if piece not in old_pieces(connection, capabilities, piece.end):
        return None
    ensure_partitions(connection, piece.start, piece.end - timedelta(microseconds=1))
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        connection.execute("SET LOCAL lock_timeout = '10s'")
        if piece not in old_pieces(connection, capabilities, piece.end):
            return None
        # Nobody adds to it from here on; readers go on.
        name = sql.SQL(piece.name)
        connection.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(name))
        if _waiting(connection, piece):
            return None
        raw = _raw_counts(connection, piece)
        before = _hourly_counts(connection, piece)
        bounds = {"start": sql.Literal(piece.start), "end": sql.Literal(piece.end)}
        hours = connection.execute(_ROLL_UP.format(**bounds)).rowcount
        _require_all(piece, raw, before, _hourly_counts(connection, piece))
        # Writers lock the journal before entities: in any other order we would wait for each other.
        if capabilities.hypertables:
            connection.execute(
                timescale.drop_chunks(), {"start": piece.start, "end": piece.end}
            ).fetchall()
        else:
            connection.execute(sql.SQL("DROP TABLE {}").format(name))
        connection.execute(
            "UPDATE entities SET raw_from = greatest(raw_from, %s) WHERE entity_id = ANY(%s)",
            (piece.end, sorted(raw)),
        )
    return Dropped(piece, sum(raw.values()), hours)


def raw_limits(connection: Connection) -> dict[str, datetime]:
    """Return since when each entity's readings are there, of those of whom some were dropped."""
    rows = connection.execute(
        "SELECT entity_id, raw_from FROM entities WHERE raw_from IS NOT NULL"
    ).fetchall()
    return dict(rows)


def _waiting(connection: Connection, piece: Piece) -> tuple[str, ...]:
    found = connection.execute(
        _WAITING, {"start": piece.start, "end": piece.end, "needed": piece.end + LOOKBACK}
    ).fetchall()
    return tuple(row[0] for row in found)


def _raw_counts(connection: Connection, piece: Piece) -> dict[str, int]:
    rows: list[Any] = connection.execute(
        "SELECT entity_id, count(*) FROM readings WHERE event_time >= %s AND event_time < %s "
        "GROUP BY 1",
        (piece.start, piece.end),
    ).fetchall()
    return dict(rows)


def _hourly_counts(connection: Connection, piece: Piece) -> dict[str, int]:
    rows: list[Any] = connection.execute(
        "SELECT entity_id, sum(readings)::bigint FROM readings_hourly "
        "WHERE hour >= date_bin('1 hour', %s, '2000-01-01T00:00:00Z') AND hour < %s GROUP BY 1",
        (piece.start, piece.end),
    ).fetchall()
    return dict(rows)


def _require_all(
    piece: Piece, raw: dict[str, int], before: dict[str, int], after: dict[str, int]
) -> None:
    for entity_id, count in sorted(raw.items()):
        found = after.get(entity_id, 0) - before.get(entity_id, 0)
        if found != count:
            msg = (
                f"readings of entity {entity_id!r} from {piece.start:%Y-%m-%d} to "
                f"{piece.end:%Y-%m-%d}: there are {count}, the hourly values stand for {found}; "
                "nothing was dropped, and nothing will be until they agree"
            )
            raise StorageError(msg)


def _following(month: datetime) -> datetime:
    return month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)
