"""Which streams are there, which are silent, and how well each is known."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from .panels import HIGH_IS_GOOD, board, choice, listing, one_value, over_time, rows, series, states

_ENTITY = "entity_id IN (${entity:sqlstring})"
_STREAM = "stream_id IN (${stream:sqlstring})"
_CHOSEN = f"{_ENTITY} AND {_STREAM} AND $__timeFilter(timestamp)"
#: Lines are of a stream, and of an entity's stream where several entities are chosen.
_NAME = """CASE WHEN (SELECT count(*) FROM entities WHERE entity_id IN (${entity:sqlstring})) > 1
    THEN entity_id || ' ' || stream_id ELSE stream_id END"""


def streams() -> dashboard.Dashboard:
    """Return the dashboard of availability, silence, health and accuracy."""
    made = (
        board("anomaly-assets-streams", "Streams", "Availability, silences, health, accuracy.")
        .with_variable(
            choice(
                "entity", "Entity", "SELECT entity_id FROM entities ORDER BY last_reading_at DESC"
            )
        )
        .with_variable(
            choice(
                "stream",
                "Stream",
                f"""
                SELECT DISTINCT stream_id FROM stream_health
                WHERE {_ENTITY} AND timestamp > now() - interval '2 days' ORDER BY stream_id
                """,
            )
        )
    )
    for part in (_now, _availability, _silences, _health, _accuracy, _values):
        made = part(made)
    return made


def _now(made: dashboard.Dashboard) -> dashboard.Dashboard:
    newest = f"""
        FROM time_series_data AS t JOIN (SELECT entity_id, max(timestamp) AS last
            FROM time_series_data WHERE {_ENTITY} AND $__timeFilter(timestamp)
            GROUP BY entity_id) AS n USING (entity_id)
        WHERE t.timestamp = n.last AND {_STREAM} AND $__timeFilter(t.timestamp)
    """
    made = made.with_row(dashboard.Row("Newest window"))
    for panel in (
        one_value(
            "Streams available",
            rows(f"SELECT count(t.value) AS streams {newest}"),
            width=6,
        ),
        one_value(
            "Share available",
            rows(f"SELECT avg((NOT t.is_missing)::int)::float8 AS share {newest}"),
            unit="percentunit",
            steps=HIGH_IS_GOOD,
            width=6,
        ),
        one_value(
            "Longest silence",
            rows(
                f"""
                SELECT 300 * max(consecutive_missing) AS seconds FROM (
                    SELECT DISTINCT ON (entity_id, stream_id) consecutive_missing
                    FROM stream_health WHERE {_CHOSEN}
                    ORDER BY entity_id, stream_id, timestamp DESC) AS newest
                """
            ),
            unit="s",
            width=6,
            about="As of the last full hour, or of the beginning of the silence.",
        ),
        one_value(
            "To be rebuilt",
            rows(
                f"""
                SELECT count(*) FILTER (WHERE needs_retraining) AS streams FROM (
                    SELECT DISTINCT ON (entity_id, stream_id) needs_retraining
                    FROM stream_health WHERE {_CHOSEN}
                    ORDER BY entity_id, stream_id, timestamp DESC) AS newest
                """
            ),
            width=6,
            about="Streams whose models call for retraining.",
        ),
    ):
        made = made.with_panel(panel)
    return made


def _availability(made: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        made.with_row(dashboard.Row("Availability"))
        .with_panel(
            states(
                "Streams over time",
                series(
                    f"""
                    SELECT $__timeGroup(timestamp, $__interval) AS "time", {_NAME} AS metric,
                        avg((NOT is_missing)::int)::float8 AS available
                    FROM time_series_data WHERE {_CHOSEN} GROUP BY 1, 2 ORDER BY 1, 2
                    """
                ),
                steps=[(None, "red"), (0.5, "#EAB839"), (0.999, "green")],
                about="Green: a value in every window; red: in none.",
            )
        )
        .with_panel(
            over_time(
                "Share of streams available",
                [
                    series(
                        f"""
                        SELECT $__timeGroup(timestamp, $__interval) AS "time",
                            entity_id AS metric, avg((NOT is_missing)::int)::float8 AS available
                        FROM time_series_data WHERE {_CHOSEN} GROUP BY 1, 2 ORDER BY 1, 2
                        """
                    )
                ],
                unit="percentunit",
                share=True,
                steps=[(None, "red"), (0.7, "transparent")],
            )
        )
    )


def _silences(made: dashboard.Dashboard) -> dashboard.Dashboard:
    return made.with_panel(
        over_time(
            "Why values are missing",
            [
                series(
                    f"""
                        SELECT $__timeGroup(timestamp, $__interval) AS "time",
                            missing_reason AS metric, count(*) AS windows
                        FROM time_series_data WHERE is_missing AND {_CHOSEN}
                        GROUP BY 1, 2 ORDER BY 1, 2
                        """
                )
            ],
            stacked=True,
            about="Streams times windows.",
        )
    ).with_panel(
        over_time(
            "Silence",
            [
                series(
                    f"""
                        SELECT timestamp AS "time", {_NAME} AS metric,
                            300 * consecutive_missing AS silent
                        FROM stream_health WHERE {_CHOSEN} ORDER BY 1, 2
                        """
                )
            ],
            unit="s",
            width=24,
            points=True,
        )
    )


def _health(made: dashboard.Dashboard) -> dashboard.Dashboard:
    return made.with_row(dashboard.Row("Health")).with_panel(
        listing(
            "Newest health",
            rows(
                f"""
                    SELECT DISTINCT ON (entity_id, stream_id) entity_id AS entity,
                        stream_id AS stream, timestamp AS "as of",
                        availability_score AS availability, 300 * consecutive_missing AS silent,
                        gap_class AS gap, nullif(accuracy, 'NaN') AS accuracy,
                        health_score AS health, predictable, needs_retraining AS "to be rebuilt"
                    FROM stream_health WHERE {_CHOSEN}
                    ORDER BY entity_id, stream_id, timestamp DESC
                    """
            ),
            height=12,
            units={
                "availability": "percentunit",
                "accuracy": "percentunit",
                "health": "percentunit",
                "silent": "s",
            },
            coloured={
                "availability": [(None, "red"), (0.5, "#EAB839"), (0.8, "green")],
                "accuracy": [(None, "red"), (0.8, "green")],
                "health": [(None, "red"), (0.5, "#EAB839"), (0.8, "green")],
            },
        )
    )


def _accuracy(made: dashboard.Dashboard) -> dashboard.Dashboard:
    return made.with_panel(
        over_time(
            "Accuracy of the models",
            [
                series(
                    f"""
                        SELECT timestamp AS "time", {_NAME} AS metric,
                            nullif(accuracy, 'NaN') AS accuracy
                        FROM stream_health WHERE {_CHOSEN} ORDER BY 1, 2
                        """
                )
            ],
            unit="percentunit",
            share=True,
            steps=[(None, "red"), (0.8, "transparent")],
            about="Share of readings within the interval of their forecast.",
        )
    ).with_panel(
        over_time(
            "Health",
            [
                series(
                    f"""
                        SELECT timestamp AS "time", {_NAME} AS metric, health_score AS health
                        FROM stream_health WHERE {_CHOSEN} ORDER BY 1, 2
                        """
                )
            ],
            unit="percentunit",
            share=True,
        )
    )


def _values(made: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        made.with_row(dashboard.Row("Values"))
        .with_panel(
            over_time(
                "Values",
                [
                    series(
                        f"""
                        SELECT $__timeGroup(timestamp, $__interval) AS "time", {_NAME} AS metric,
                            avg(value) AS value
                        FROM time_series_data WHERE {_CHOSEN} GROUP BY 1, 2 ORDER BY 1, 2
                        """
                    )
                ],
                about="Choose one stream above, and hold it against what was expected.",
            )
        )
        .with_panel(
            over_time(
                "Expected",
                [
                    series(
                        f"""
                        SELECT $__timeGroup(timestamp, $__interval) AS "time", {_NAME} AS metric,
                            avg(nullif(expected, 'NaN')) AS expected
                        FROM anomaly_scores
                        WHERE method = 'river_individual' AND {_CHOSEN}
                        GROUP BY 1, 2 ORDER BY 1, 2
                        """
                    )
                ],
            )
        )
    )
