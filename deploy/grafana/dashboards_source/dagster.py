"""What Dagster does: runs, partitions, checks and ticks, from its own tables."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from .panels import DAGSTER, NONE_IS_GOOD, board, choice, listing, one_value, over_time
from .panels import rows as asked
from .panels import series as drawn

#: Dagster's times are in UTC and do not say so; its runs' are seconds since the epoch.
_RUNS = "pipeline_name IN (${job:sqlstring}) AND $__timeFilter(create_timestamp)"
_NEWEST_CHECKS = """SELECT DISTINCT ON (asset_key, check_name) asset_key, check_name,
    execution_status, create_timestamp, run_id
    FROM asset_check_executions WHERE $__timeFilter(create_timestamp)
    ORDER BY asset_key, check_name, id DESC"""
_ASSET = "trim(both '[]\"' from asset_key)"


def dagster() -> dashboard.Dashboard:
    """Return the dashboard of the scheduled runs."""
    made = (
        board("anomaly-assets-dagster", "Dagster", "Runs, partitions, checks, ticks.")
        .time("now-24h", "now")
        .with_variable(
            choice(
                "job",
                "Job",
                "SELECT DISTINCT pipeline_name FROM runs "
                "WHERE create_timestamp > now() - interval '90 days'",
                source=DAGSTER,
            )
        )
    )
    for part in (_now, _runs, _partitions, _checks, _ticks):
        made = part(made)
    return made


def _now(made: dashboard.Dashboard) -> dashboard.Dashboard:
    made = made.with_row(dashboard.Row("In this time"))
    for panel in (
        one_value(
            "Runs that failed",
            asked(
                f"""
                SELECT count(*) FILTER (WHERE status = 'FAILURE') AS runs FROM runs
                WHERE {_RUNS}
                """,
                DAGSTER,
            ),
            steps=NONE_IS_GOOD,
            width=6,
        ),
        one_value(
            "Runs that succeeded",
            asked(
                f"""
                SELECT count(*) FILTER (WHERE status = 'SUCCESS') AS runs FROM runs
                WHERE {_RUNS}
                """,
                DAGSTER,
            ),
            width=6,
        ),
        one_value(
            "Checks that fail",
            asked(
                f"""
                SELECT count(*) FILTER (WHERE execution_status = 'FAILED') AS checks
                FROM ({_NEWEST_CHECKS}) AS newest
                """,
                DAGSTER,
            ),
            steps=NONE_IS_GOOD,
            width=6,
        ),
        one_value(
            "Oldest heartbeat",
            asked(
                """
                SELECT extract(epoch FROM (now() AT TIME ZONE 'UTC') - min(last)) AS seconds
                FROM (SELECT max(timestamp) AS last FROM daemon_heartbeats
                GROUP BY daemon_type) AS daemons
                """,
                DAGSTER,
            ),
            unit="s",
            steps=[(None, "green"), (120, "#EAB839"), (300, "red")],
            width=6,
        ),
    ):
        made = made.with_panel(panel)
    return made


def _runs(made: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        made.with_row(dashboard.Row("Runs"))
        .with_panel(
            over_time(
                "Runs by status",
                [
                    drawn(
                        f"""
                        SELECT $__timeGroup(create_timestamp, $__interval) AS "time",
                            lower(status) AS metric, count(*) AS runs
                        FROM runs WHERE {_RUNS} GROUP BY 1, 2 ORDER BY 1, 2
                        """,
                        DAGSTER,
                    )
                ],
                stacked=True,
            )
        )
        .with_panel(
            over_time(
                "How long runs take",
                [
                    drawn(
                        f"""
                        SELECT create_timestamp AT TIME ZONE 'UTC' AS "time",
                            pipeline_name AS metric, end_time - start_time AS seconds
                        FROM runs WHERE {_RUNS} AND end_time IS NOT NULL
                            AND start_time IS NOT NULL ORDER BY 1, 2
                        """,
                        DAGSTER,
                    )
                ],
                unit="s",
                points=True,
            )
        )
        .with_panel(
            listing(
                "Newest runs",
                asked(
                    f"""
                    SELECT create_timestamp AT TIME ZONE 'UTC' AS "made", pipeline_name AS job,
                        lower(status) AS status,
                        start_time - extract(epoch FROM create_timestamp) AS "waited",
                        end_time - start_time AS "took",
                        (SELECT value FROM run_tags AS t WHERE t.run_id = runs.run_id
                            AND key = 'dagster/asset_partition_range_start' LIMIT 1) AS "from",
                        (SELECT value FROM run_tags AS t WHERE t.run_id = runs.run_id
                            AND key = 'dagster/asset_partition_range_end' LIMIT 1) AS "to", run_id
                    FROM runs WHERE {_RUNS} ORDER BY id DESC LIMIT 100
                    """,
                    DAGSTER,
                ),
                units={"waited": "s", "took": "s"},
            )
        )
    )


def _partitions(made: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        made.with_row(dashboard.Row("Assets"))
        .with_panel(
            over_time(
                "Partitions materialised",
                [
                    drawn(
                        f"""
                        SELECT $__timeGroup(timestamp, $__interval) AS "time", {_ASSET} AS metric,
                            count(DISTINCT partition) AS partitions
                        FROM event_logs
                        WHERE dagster_event_type = 'ASSET_MATERIALIZATION'
                            AND partition IS NOT NULL AND $__timeFilter(timestamp)
                        GROUP BY 1, 2 ORDER BY 1, 2
                        """,
                        DAGSTER,
                    )
                ],
                stacked=True,
            )
        )
        .with_panel(
            listing(
                "Last materialised",
                asked(
                    f"""
                    SELECT {_ASSET} AS asset,
                        last_materialization_timestamp AT TIME ZONE 'UTC' AS "last",
                        extract(epoch FROM (now() AT TIME ZONE 'UTC')
                            - last_materialization_timestamp) AS "ago"
                    FROM asset_keys WHERE last_materialization_timestamp IS NOT NULL ORDER BY 1
                    """,
                    DAGSTER,
                ),
                width=12,
                height=8,
                units={"ago": "s"},
                coloured={"ago": [(None, "green"), (1800, "#EAB839"), (3600, "red")]},
            )
        )
    )


def _checks(made: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        made.with_row(dashboard.Row("Checks"))
        .with_panel(
            listing(
                "Newest result of each check",
                asked(
                    f"""
                    SELECT {_ASSET} AS asset, check_name AS "check",
                        lower(execution_status) AS result,
                        create_timestamp AT TIME ZONE 'UTC' AS "at", run_id
                    FROM ({_NEWEST_CHECKS}) AS newest
                    ORDER BY execution_status = 'FAILED' DESC, 1, 2
                    """,
                    DAGSTER,
                ),
                width=12,
            )
        )
        .with_panel(
            over_time(
                "Checks by result",
                [
                    drawn(
                        """
                        SELECT $__timeGroup(create_timestamp, $__interval) AS "time",
                            lower(execution_status) AS metric, count(*) AS checks
                        FROM asset_check_executions
                        WHERE $__timeFilter(create_timestamp) GROUP BY 1, 2 ORDER BY 1, 2
                        """,
                        DAGSTER,
                    )
                ],
                stacked=True,
            )
        )
    )


def _ticks(made: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        made.with_row(dashboard.Row("Sensors, schedules, daemons"))
        .with_panel(
            over_time(
                "Ticks",
                [
                    drawn(
                        """
                        SELECT $__timeGroup(timestamp, $__interval) AS "time",
                            (tick_body::jsonb ->> 'job_name') || ' ' || lower(status)
                                AS metric, count(*) AS ticks
                        FROM job_ticks WHERE $__timeFilter(timestamp) AND status <> 'SKIPPED'
                        GROUP BY 1, 2 ORDER BY 1, 2
                        """,
                        DAGSTER,
                    )
                ],
                stacked=True,
                about="Those that started a run or failed; skipped ones are most, and normal.",
            )
        )
        .with_panel(
            listing(
                "Daemons",
                asked(
                    """
                    SELECT daemon_type AS daemon, max(timestamp) AT TIME ZONE 'UTC' AS "alive",
                        extract(epoch FROM (now() AT TIME ZONE 'UTC') - max(timestamp)) AS "ago"
                    FROM daemon_heartbeats GROUP BY daemon_type ORDER BY daemon_type
                    """,
                    DAGSTER,
                ),
                width=12,
                height=8,
                units={"ago": "s"},
                coloured={"ago": [(None, "green"), (120, "#EAB839"), (300, "red")]},
            )
        )
        .with_panel(
            listing(
                "Ticks that failed",
                asked(
                    """
                    SELECT timestamp AT TIME ZONE 'UTC' AS "at",
                        tick_body::jsonb ->> 'job_name' AS "of",
                        left(tick_body::jsonb -> 'error' ->> 'message', 500) AS error
                    FROM job_ticks WHERE status = 'FAILURE' AND $__timeFilter(timestamp)
                    ORDER BY id DESC LIMIT 50
                    """,
                    DAGSTER,
                ),
                widths={"error": 900},
            )
        )
    )
