"""The daily report: one day for each entity, as Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anomaly_assets.storage.queries import top_anomalies

if TYPE_CHECKING:
    from datetime import datetime

    import psycopg

    from anomaly_assets.pipeline.deployment import Deployment

    Connection = psycopg.Connection[Any]

_BEST = 3


@dataclass(frozen=True)
class DailyReport:
    """A day's report.

    Parameters
    ----------
    markdown
        For people.
    entities, windows, anomalous
        Entities and windows with a final score, and windows above the threshold.
    """

    markdown: str
    entities: int
    windows: int
    anomalous: int


def report_of_day(deployment: Deployment, start: datetime, end: datetime) -> DailyReport:
    """Write the report of the windows in ``[start, end)``."""
    threshold = deployment.settings.explanation_threshold
    lines = [f"# {start:%A, %d %B %Y} (UTC)", ""]
    windows = anomalous = 0
    with deployment.database.connect() as connection:
        days = connection.execute(
            "SELECT entity_id, count(*), count(*) FILTER (WHERE anomaly_score > %s), "
            "max(anomaly_score), avg(confidence) FROM anomaly_scores WHERE method = 'ensemble' "
            "AND timestamp >= %s AND timestamp < %s GROUP BY entity_id ORDER BY entity_id",
            (threshold, start, end),
        ).fetchall()
        for entity_id, n_windows, n_anomalous, peak, coverage in days:
            windows += n_windows
            anomalous += n_anomalous
            lines += [
                f"## {entity_id}",
                "",
                f"- {n_windows} windows, {coverage or 0:.0%} of the streams observed",
                f"- {n_anomalous} windows above {threshold:g}"
                + (f", highest score {peak:.2f}" if peak is not None else ""),
                *_explanations(connection, entity_id, start, end, threshold),
                *_unhealthy(connection, entity_id, start, end),
                "",
            ]
    if not days:
        lines.append("No windows were processed on this day.")
    return DailyReport("\n".join(lines), len(days), windows, anomalous)


def _explanations(
    connection: Connection, entity_id: str, start: datetime, end: datetime, threshold: float
) -> list[str]:
    found = top_anomalies(
        connection, entity_id=entity_id, since=start, until=end, min_score=threshold, limit=_BEST
    )
    return [
        f"- {row.episode_start:%H:%M}: {row.summary} *{row.recommended_action}*"
        for row in found
        if row.summary is not None
    ]


def _unhealthy(connection: Connection, entity_id: str, start: datetime, end: datetime) -> list[str]:
    rows = connection.execute(
        "SELECT DISTINCT ON (stream_id) stream_id, needs_retraining, predictable "
        "FROM stream_health WHERE entity_id = %s AND timestamp >= %s AND timestamp < %s "
        "ORDER BY stream_id, timestamp DESC",
        (entity_id, start, end),
    ).fetchall()
    silent = [stream for stream, _, predictable in rows if not predictable]
    retrain = [stream for stream, needs, _ in rows if needs]
    lines = []
    if silent:
        lines.append(f"- too little data to be scored at the day's end: {', '.join(silent)}")
    if retrain:
        lines.append(f"- needs retraining: {', '.join(retrain)}")
    return lines
