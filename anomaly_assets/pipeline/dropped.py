"""What is still possible once retention has dropped readings.

Scores and states are rebuilt from ``time_series_data``, which stays. Windows themselves, and the
minutes that explanations look at, are made of readings: where those are gone, they stay as stored.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from anomaly_assets.errors import RetentionError
from anomaly_assets.storage import journal
from anomaly_assets.storage.entities import find_entity
from anomaly_assets.streams.aggregation import lookback_windows
from anomaly_assets.streams.windows import WINDOW_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

    from anomaly_assets.pipeline.deployment import Deployment, Entity
    from anomaly_assets.streams.windows import WindowRange

    Connection = psycopg.Connection[Any]

logger = logging.getLogger(__name__)

#: An hour whose readings have been dropped, without a window made of them.
_UNMADE: Final = """
SELECT h.hour FROM readings_hourly AS h WHERE h.entity_id = %(entity)s
AND h.hour >= date_trunc('hour', %(start)s::timestamptz) AND h.hour < %(end)s
AND h.late < h.readings AND NOT EXISTS (SELECT FROM time_series_data AS t
WHERE t.entity_id = h.entity_id AND t.timestamp >= h.hour
AND t.timestamp < h.hour + interval '1 hour') ORDER BY h.hour LIMIT 1
"""


def readable_from(connection: Connection, entity: Entity, windows_before: int = 0) -> int | None:
    """Return the first window that can be made of an entity's readings.

    Parameters
    ----------
    connection
        A connection to the database.
    entity
        Whose readings.
    windows_before
        How many windows before it must have their readings too; those that aggregation looks back
        to always must.

    Returns
    -------
    int or None
        Epoch seconds; None while none of its readings were dropped.
    """
    row = find_entity(connection, entity.entity_id)
    if row is None or row.raw_from is None:
        return None
    before = max(windows_before, lookback_windows(entity.catalogue))
    return _first_window(row.raw_from, before)


def with_readings(
    connection: Connection, entities: Sequence[Entity], windows: WindowRange
) -> list[Entity]:
    """Return those entities whose windows of a range can all be made of their readings."""
    rows = connection.execute(
        "SELECT entity_id, raw_from FROM entities "
        "WHERE entity_id = ANY(%s) AND raw_from IS NOT NULL",
        ([entity.entity_id for entity in entities],),
    )
    kept: dict[str, datetime] = dict(rows.fetchall())
    return [
        entity
        for entity in entities
        if entity.entity_id not in kept
        or _first_window(kept[entity.entity_id], lookback_windows(entity.catalogue))
        <= windows.start
    ]


def _first_window(kept_from: datetime, windows_before: int) -> int:
    kept = int(kept_from.timestamp())
    return -(-kept // WINDOW_SECONDS) * WINDOW_SECONDS + windows_before * WINDOW_SECONDS


def keep_as_stored(connection: Connection, entity: Entity, windows: WindowRange) -> None:
    """Leave windows as they are stored, whose readings have been dropped.

    Late readings of theirs no longer ask for a replay.

    Raises
    ------
    RetentionError
        If some are not stored although there were readings: they cannot be made any more.
    """
    row = connection.execute(
        _UNMADE,
        {"entity": entity.entity_id, "start": windows.start_time, "end": windows.end_time},
    ).fetchone()
    if row is not None:
        msg = (
            f"entity {entity.entity_id!r}: windows from {row[0]:%Y-%m-%d %H:%M} UTC on are not "
            f"stored, and the readings before {windows.end_time:%Y-%m-%d %H:%M} UTC that they were "
            "made of have been dropped (ANOMALY_ASSETS_RAW_MONTHS); restore time_series_data from "
            "a backup, or begin there"
        )
        raise RetentionError(msg)
    with connection.transaction():
        ignored = journal.clear_late_windows(connection, entity.entity_id, windows)
    logger.info(
        "entity %r: windows before %s stay as they are stored, for their readings were dropped; "
        "%d with late readings among them",
        entity.entity_id,
        windows.end_time.isoformat(),
        ignored,
    )


def require_readings(deployment: Deployment, start: datetime) -> None:
    """Make sure that every entity's windows from `start` on can be made of readings again.

    Raises
    ------
    RetentionError
        If retention has dropped some of them; the message names the entity and the first window.
    """
    with deployment.database.connect() as connection:
        for entity in deployment.entities():
            since = readable_from(connection, entity)
            first = entity.first_window
            if since is None or first is None or max(start.timestamp(), first) >= since:
                continue
            limit = datetime.fromtimestamp(since, tz=UTC)
            msg = (
                f"entity {entity.entity_id!r}: readings before {limit:%Y-%m-%d %H:%M} UTC have "
                "been aggregated by the hour and dropped (ANOMALY_ASSETS_RAW_MONTHS), so its "
                f"windows can be made anew from then on: --from {limit:%Y-%m-%dT%H:%M}; "
                "anomaly-assets backfill --from takes scores before that anew, from stored windows"
            )
            raise RetentionError(msg)
