"""The journal of readings: append-only, idempotent, durable before it is acknowledged.

A reading whose window has been aggregated already is *late*. Within the horizon it is stored and
its window marked in ``late_windows`` for a replay; beyond, it is stored and flagged, and not
aggregated.

Writers share the entity's row (``FOR KEY SHARE``) and :func:`close_windows` takes it for itself, so
that a reading in flight is either seen by the aggregation or late, never lost between the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
from psycopg import sql

from anomaly_assets.errors import InputError
from anomaly_assets.storage import bulk
from anomaly_assets.storage.grids import where
from anomaly_assets.storage.identifiers import RejectionReason
from anomaly_assets.storage.partitions import ensure_months
from anomaly_assets.storage.retention import raw_limits
from anomaly_assets.streams.aggregation import Readings, ReadingTimes
from anomaly_assets.streams.windows import window_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anomaly_assets.storage.database import Connection
    from anomaly_assets.streams.catalogue import Catalogue
    from anomaly_assets.streams.windows import IntArray, WindowRange

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: One statement, and so one answer to wait for: keeps the windows of the entities from being
#: closed, inserts (nothing unless all of them are known), marks the windows of late readings, and
#: widens the entities' known spans. Rows are locked in one order, so that two writers of the same
#: entities do not wait for each other for ever.
_APPEND = """
WITH shared AS (
    SELECT entity_id, aggregated_until, aggregated_until - %(late_horizon)s AS too_late_before,
           coalesce(raw_from, '-infinity') AS raw_from
    FROM entities WHERE entity_id = ANY(%(entities)s) ORDER BY entity_id FOR KEY SHARE
),
inserted AS (
    INSERT INTO readings (entity_id, event_time, stream_id, value, received_at, source, late)
    SELECT e.entity_id, s.event_time, n.name, s.value, %(received_at)s, %(source)s,
           coalesce(s.event_time < e.too_late_before, false)
    FROM unnest(%(entity)b, %(time)b, %(code)b, %(value)b)
         WITH ORDINALITY AS s (entity, event_time, code, value, place)
    JOIN unnest(%(entities)s::text[]) WITH ORDINALITY AS o (entity_id, place) ON o.place = s.entity
    JOIN shared AS e ON e.entity_id = o.entity_id
    JOIN unnest(%(names)s::text[]) WITH ORDINALITY AS n (name, place) ON n.place = s.code
    WHERE (SELECT count(*) FROM shared) = cardinality(%(entities)s::text[])
      AND s.event_time >= e.raw_from
    ORDER BY e.entity_id, s.event_time, n.name, s.place
    ON CONFLICT DO NOTHING
    RETURNING entity_id, event_time, late
),
seen AS (
    SELECT i.entity_id, i.event_time, i.late,
           NOT i.late AND coalesce(i.event_time < e.aggregated_until, false) AS marks
    FROM inserted AS i JOIN shared AS e USING (entity_id)
),
marked AS (
    INSERT INTO late_windows AS l (entity_id, "window", first_received_at, readings)
    SELECT entity_id, date_bin('5 minutes', event_time, '1970-01-01T00:00:00Z'),
           %(received_at)s, count(*)
    FROM seen WHERE marks
    GROUP BY 1, 2 ORDER BY 1, 2
    ON CONFLICT (entity_id, "window") DO UPDATE SET readings = l.readings + excluded.readings
),
spans AS (
    SELECT entity_id, max(event_time) AS last_reading_at,
           date_bin('5 minutes', min(event_time) FILTER (WHERE NOT late), '1970-01-01T00:00:00Z')
           AS first_window
    FROM seen GROUP BY 1
),
wider AS (
    SELECT e.entity_id, s.first_window, s.last_reading_at
    FROM entities AS e JOIN spans AS s USING (entity_id)
    WHERE e.first_window IS NULL OR e.first_window > s.first_window
       OR e.last_reading_at IS NULL OR e.last_reading_at < s.last_reading_at
    ORDER BY e.entity_id FOR NO KEY UPDATE OF e
),
widened AS (
    UPDATE entities AS e SET first_window = least(e.first_window, w.first_window),
           last_reading_at = greatest(e.last_reading_at, w.last_reading_at)
    FROM wider AS w WHERE e.entity_id = w.entity_id
)
SELECT count(*), count(*) FILTER (WHERE marks), count(*) FILTER (WHERE late),
       (SELECT count(*) FROM shared),
       (SELECT count(*) FROM shared WHERE raw_from > %(oldest)s)
