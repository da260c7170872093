"""What is stored of windows that the live path has spoken about."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from anomaly_assets.live.decisions import stored_decisions
from anomaly_assets.live.outcomes import Scores
from anomaly_assets.storage import results
from anomaly_assets.storage.grids import where
from anomaly_assets.storage.identifiers import ENTITY_ROW, Method, RejectionReason
from anomaly_assets.storage.model_actions import last_change
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowRange

if TYPE_CHECKING:
    from collections.abc import Mapping

    import psycopg

    from anomaly_assets.live.decisions import Decision
    from anomaly_assets.live.outcomes import Outcome
    from anomaly_assets.storage.database import Database
    from anomaly_assets.streams.catalogue import Catalogue
    from anomaly_assets.streams.windows import FloatArray

    Connection = psycopg.Connection[Any]

#: A final score counts once it is younger than its window's values: the tiers between them are then
#: those of the same run. It does not while readings wait to be aggregated, of its window or of one
#: before: it lacks them, and a replay will write it anew. Row versions tell a window that was
#: computed again from one seen before.
_WRITTEN = """
SELECT s.entity_id, extract(epoch FROM s.timestamp)::bigint, s.xmin::text
FROM unnest(%(entities)s::text[], %(since)s::bigint[]) AS w (entity_id, since)
JOIN anomaly_scores AS s ON s.entity_id = w.entity_id AND s.timestamp >= to_timestamp(w.since)
AND s.stream_id = %(row)s AND s.method = %(method)s
CROSS JOIN LATERAL (SELECT t.xmin AS written FROM time_series_data AS t
WHERE t.entity_id = s.entity_id AND t.timestamp = s.timestamp LIMIT 1) AS t
WHERE age(s.xmin) <= age(t.written) AND NOT EXISTS (SELECT FROM late_windows AS l
WHERE l.entity_id = s.entity_id AND l."window" <= s.timestamp AND l.readings > 0)
"""
_BY_WINDOW = (
    "SELECT extract(epoch FROM date_bin('5 minutes', event_time, '1970-01-01T00:00:00Z'))::bigint"
)


@dataclass(frozen=True)
class StoredWindow:
    """The stored scores of a window.

    Parameters
    ----------
    entity_id, window
        Whose, and its start in epoch seconds.
    version
        Tells this version of the row from an earlier one.
    scores, values, gap
        What is stored, as in :class:`~anomaly_assets.live.outcomes.Outcome`.
    decision
        What feedback made of it; None where none was in force, or nothing called.
    """

    entity_id: str
    window: int
    version: str
    scores: Scores
    values: FloatArray
    gap: float
    decision: Decision | None = None


def read_stored(
    database: Database,
    wanted: Mapping[str, Mapping[int, str | None]],
    catalogues: Mapping[str, Catalogue],
) -> list[StoredWindow]:
    """Return stored windows in a version that has not been seen, by entity and in order.

    Parameters
    ----------
    database
        Where they are stored.
    wanted
        By entity and window, the version seen last.
    catalogues
        By entity.
    """
    asked = {entity_id: min(windows) for entity_id, windows in wanted.items() if windows}
    if not asked:
        return []
    found: list[StoredWindow] = []
    with database.connect() as connection, connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        rows = connection.execute(
            _WRITTEN,
            {
                "entities": list(asked),
                "since": list(asked.values()),
                "row": ENTITY_ROW,
                "method": Method.ENSEMBLE,
            },
        ).fetchall()
        news: dict[str, list[tuple[int, str]]] = {}
        for entity_id, window, version in rows:
            seen = wanted[entity_id]
            if window in seen and seen[window] != version:
                news.setdefault(entity_id, []).append((window, version))
        for entity_id, windows in sorted(news.items()):
            found += _read(connection, entity_id, sorted(windows), catalogues[entity_id])
    return found


def _read(
    connection: Connection, entity_id: str, windows: list[tuple[int, str]], catalogue: Catalogue
) -> list[StoredWindow]:
    found = []
    for part in _contiguous(windows):
        span = WindowRange(part[0][0], part[-1][0] + WINDOW_SECONDS)
        # Of read_windows only the values count, which do not depend on the time zone.
        values = results.read_windows(connection, entity_id, span, catalogue, "UTC").values
        gaps = results.read_gaps(connection, entity_id, span, catalogue)
        individual = results.read_individual(connection, entity_id, span, catalogue)
        cross_stream = results.read_cross_stream(connection, entity_id, span, catalogue)
        final = results.read_ensemble(connection, entity_id, span)
        decided = stored_decisions(connection, entity_id, span)
        for row, (window, version) in enumerate(part):
            scores = Scores(
                float(final.score[row]),
                float(final.confidence[row]),
                float(cross_stream.score[row]),
                individual.score[row],
                individual.expected[row],
                individual.deviation[row],
            )
            gap = float(gaps.score[row])
            found.append(
                StoredWindow(
                    entity_id, window, version, scores, values[row], gap, decided.get(window)
                )
            )
    return found


def _contiguous(windows: list[tuple[int, str]]) -> list[list[tuple[int, str]]]:
    starts = np.array([window for window, _ in windows], dtype=np.int64)
    cuts = [0, *(np.flatnonzero(np.diff(starts) != WINDOW_SECONDS) + 1).tolist(), len(windows)]
    return [windows[a:b] for a, b in pairwise(cuts)]


def outdated(
    database: Database, entity_id: str, outcomes: list[Outcome], catalogue: Catalogue
) -> bool:
    """Whether the journal holds other readings of these windows than they were made of."""
    made = {o.window: (o.readings, o.rejected) for o in outcomes if o.readings is not None}
    if not made:
        return False
    windows = WindowRange(min(made), max(made) + WINDOW_SECONDS)
    with database.connect() as connection, connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        readings = _counts(connection, entity_id, windows, catalogue, rejected=False)
        rejected = _counts(connection, entity_id, windows, catalogue, rejected=True)
    return any(
        counts != (readings.get(window, 0), rejected.get(window, 0))
        for window, counts in made.items()
    )


def changed_since(database: Database, entity_id: str, action_id: int) -> bool:
    """Whether the models of an entity have been retrained, restored or rolled back since."""
    with database.connect() as connection:
        return last_change(connection, entity_id) > action_id


def _counts(
    connection: Connection,
    entity_id: str,
    windows: WindowRange,
    catalogue: Catalogue,
    *,
    rejected: bool,
) -> dict[int, int]:
    # What counts as a rejected or a late reading is the journal's business; see read_readings.
    counted = (
        "count(DISTINCT stream_id) FROM rejected_readings WHERE reason <> %(future)s"
        if rejected
        else "count(*) FROM readings WHERE NOT late"
    )
    rows = connection.execute(
        f"{_BY_WINDOW}, {counted} AND entity_id = %(entity_id)s AND event_time >= %(start)s "
        "AND event_time < %(end)s AND stream_id = ANY(%(streams)s) GROUP BY 1",
        {
            **where(entity_id, windows),
            "streams": list(catalogue.stream_ids),
            "future": RejectionReason.FUTURE_TIME,
        },
    ).fetchall()
    return dict(rows)
