"""What the routes ask the tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg.rows import class_row, dict_row

from anomaly_assets.detection.explanation.triggers import FINAL_ABOVE
from anomaly_assets.live.cache import LatestScore
from anomaly_assets.storage.entities import EntityRow
from anomaly_assets.storage.identifiers import Method

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from anomaly_assets.storage.database import Connection


def explanation_of(connection: Connection, anomaly_id: UUID) -> tuple[str, dict[str, Any]] | None:
    """Return whose an explanation is, and its record; None if there is none."""
    row = connection.execute(
        "SELECT entity_id, record FROM causal_explanations WHERE anomaly_id = %s", (anomaly_id,)
    ).fetchone()
    return None if row is None else (row[0], row[1])


def known_entities(
    connection: Connection, *, entity_id: str | None, after: str, limit: int
) -> list[EntityRow]:
    """Return entities by identifier, those behind `after`; or only the one that is named."""
    with connection.cursor(row_factory=class_row(EntityRow)) as cursor:
        return cursor.execute(
            "SELECT entity_id, catalogue, time_zone, created_at, first_window, last_reading_at, "
            "aggregated_until, quarantined_reason, quarantined_at FROM entities "
            "WHERE entity_id > %(after)s AND (%(entity)s::text IS NULL OR entity_id = %(entity)s) "
            "ORDER BY entity_id LIMIT %(limit)s",
            {"after": after, "entity": entity_id, "limit": limit},
        ).fetchall()


def health_of(connection: Connection, entity_id: str) -> dict[str, dict[str, Any]]:
    """Return the newest health of an entity's streams, by stream."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            "SELECT DISTINCT ON (stream_id) stream_id, timestamp, availability_score, "
            "consecutive_missing, health_score FROM stream_health "
            "WHERE entity_id = %(entity)s AND timestamp > (SELECT max(timestamp) "
            "FROM stream_health WHERE entity_id = %(entity)s) - interval '2 hours' "
            "ORDER BY stream_id, timestamp DESC",
            {"entity": entity_id},
        ).fetchall()
    return {row["stream_id"]: row for row in rows}


def latest_scores(connection: Connection, names: Sequence[str]) -> dict[str, LatestScore]:
    """Return the newest stored score of each of these entities that has one."""
    rows = connection.execute(
        "SELECT n.entity_id, s.timestamp, s.anomaly_score, s.confidence "
        "FROM unnest(%(names)s::text[]) AS n (entity_id) CROSS JOIN LATERAL "
        "(SELECT timestamp, anomaly_score, confidence FROM anomaly_scores "
        "WHERE entity_id = n.entity_id AND method = %(method)s "
        "ORDER BY timestamp DESC LIMIT 1) AS s",
        {"names": list(names), "method": Method.ENSEMBLE},
    ).fetchall()
    return {
        name: LatestScore(
            name, at, score, confidence, is_anomaly=score is not None and score > FINAL_ABOVE
        )
        for name, at, score, confidence in rows
    }