FROM seen
"""


@dataclass(frozen=True)
class AppendReport:
    """What became of appended readings.

    Parameters
    ----------
    accepted
        Newly stored, late ones included.
    duplicate
        Already there, with the same entity, stream and time; the stored value stays.
    late
        Of the accepted: their windows had been aggregated, and are marked for a replay.
    too_late
        Of the accepted: beyond the horizon; kept, but not aggregated.
    """

    accepted: int = 0
    duplicate: int = 0
    late: int = 0
    too_late: int = 0

    def __add__(self, other: AppendReport) -> AppendReport:
        """Add two reports up."""
        return AppendReport(
            self.accepted + other.accepted,
            self.duplicate + other.duplicate,
            self.late + other.late,
            self.too_late + other.too_late,
        )


@dataclass(frozen=True)
class JournalReadings:
    """What the journal knows of a range.

    Parameters
    ----------
    readings
        Accepted readings, to be aggregated.
    late
        Readings that came beyond the horizon.
    rejected
        Readings that were refused, as far as stream and time were readable.
    """

    readings: Readings
    late: ReadingTimes
    rejected: ReadingTimes


def append_readings(  # noqa: PLR0913 - what, of whom, from where, and since when it is late
    connection: Connection,
    entity_id: str,
    readings: Readings,
    catalogue: Catalogue,
    *,
    source: str,
    late_horizon: timedelta,
    received_at: datetime | None = None,
) -> AppendReport:
    """Store readings of one entity; see :func:`append_of_many`."""
    whose = np.zeros(len(readings.stream), dtype=np.int64)
    return append_of_many(
        connection,
        (entity_id,),
        whose,
        readings,
        catalogue,
        source=source,
        late_horizon=late_horizon,
        received_at=received_at,
    )


def append_of_many(  # noqa: PLR0913 - what, of whom, from where, and since when it is late
    connection: Connection,
    entities: Sequence[str],
    entity: IntArray,
    readings: Readings,
    catalogue: Catalogue,
    *,
    source: str,
    late_horizon: timedelta,
    received_at: datetime | None = None,
    months: set[datetime] | None = None,
) -> AppendReport:
    """Store readings of some entities, in the caller's transaction or one of its own.

    Outside of a transaction they are durable when this returns.

    Parameters
    ----------
    connection
        A connection to the database.
    entities
        Entities of the table ``entities``, each once.
    entity
        Position of each reading's entity among them, shape ``(n_readings,)``.
    readings
        Accepted readings, in any order. Of several with one stream and time the first stays.
    catalogue
        Names the streams.
    source
        Where they come from: a file's name, ``api``, a topic.
    late_horizon
        How far behind the aggregate a reading may be and still cause a replay.
    received_at
        When they arrived; default: the transaction's time.
    months
        Months whose partitions are known to be there; further ones are added.

    Returns
    -------
    AppendReport
        Of all of them together.

    Raises
    ------
    InputError
        If there is no such entity, a value is not finite, or a reading is older than those that
        retention has left of its entity.
    """
    count = len(readings.stream)
    if count == 0:
        return AppendReport()
    _require_finite(readings, catalogue)
    _ensure_months(connection, readings.microseconds, set() if months is None else months)
    oldest = _EPOCH + timedelta(microseconds=int(readings.microseconds.min()))
    stored, marking, late, known, dropped = connection.execute(
        _APPEND,
        {
            "entities": list(entities),
            "names": list(catalogue.stream_ids),
            "source": source,
            "received_at": received_at or datetime.now(tz=UTC),
            "late_horizon": late_horizon,
            "oldest": oldest,
            "entity": bulk.Int4Array(entity + 1),
            "time": bulk.TimestampArray(readings.microseconds),
            "code": bulk.Int4Array(readings.stream + 1),
            "value": bulk.Float8Array(readings.value),
        },
    ).fetchone() or (0, 0, 0, 0, 0)
    if known < len(entities):
        raise InputError(_unknown(connection, entities))
    if dropped:
        _require_kept(connection, entities, entity, readings)
    return AppendReport(stored, count - stored, marking, late)


def read_readings(
    connection: Connection, entity_id: str, windows: WindowRange, catalogue: Catalogue
) -> JournalReadings:
    """Load what the journal knows of a range of windows, ordered by nothing in particular."""
    streams = sql.SQL(
        "JOIN unnest(%(names)s::text[]) WITH ORDINALITY AS n (name, code) ON n.name = r.stream_id "
        "WHERE r.entity_id = %(entity_id)s AND r.event_time >= %(start)s AND r.event_time < %(end)s"
    )
    parameters = {"names": list(catalogue.stream_ids), **where(entity_id, windows)}
    found = bulk.fetch_columns(
        connection,
        sql.SQL(
            "SELECT r.event_time AS at, n.code::int4 AS code, r.value, r.late FROM readings AS r {}"
        ).format(streams),
        parameters,
        {"at": "time", "code": "i4", "value": "f8", "late": "b1"},
    )
    refused = bulk.fetch_columns(
        connection,
        # A wrong clock says nothing about the window it names.
        sql.SQL(
            "SELECT r.event_time AS at, n.code::int4 AS code FROM rejected_readings AS r {} "
            "AND r.reason <> %(future)s"
        ).format(streams),
        {**parameters, "future": RejectionReason.FUTURE_TIME},
        {"at": "time", "code": "i4"},
    )
    stream = found["code"].astype(np.int64) - 1
    late = found["late"]
    return JournalReadings(
        Readings(stream[~late], found["at"][~late], found["value"][~late]),
        ReadingTimes(stream[late], found["at"][late]),
        ReadingTimes(refused["code"].astype(np.int64) - 1, refused["at"]),
    )


def last_reading_before(
    connection: Connection, entity_id: str, moment: datetime
) -> datetime | None:
    """Return the time of the last aggregated reading before `moment`, or None."""
    row = connection.execute(
        "SELECT event_time FROM readings WHERE entity_id = %s AND event_time < %s AND NOT late "
        "ORDER BY event_time DESC LIMIT 1",
        (entity_id, moment),
    ).fetchone()
    if row is None:
        # Of what retention has dropped, the hours still say when.
        row = connection.execute(
            "SELECT last_event FROM readings_hourly WHERE entity_id = %s AND hour < %s "
            "AND last_event < %s AND late < readings ORDER BY last_event DESC LIMIT 1",
            (entity_id, moment, moment),
        ).fetchone()
    return None if row is None else row[0]


def close_windows(connection: Connection, entity_id: str, until: datetime) -> None:
    """Declare all windows before `until` aggregated: readings of theirs that still come are late.

    Waits for readings in flight. Never moves back. Call it before the readings are read.

    Raises
    ------
    InputError
        If there is no such entity, or `until` is no window boundary.
    """
    if window_of(until) != until:
        msg = f"{until.isoformat()} is not the start of a window; give a multiple of 5 minutes"
        raise InputError(msg)
    with connection.transaction():
        row = connection.execute(
            "SELECT aggregated_until FROM entities WHERE entity_id = %s FOR UPDATE", (entity_id,)
        ).fetchone()
        if row is None:
            raise InputError(_unknown(connection, [entity_id]))
        connection.execute(
            "UPDATE entities SET aggregated_until = greatest(aggregated_until, %s) "
            "WHERE entity_id = %s",
            (until, entity_id),
        )


def clear_late_windows(connection: Connection, entity_id: str, windows: WindowRange) -> int:
    """Note that the late readings of a range are being aggregated; returns how many windows.

    Call it in the transaction that aggregates, before the readings are read: a kill then leaves the
    marks as they are, and a reading that arrives meanwhile marks its window again. The windows stay
    marked, without readings, until :func:`forget_late_windows`: the scores are not replayed yet.
    """
    return connection.execute(
        "UPDATE late_windows SET readings = 0 WHERE entity_id = %(entity_id)s "
        'AND "window" >= %(start)s AND "window" < %(end)s AND readings > 0',
        where(entity_id, windows),
    ).rowcount


def mark_for_replay(connection: Connection, entity_id: str, window: datetime) -> None:
    """Mark a window without late readings: whatever happens, it and those after it are replayed."""
    connection.execute(
        'INSERT INTO late_windows (entity_id, "window", readings) VALUES (%s, %s, 0) '
        "ON CONFLICT DO NOTHING",
        (entity_id, window),
    )


def forget_late_windows(
    connection: Connection, windows: WindowRange, entity_id: str | None = None
) -> int:
    """Take back the marks of a range whose replay has come to its end; returns how many.

    Windows that further late readings have marked meanwhile keep their marks. Without an entity,
    the replay was everybody's.
    """
    return connection.execute(
        'DELETE FROM late_windows WHERE "window" >= %s AND "window" < %s AND readings = 0 '
        "AND entity_id = coalesce(%s, entity_id)",
        (windows.start_time, windows.end_time, entity_id),
    ).rowcount


def reopen(connection: Connection, entity_id: str, since: datetime) -> int:
    """Take readings from `since` on that came beyond the horizon into the aggregate after all.

    Their windows are marked like those of any late reading, and the entity's history begins with
    the first of them if that is earlier. Returns the number of readings.
    """
    with connection.transaction():
        connection.execute("SELECT 1 FROM entities WHERE entity_id = %s FOR UPDATE", (entity_id,))
        row = connection.execute(
            "WITH taken AS (UPDATE readings SET late = false WHERE entity_id = %(entity_id)s "
            "AND event_time >= %(since)s AND late RETURNING event_time), "
            'marked AS (INSERT INTO late_windows AS l (entity_id, "window", readings) '
            "SELECT %(entity_id)s, date_bin('5 minutes', event_time, '1970-01-01T00:00:00Z'), "
            "count(*) FROM taken GROUP BY 2 ORDER BY 2 "
            'ON CONFLICT (entity_id, "window") DO UPDATE SET readings = l.readings + '
            "excluded.readings) SELECT count(*), min(event_time) FROM taken",
            {"entity_id": entity_id, "since": since},
        ).fetchone() or (0, None)
        if row[1] is not None:
            connection.execute(
                "UPDATE entities SET first_window = least(first_window, %s) WHERE entity_id = %s",
                (window_of(row[1]), entity_id),
            )
    return int(row[0])


def _require_finite(readings: Readings, catalogue: Catalogue) -> None:
    finite = np.isfinite(readings.value)
    if not finite.all():
        worst = int(np.argmin(finite))
        msg = (
            f"stream {catalogue.stream_ids[int(readings.stream[worst])]!r}: reading {worst} is "
            f"{readings.value[worst]}; only finite numbers go into the journal, reject it before"
        )
        raise InputError(msg)


def _ensure_months(connection: Connection, microseconds: IntArray, known: set[datetime]) -> None:
    missing = [month for month in _months_of(microseconds) if month not in known]
    if missing:
        ensure_months(connection, missing)
        known.update(missing)


def _months_of(microseconds: IntArray) -> list[datetime]:
    months = np.unique(microseconds.astype("datetime64[us]").astype("datetime64[M]"))
    return [datetime(month.year, month.month, 1, tzinfo=UTC) for month in months.tolist()]


def _require_kept(
    connection: Connection, entities: Sequence[str], entity: IntArray, readings: Readings
) -> None:
    limits = raw_limits(connection)
    for position, entity_id in enumerate(entities):
        limit = limits.get(entity_id)
        mine = readings.microseconds[entity == position]
        if limit is not None and (mine < (limit - _EPOCH) // timedelta(microseconds=1)).any():
            msg = (
                f"entity {entity_id!r}: readings before {limit:%Y-%m-%d %H:%M} UTC have just been "
                "aggregated by the hour and dropped; send them again, to have the others taken in"
            )
            raise InputError(msg)


def _unknown(connection: Connection, entities: Sequence[str]) -> str:
    found = connection.execute(
        "SELECT entity_id FROM entities WHERE entity_id = ANY(%s)", (list(entities),)
    ).fetchall()
    entity_id = next(iter(set(entities) - {row[0] for row in found}), entities[0])
    return f"no entity {entity_id!r}; make it with ensure_entity, or by ingesting a file of it"
