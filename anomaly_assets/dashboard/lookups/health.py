"""How the streams of an entity are doing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from psycopg.rows import dict_row

from anomaly_assets.detection.explanation.wording import capitalised, stream_name
from anomaly_assets.streams.windows import WINDOW_SECONDS

if TYPE_CHECKING:
    from anomaly_assets.storage.database import Connection
    from anomaly_assets.streams.catalogue import Catalogue


@dataclass(frozen=True)
class StreamDoing:
    """A stream of an entity now; None where unknown.

    Parameters
    ----------
    stream_id, name, group, type, unit
        As of the catalogue.
    value, value_at
        Its newest value within a day of the last processed window, and the window's start.
    availability, health
        Shares in [0, 1].
    gap
        For how long it has been missing.
    gap_class
        What kind of gap that is.
    predictable, needs_retraining, accuracy
        As of the last hourly look.
    as_of
        When that was.
    """

    stream_id: str
    name: str
    group: str
    type: str
    unit: str
    value: float | None
    value_at: datetime | None
    availability: float | None
    health: float | None
    gap: timedelta | None
    gap_class: str | None
    predictable: bool | None
    needs_retraining: bool | None
    accuracy: float | None
    as_of: datetime | None


def stream_states(
    connection: Connection, entity_id: str, catalogue: Catalogue, until: datetime | None
) -> list[StreamDoing]:
    """Return how every stream of the catalogue is doing, in its order.

    Parameters
    ----------
    connection
        A connection to the database.
    entity_id, catalogue
        Whose streams.
    until
        End of the last processed window; None: there is none.
    """
    health: dict[str, dict[str, Any]] = {}
    values: dict[str, tuple[float, datetime]] = {}
    if until is not None:
        with connection.cursor(row_factory=dict_row) as cursor:
            for row in cursor.execute(
                "SELECT DISTINCT ON (stream_id) * FROM stream_health WHERE entity_id = %s "
                "AND timestamp >= %s AND timestamp < %s ORDER BY stream_id, timestamp DESC",
                (entity_id, until - timedelta(hours=3), until),
            ):
                health[row["stream_id"]] = row
        values = {
            stream: (value, at)
            for stream, value, at in connection.execute(
                "SELECT n.stream_id, t.value, t.timestamp FROM unnest(%s::text[]) AS n (stream_id) "
                "CROSS JOIN LATERAL (SELECT value, timestamp FROM time_series_data "
                "WHERE entity_id = %s AND stream_id = n.stream_id AND NOT is_missing "
                "AND timestamp >= %s AND timestamp < %s ORDER BY timestamp DESC LIMIT 1) AS t",
                (list(catalogue.stream_ids), entity_id, until - timedelta(hours=6), until),
            )
        }
    found = []
    for stream in catalogue.streams:
        row = health.get(stream.id, {})
        value, at = values.get(stream.id, (None, None))
        found.append(
            StreamDoing(
                stream_id=stream.id,
                name=capitalised(stream_name(stream)),
                group=stream.group,
                type=stream.type,
                unit=stream.unit,
                value=value,
                value_at=at,
                availability=row.get("availability_score"),
                health=row.get("health_score"),
                gap=_gap(row, at, until),
                gap_class=row.get("gap_class"),
                predictable=row.get("predictable"),
                needs_retraining=row.get("needs_retraining"),
                accuracy=row.get("accuracy"),
                as_of=row.get("timestamp"),
            )
        )
    return found


def _gap(row: dict[str, Any], at: datetime | None, until: datetime | None) -> timedelta | None:
    """Return how long a stream has been missing: the newest value knows better than the hour."""
    window = timedelta(seconds=WINDOW_SECONDS)
    if at is not None and until is not None:
        return until - at - window
    return row["consecutive_missing"] * window if row else None
