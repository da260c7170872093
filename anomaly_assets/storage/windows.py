"""Which windows an entity has, and who may write them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowRange

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    import psycopg

    from anomaly_assets.streams.catalogue import Catalogue
    from anomaly_assets.streams.windows import IntArray

    Connection = psycopg.Connection[Any]


def stored_ranges(
    connection: Connection, entity_id: str, windows: WindowRange
) -> list[WindowRange]:
    """Return the windows that `time_series_data` holds, as contiguous ranges in order."""
    row = connection.execute(
        "SELECT coalesce(array_agg(second ORDER BY second), '{}') FROM ("
        "SELECT DISTINCT extract(epoch FROM timestamp)::bigint AS second FROM time_series_data "
        "WHERE entity_id = %s AND timestamp >= %s AND timestamp < %s) AS stored",
        (entity_id, windows.start_time, windows.end_time),
    ).fetchone()
    return _contiguous(row[0] if row else [])


def stored_ranges_of_many(
    connection: Connection, entities: Sequence[str], windows: WindowRange
) -> dict[str, list[WindowRange]]:
    """Return the same of several entities, by identifier; those without any are left out."""
    rows = connection.execute(
        "SELECT entity_id, array_agg(DISTINCT extract(epoch FROM timestamp)::bigint) "
        "FROM time_series_data WHERE entity_id = ANY(%s) AND timestamp >= %s AND timestamp < %s "
        "GROUP BY entity_id",
        (list(entities), windows.start_time, windows.end_time),
    ).fetchall()
    return {entity_id: _contiguous(starts) for entity_id, starts in rows}


def missing_counts(
    connection: Connection, entity_id: str, at: datetime, catalogue: Catalogue
) -> IntArray:
    """Return how many windows in a row each stream had been missing after the window at `at`.

    Returns
    -------
    numpy.ndarray
        Shape ``(n_streams,)``; 0 where `stream_health` has no row of that window.
    """
    rows = connection.execute(
        "SELECT stream_id, consecutive_missing FROM stream_health "
        "WHERE entity_id = %s AND timestamp = %s",
        (entity_id, at),
    ).fetchall()
    known = dict(rows)
    return np.array([known.get(stream, 0) for stream in catalogue.stream_ids], dtype=np.int64)


def lock_entities(connection: Connection, entities: Sequence[str], component: str) -> None:
    """Take the right to write one component of several entities until the transaction ends.

    It is the right that :func:`entity_lock` gives. Taken in one order, so that two who want several
    of the same do not wait for each other for ever.
    """
    connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended(name, 0)) "
        "FROM unnest(%s::text[]) WITH ORDINALITY AS names (name, place) ORDER BY place",
        ([_lock_name(entity_id, component) for entity_id in sorted(entities)],),
    )


@contextmanager
def entity_lock(connection: Connection, entity_id: str, component: str) -> Iterator[None]:
    """Hold the right to write one component of one entity; a second writer waits for it.

    The lock belongs to the session, so it ends with a killed process.
    """
    name = _lock_name(entity_id, component)
    connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (name,))
    try:
        yield
    finally:
        connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", (name,))


def _lock_name(entity_id: str, component: str) -> str:
    return f"{component}\x1f{entity_id}"


def _contiguous(seconds: Sequence[int]) -> list[WindowRange]:
    starts = np.sort(np.asarray(seconds, dtype=np.int64))
    if starts.size == 0:
        return []
    runs = np.split(starts, np.flatnonzero(np.diff(starts) != WINDOW_SECONDS) + 1)
    return [WindowRange(int(run[0]), int(run[-1]) + WINDOW_SECONDS) for run in runs]
