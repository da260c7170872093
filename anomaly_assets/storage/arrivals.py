"""When readings came, beside the times that they bear."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import numpy as np
from psycopg import sql

from anomaly_assets.detection.explanation.evidence import ArrivalRow
from anomaly_assets.storage import bulk
from anomaly_assets.storage.identifiers import RejectionReason

if TYPE_CHECKING:
    from anomaly_assets.storage.database import Connection
    from anomaly_assets.streams.catalogue import Catalogue

#: Minutes of arrivals that are looked at: an hour or two of a wrong clock beside what was usual.
ARRIVAL_MINUTES: Final = 7 * 60
#: How far an accepted reading's time may be off and still be found. The journal is ordered by the
#: times that readings bear, and time zones differ by up to a day; refused ones have no such limit.
_REACH: Final = timedelta(hours=24)

# The least lag of each stream, so that what waited does not speak for what came at once; then the
# middle one of the group, so that one odd sensor does not speak for its device.
_ARRIVALS = sql.SQL("""
SELECT minute, place, percentile_disc(0.5) WITHIN GROUP (ORDER BY lag) AS lag,
       sum(refused)::int8 AS refused
FROM (
    SELECT floor(extract(epoch FROM a.received_at - %(start)s) / 60)::int4 AS minute,
           g.place::int4 AS place, a.stream_id, sum(a.refused) AS refused,
           min(extract(epoch FROM a.received_at - a.event_time))::float8 AS lag
    FROM (
        SELECT stream_id, event_time, received_at, 0 AS refused FROM readings
        WHERE entity_id = %(entity_id)s AND event_time >= %(first)s AND event_time < %(last)s
          AND received_at >= %(start)s AND received_at < %(end)s
        UNION ALL
        SELECT stream_id, event_time, received_at, 1 AS refused FROM rejected_readings
        WHERE entity_id = %(entity_id)s AND event_time IS NOT NULL AND reason = ANY(%(reasons)s)
          AND received_at >= %(start)s AND received_at < %(end)s
    ) AS a
    JOIN unnest(%(names)s::text[], %(groups)s::int4[]) AS g (name, place) ON g.name = a.stream_id
    GROUP BY 1, 2, 3
) AS by_stream
GROUP BY 1, 2
""")


def read_arrivals(
    connection: Connection, entity_id: str, until: int, catalogue: Catalogue
) -> ArrivalRow:
    """Return how late the readings came that arrived in the hours before a moment.

    Nothing that arrived later has a part in it: whenever it is read, it is the same.

    Parameters
    ----------
    connection
        A connection to the database.
    entity_id
        Whose readings.
    until
        The moment, seconds since the epoch.
    catalogue
        Names the streams and their groups.

    Returns
    -------
    ArrivalRow
        Of :data:`ARRIVAL_MINUTES` minutes; accepted readings, and those refused for their time.
    """
    end = datetime.fromtimestamp(until, tz=UTC)
    start = end - timedelta(minutes=ARRIVAL_MINUTES)
    found = bulk.fetch_columns(
        connection,
        _ARRIVALS,
        {
            "entity_id": entity_id,
            "start": start,
            "end": end,
            "first": start - _REACH,
            "last": end + _REACH,
            "reasons": [str(RejectionReason.FUTURE_TIME), str(RejectionReason.WRONG_TIME)],
            "names": list(catalogue.stream_ids),
            "groups": catalogue.group_of_stream.tolist(),
        },
        {"minute": "i4", "place": "i4", "lag": "f8", "refused": "i8"},
    )
    lag = np.full((ARRIVAL_MINUTES, len(catalogue.groups)), np.nan)
    refused = np.zeros(lag.shape, dtype=np.int64)
    lag[found["minute"], found["place"]] = found["lag"]
    refused[found["minute"], found["place"]] = found["refused"]
    return ArrivalRow(lag, refused)
