"""How the anomalies of an entity went, minute by minute, from the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from anomaly_assets.detection.explanation.episodes import joined
from anomaly_assets.detection.explanation.events import (
    MINUTES_PER_WINDOW,
    find_excursions,
    robust_baseline,
    sequence_of,
)
from anomaly_assets.detection.explanation.facts import CatalogueFacts
from anomaly_assets.pipeline.minutes import read_minutes
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowRange

if TYPE_CHECKING:
    import psycopg

    from anomaly_assets.detection.explanation.events import EventSequence
    from anomaly_assets.pipeline.deployment import Entity

    Connection = psycopg.Connection[Any]

#: Windows before an anomaly that tell each stream's level, those just before it left out.
_CALM: Final = 12
#: Windows before and from the first anomalous one that belong to a course of events.
_BEFORE, _FROM = 3, 3
#: Anomalies that are looked at, the newest first: mining takes time, and habits change.
MOST: Final = 200


def anomalous_sequences(
    connection: Connection, entity: Entity, windows: WindowRange, threshold: float
) -> list[EventSequence]:
    """Return what happened around the beginning of each of the latest anomalies, in order.

    Parameters
    ----------
    connection
        A connection to the database.
    entity
        Whose anomalies.
    windows
        Where they begin.
    threshold
        A final score above this is one; neighbouring windows are the same one.
    """
    rows = connection.execute(
        "SELECT extract(epoch FROM timestamp)::bigint FROM anomaly_scores "
        "WHERE entity_id = %s AND timestamp >= %s AND timestamp < %s AND method = 'ensemble' "
        "AND anomaly_score > %s ORDER BY timestamp",
        (entity.entity_id, windows.start_time, windows.end_time, threshold),
    ).fetchall()
    starts = np.array([row[0] for row in rows], dtype=np.int64)
    first = [int(starts[part][0]) for part in joined(starts)][-MOST:]
    facts = CatalogueFacts.of(entity.catalogue)
    found = [_sequence(connection, entity, facts, start) for start in first]
    return [sequence for sequence in found if sequence.events]


def _sequence(
    connection: Connection, entity: Entity, facts: CatalogueFacts, start: int
) -> EventSequence:
    span = WindowRange(start - (_CALM + _BEFORE) * WINDOW_SECONDS, start + _FROM * WINDOW_SECONDS)
    minutes = read_minutes(connection, entity, span)
    # Counts are sent when there is something to count: silence is 0 while others speak.
    seen = np.isfinite(minutes)
    minutes[~seen & seen.any(axis=1, keepdims=True) & facts.counted] = 0.0
    unknown = np.full(minutes.shape[1], np.nan)
    calm = _CALM * MINUTES_PER_WINDOW
    level, scale = robust_baseline(minutes, calm, unknown, unknown)
    excursions = find_excursions(minutes, level, scale, facts.event_names, facts.hold)
    observed = np.isfinite(minutes[calm:]).any(axis=0) & (scale > 0.0)
    return sequence_of(excursions, observed, facts.event_names, (calm, len(minutes)))
