"""What metrics ask the database: a few bounded statements, none over more than the last day."""

from __future__ import annotations

from typing import Final

#: Answered at once, whatever there is: the database is up.
SIZE: Final = "SELECT pg_database_size(current_database())"

#: Those who reported within a day; all of them, or the first few.
_ALL: Final = """
WITH reporting AS MATERIALIZED (
    SELECT entity_id, aggregated_until, last_reading_at FROM entities
    WHERE last_reading_at > now() - interval '1 day'
),
"""
_FIRST: Final = """
WITH reporting AS MATERIALIZED (
    SELECT entity_id, aggregated_until, last_reading_at FROM entities
    WHERE last_reading_at > now() - interval '1 day'
    ORDER BY last_reading_at DESC, entity_id LIMIT %(most)s
),
"""
#: Their newest windows, and their last hours: an index is asked for each, none is read through.
_NEWEST: Final = """
newest AS MATERIALIZED (
    SELECT r.entity_id, t.streams, t.available FROM reporting AS r CROSS JOIN LATERAL (
        SELECT count(*) AS streams, count(*) FILTER (WHERE NOT is_missing) AS available
        FROM time_series_data WHERE entity_id = r.entity_id
            AND timestamp = r.aggregated_until - interval '5 minutes'
            AND timestamp > now() - interval '1 day') AS t
    WHERE t.streams > 0
),
hour AS MATERIALIZED (
    SELECT r.entity_id, s.windows, s.anomalous FROM reporting AS r CROSS JOIN LATERAL (
        SELECT count(*) AS windows,
            count(*) FILTER (WHERE anomaly_score > %(threshold)s) AS anomalous
        FROM anomaly_scores WHERE entity_id = r.entity_id AND method = 'ensemble'
            AND anomaly_score IS NOT NULL AND timestamp > now() - interval '1 hour') AS s
    WHERE s.windows > 0
)
"""

#: One row; the columns are those of :data:`TOTALS_COLUMNS`.
TOTALS: Final = (
    _ALL  # noqa: S608 - our own constants
    + _NEWEST
    + """
, health AS MATERIALIZED (
    SELECT h.* FROM reporting AS r CROSS JOIN LATERAL (
        SELECT DISTINCT ON (h.stream_id) h.accuracy, h.needs_retraining,
            CASE WHEN t.is_missing THEN 300 * h.consecutive_missing + extract(epoch
                FROM r.aggregated_until - interval '5 minutes' - h.timestamp) ELSE 0
                END AS missing
        FROM stream_health AS h
        LEFT JOIN time_series_data AS t ON t.entity_id = r.entity_id
            AND t.stream_id = h.stream_id AND t.timestamp > now() - interval '1 day'
            AND t.timestamp = r.aggregated_until - interval '5 minutes'
        WHERE h.entity_id = r.entity_id AND h.timestamp > now() - interval '2 days'
            AND h.timestamp > r.aggregated_until - interval '2 hours'
        ORDER BY h.stream_id, h.timestamp DESC) AS h
)
SELECT
    (SELECT count(*) FROM entities),
    (SELECT count(*) FROM reporting),
    (SELECT count(*) FROM entities WHERE quarantined_reason IS NOT NULL),
    (SELECT count(*) FROM newest WHERE available < %(available)s * streams),
    (SELECT count(*) FROM hour WHERE anomalous > %(anomaly_rate)s * 12),
    (SELECT sum(streams) FROM newest),
    (SELECT sum(available) FROM newest),
    (SELECT sum(available)::float8 / nullif(sum(streams), 0) FROM newest),
    (SELECT sum(anomalous)::float8 / nullif(sum(windows), 0) FROM hour),
    (SELECT (count(*) FILTER (WHERE verdict = 'false_alarm'))::float8 / nullif(count(*), 0)
        FROM labels WHERE undone_at IS NULL),
    (SELECT count(*) FROM labels WHERE undone_at IS NULL),
    (SELECT avg(accuracy) FROM health WHERE accuracy <> 'NaN'),
    (SELECT count(*) FROM health WHERE needs_retraining),
    (SELECT max(missing) FROM health),
    (SELECT greatest(0, floor(extract(epoch FROM now() - %(lateness)s::interval
        - min(aggregated_until)) / 300)) FROM reporting),
    (SELECT extract(epoch FROM now() - max(last_reading_at)) FROM entities),
    (SELECT count(*) FROM late_windows),
    (SELECT sum(j.n) FROM (SELECT entity_id FROM entities UNION ALL SELECT '') AS e
        CROSS JOIN LATERAL (SELECT count(*) AS n FROM rejected_readings
        WHERE entity_id = e.entity_id AND received_at > now() - interval '1 hour') AS j),
    (SELECT count(*) FROM alerts WHERE status IN ('pending', 'held', 'sending')),
    (SELECT percentile_cont(ARRAY[0, 0.05, 0.5]::float8[]) WITHIN GROUP
        (ORDER BY available::float8 / streams) FROM newest)
"""
)
TOTALS_COLUMNS: Final = (
    "entities",
    "entities_reporting",
    "entities_quarantined",
    "entities_few_streams",
    "entities_many_anomalies",
    "streams",
    "streams_available",
    "streams_available_ratio",
    "anomaly_rate_ratio",
    "false_positive_ratio",
    "labels",
    "model_accuracy_ratio",
    "streams_need_retraining",
    "missing_longest_seconds",
    "windows_behind",
    "newest_reading_age_seconds",
    "late_windows",
    "rejected_readings_1h",
    "open_alerts",
)
QUANTILES: Final = ("0", "0.05", "0.5")

