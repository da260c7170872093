"""The journal of many entities at once, for runs that take many of them over a short range.

Each function does for several entities, in one statement, what its namesake in
:mod:`anomaly_assets.storage.journal` does for one.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from psycopg import sql

from anomaly_assets.storage import bulk
from anomaly_assets.storage.identifiers import RejectionReason
from anomaly_assets.storage.journal import JournalReadings
from anomaly_assets.streams.aggregation import Readings, ReadingTimes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from anomaly_assets.storage.database import Connection
    from anomaly_assets.streams.catalogue import Catalogue
    from anomaly_assets.streams.windows import IntArray, WindowRange

_OF_MANY = sql.SQL(
    "JOIN unnest(%(names)s::text[]) WITH ORDINALITY AS n (name, code) ON n.name = r.stream_id "
    "JOIN unnest(%(entities)s::text[]) WITH ORDINALITY AS o (entity_id, place) USING (entity_id) "
    "WHERE r.entity_id = ANY(%(entities)s) "
    "AND r.event_time >= %(start)s AND r.event_time < %(end)s"
)


def close_windows_of_many(connection: Connection, entities: Sequence[str], until: datetime) -> None:
    """Declare all windows of some entities before `until` aggregated."""
    with connection.transaction():
        # In one order, and by itself: an update locks rows as it finds them.
        connection.execute(
            "SELECT 1 FROM entities WHERE entity_id = ANY(%s) ORDER BY entity_id FOR UPDATE",
            (list(entities),),
        )
        connection.execute(
            "UPDATE entities SET aggregated_until = greatest(aggregated_until, %s) "
            "WHERE entity_id = ANY(%s)",
            (until, list(entities)),
        )


def clear_late_windows_of_many(
    connection: Connection, entities: Sequence[str], windows: WindowRange
) -> int:
    """Note that the late readings of a range are being aggregated; returns how many windows."""
    return connection.execute(
        "UPDATE late_windows SET readings = 0 WHERE entity_id = ANY(%s) "
        'AND "window" >= %s AND "window" < %s AND readings > 0',
        (list(entities), windows.start_time, windows.end_time),
    ).rowcount


def forget_late_windows_of_many(
    connection: Connection, entities: Sequence[str], windows: WindowRange
) -> int:
    """Take back the marks of a range whose replay has come to its end; returns how many."""
    return connection.execute(
        'DELETE FROM late_windows WHERE entity_id = ANY(%s) AND "window" >= %s AND "window" < %s '
        "AND readings = 0",
        (list(entities), windows.start_time, windows.end_time),
    ).rowcount


def read_readings_of_many(
    connection: Connection, entities: Sequence[str], windows: WindowRange, catalogue: Catalogue
) -> list[JournalReadings]:
    """Load what the journal knows of a range of windows, for each entity of one catalogue."""
    parameters: dict[str, Any] = {
        "names": list(catalogue.stream_ids),
        "entities": list(entities),
        "start": windows.start_time,
        "end": windows.end_time,
    }
    dtypes = {"whose": "i4", "at": "time", "code": "i4"}
    columns = sql.SQL("o.place::int4 AS whose, r.event_time AS at, n.code::int4 AS code")
    found = bulk.fetch_columns(
        connection,
        sql.SQL("SELECT {}, r.value, r.late FROM readings AS r {}").format(columns, _OF_MANY),
        parameters,
        {**dtypes, "value": "f8", "late": "b1"},
    )
    refused = bulk.fetch_columns(
        connection,
        # A wrong clock says nothing about the window it names.
        sql.SQL("SELECT {} FROM rejected_readings AS r {} AND r.reason <> %(future)s").format(
            columns, _OF_MANY
        ),
        {**parameters, "future": RejectionReason.FUTURE_TIME},
        dtypes,
    )
    told = []
    for rows, rejected in zip(
        _rows_of_each(found["whose"], len(entities)),
        _rows_of_each(refused["whose"], len(entities)),
        strict=True,
    ):
        late = found["late"][rows]
        stream = found["code"][rows].astype(np.int64) - 1
        at, value = found["at"][rows], found["value"][rows]
        told.append(
            JournalReadings(
                Readings(stream[~late], at[~late], value[~late]),
                ReadingTimes(stream[late], at[late]),
                ReadingTimes(
                    refused["code"][rejected].astype(np.int64) - 1, refused["at"][rejected]
                ),
            )
        )
    return told


def last_readings_before(
    connection: Connection, entities: Sequence[str], moment: datetime
) -> dict[str, datetime]:
    """Return the time of each entity's last aggregated reading before `moment`, if any."""
    rows = connection.execute(
        "SELECT o.entity_id, r.event_time FROM unnest(%s::text[]) AS o (entity_id), "
        "LATERAL (SELECT event_time FROM readings WHERE entity_id = o.entity_id "
        "AND event_time < %s AND NOT late ORDER BY event_time DESC LIMIT 1) AS r",
        (list(entities), moment),
    ).fetchall()
    return dict(rows)


def _rows_of_each(whose: IntArray, count: int) -> list[IntArray]:
    """Return the rows of each entity, numbered from 1, in the order they have."""
    order = np.argsort(whose, kind="stable")
    edges = np.searchsorted(whose[order], np.arange(1, count + 2))
    return [order[first:last] for first, last in pairwise(edges.tolist())]