#: A row for each entity that is named: identifier, then the columns of :data:`ENTITY_COLUMNS`.
ENTITIES: Final = (
    _FIRST  # noqa: S608 - our own constants
    + _NEWEST
    + """
SELECT e.entity_id, n.streams, n.available, h.anomalous::float8 / nullif(h.windows, 0),
    s.anomaly_score, f.share, extract(epoch FROM now() - e.aggregated_until)
FROM reporting AS e
LEFT JOIN newest AS n ON n.entity_id = e.entity_id
LEFT JOIN hour AS h ON h.entity_id = e.entity_id
LEFT JOIN LATERAL (SELECT anomaly_score FROM anomaly_scores WHERE entity_id = e.entity_id
    AND method = 'ensemble' AND timestamp > now() - interval '1 day'
    ORDER BY timestamp DESC LIMIT 1) AS s ON true
LEFT JOIN LATERAL (SELECT (count(*) FILTER (WHERE verdict = 'false_alarm'))::float8
    / nullif(count(*), 0) AS share FROM labels
    WHERE entity_id = e.entity_id AND undone_at IS NULL) AS f ON true
ORDER BY e.last_reading_at DESC, e.entity_id
"""
)
ENTITY_COLUMNS: Final = (
    "entity_streams",
    "entity_streams_available",
    "entity_anomaly_rate_ratio",
    "entity_score",
    "entity_false_positive_ratio",
    "entity_newest_window_age_seconds",
)

#: A row for each stream of these entities. Health is stored every hour and when a gap begins or
#: grows into another class: a stream that is missing now has been since its newest row at least.
STREAMS: Final = """
SELECT DISTINCT ON (h.entity_id, h.stream_id) h.entity_id, h.stream_id, h.availability_score,
    CASE WHEN t.is_missing THEN 300 * h.consecutive_missing + extract(epoch
        FROM e.aggregated_until - interval '5 minutes' - h.timestamp) ELSE 0 END,
    nullif(h.accuracy, 'NaN'), h.health_score
FROM entities AS e JOIN stream_health AS h ON h.entity_id = e.entity_id
    AND h.timestamp > e.aggregated_until - interval '2 hours'
LEFT JOIN time_series_data AS t ON t.entity_id = e.entity_id AND t.stream_id = h.stream_id
    AND t.timestamp = e.aggregated_until - interval '5 minutes'
    AND t.timestamp > now() - interval '1 day'
WHERE e.entity_id = ANY(%(names)s) AND h.timestamp > now() - interval '2 days'
ORDER BY h.entity_id, h.stream_id, h.timestamp DESC
"""
STREAM_COLUMNS: Final = (
    "stream_availability_ratio",
    "stream_missing_seconds",
    "stream_accuracy_ratio",
    "stream_health_ratio",
)

#: Of Dagster's own tables, whose times are in UTC without saying so.
HEARTBEATS: Final = """
SELECT daemon_type, extract(epoch FROM (now() AT TIME ZONE 'UTC') - max(timestamp))::float8
FROM daemon_heartbeats GROUP BY daemon_type ORDER BY daemon_type
"""
RUNS: Final = """
SELECT pipeline_name, status, count(*) FROM runs
WHERE create_timestamp > (now() AT TIME ZONE 'UTC') - interval '1 day'
GROUP BY pipeline_name, status ORDER BY pipeline_name, status
"""
SUCCESSES: Final = """
SELECT DISTINCT ON (pipeline_name) pipeline_name, end_time, end_time - start_time FROM runs
WHERE status = 'SUCCESS' AND end_time IS NOT NULL
    AND update_timestamp > (now() AT TIME ZONE 'UTC') - interval '2 days'
ORDER BY pipeline_name, end_time DESC
"""
FAILURES: Final = """
SELECT
    (SELECT count(*) FROM (SELECT DISTINCT ON (asset_key, check_name) execution_status
        FROM asset_check_executions
        WHERE create_timestamp > (now() AT TIME ZONE 'UTC') - interval '1 day'
        ORDER BY asset_key, check_name, id DESC) AS newest WHERE execution_status = 'FAILED'),
    (SELECT count(*) FROM job_ticks WHERE status = 'FAILURE'
        AND timestamp > (now() AT TIME ZONE 'UTC') - interval '1 hour')
"""
