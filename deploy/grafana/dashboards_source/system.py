"""Whether it is up, is fast, and keeps up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders import dashboard

from .panels import (
    HIGH_IS_GOOD,
    LOW_IS_GOOD,
    NONE_IS_GOOD,
    ONE_IS_GOOD,
    board,
    lines,
    listing,
    one_value,
    over_time,
    rows,
)

if TYPE_CHECKING:
    from grafana_foundation_sdk.cog.builder import Builder
    from grafana_foundation_sdk.cog.variants import Dataquery


def _quantiles(metric: str, by: str = "") -> list[tuple[str, str]]:
    group = f"le, {by}" if by else "le"
    legend = f" {{{{{by}}}}}" if by else ""
    found = []
    for quantile, name in ((0.5, "half"), (0.95, "95 %"), (0.99, "99 %")):
        rate = f"rate(anomaly_assets_{metric}_bucket[$__rate_interval])"
        expression = f"histogram_quantile({quantile}, sum by ({group}) ({rate}))"
        found.append((expression, f"{name}{legend}"))
    return found


def _rate(metric: str, by: str) -> str:
    return f"sum by ({by}) (rate(anomaly_assets_{metric}[$__rate_interval]))"


def _more(counter: str) -> str:
    return f"sum(increase(anomaly_assets_{counter}[$__rate_interval]))"


def system() -> dashboard.Dashboard:
    """Return the dashboard of whoever keeps it running."""
    made = board("anomaly-assets-system", "System", "Is it up, is it fast, does it keep up?")
    for part in (_now, _live, _backlog, _machine, _sources, _alerts):
        made = part(made)
    return made


def _newest(expression: str) -> Builder[Dataquery]:
    return lines((expression, ""))[0]


def _now(made: dashboard.Dashboard) -> dashboard.Dashboard:
    stats = [
        one_value(
            "Database", _newest("min(anomaly_assets_database_up)"), steps=ONE_IS_GOOD, width=3
        ),
        one_value(
            "Windows behind",
            _newest("max(anomaly_assets_windows_behind)"),
            steps=[(None, "green"), (3, "#EAB839"), (6, "red")],
            width=3,
            about="Complete windows that the slowest entity's aggregate does not have yet.",
        ),
        one_value(
            "Dagster's oldest heartbeat",
            _newest("max(anomaly_assets_dagster_heartbeat_age_seconds)"),
            unit="s",
            steps=[(None, "green"), (120, "#EAB839"), (300, "red")],
            width=3,
        ),
        one_value("Entities reporting", _newest("max(anomaly_assets_entities_reporting)"), width=3),
        one_value(
            "Streams available",
            _newest("min(anomaly_assets_streams_available_ratio)"),
            unit="percentunit",
            steps=HIGH_IS_GOOD,
            width=3,
        ),
        one_value(
            "Anomalous, last hour",
            _newest("max(anomaly_assets_anomaly_rate_ratio)"),
            unit="percentunit",
            steps=LOW_IS_GOOD,
            width=3,
        ),
        one_value(
            "Quarantined",
            _newest("max(anomaly_assets_entities_quarantined)"),
            steps=NONE_IS_GOOD,
            width=3,
            about="Entities whose catalogue or state cannot be used.",
        ),
        one_value("Alerts waiting", _newest("max(anomaly_assets_open_alerts)"), width=3),
    ]
    made = made.with_row(dashboard.Row("Now"))
    for panel in stats:
        made = made.with_panel(panel)
    return made


def _live(made: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        made.with_row(dashboard.Row("Live path"))
        .with_panel(
            over_time("Readings", lines((_rate("readings_total", "as"), "{{as}}")), unit="cps")
        )
        .with_panel(
            over_time(
                "From the end of a window to its result",
                lines(*_quantiles("result_delay_seconds")),
                unit="s",
                about="Seconds where every stream has reported, else the wait for slow ones.",
            )
        )
        .with_panel(
            over_time(
                "A batch of readings",
                lines(*_quantiles("batch_seconds")),
                unit="s",
                steps=[(None, "transparent"), (10, "red")],
                about="From taking it to having stored and seen it; beyond ten seconds: an alert.",
            )
        )
        .with_panel(over_time("Requests", lines(*_quantiles("request_seconds")), unit="s"))
        .with_panel(
            over_time(
                "Answers",
                lines((_rate("requests_total", "status"), "{{status}}")),
                unit="reqps",
                stacked=True,
            )
        )
    )


def _backlog(made: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        made.with_panel(
            over_time(
                "What waits",
                lines(
                    ("sum(anomaly_assets_journal_pending_readings)", "readings"),
                    ("sum(anomaly_assets_pipeline_waiting_explanations)", "explanations"),
                    ("max(anomaly_assets_late_windows)", "windows to replay"),
                ),
            )
        )
        .with_panel(
            over_time(
                "What goes wrong",
                lines(
                    (_more("journal_failures_total"), "groups not stored"),
                    (_more("pipeline_refused_total"), "readings refused"),
                    (_more("pipeline_explanations_failed_total"), "explanations failed"),
                    (_more("webhooks_dropped_total"), "results not posted"),
                    (_more("pipeline_differences_total"), "windows stored otherwise"),
                ),
            )
        )
        .with_panel(
            over_time(
                "Windows",
                lines(
                    (
                        "sum(rate(anomaly_assets_pipeline_windows_total[$__rate_interval]))",
                        "closed",
                    ),
                    (
                        "sum(rate(anomaly_assets_pipeline_revised_total[$__rate_interval]))",
                        "revised",
                    ),
                ),
                unit="cps",
            )
        )
    )


def _machine(made: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        made.with_row(dashboard.Row("Machine and database"))
        .with_panel(
            over_time(
                "Memory",
                lines(("anomaly_assets_process_resident_memory_bytes", "{{instance}}")),
                unit="bytes",
                width=8,
            )
        )
        .with_panel(
            over_time(
                "Processors in use",
                lines(
                    (
                        "rate(anomaly_assets_process_cpu_seconds_total[$__rate_interval])",
                        "{{instance}}",
                    )
                ),
                width=8,
            )
        )
        .with_panel(
            over_time(
                "Disk in use",
                lines(
                    (
                        "1 - anomaly_assets_disk_free_bytes / anomaly_assets_disk_size_bytes",
                        "{{instance}}",
                    )
                ),
                unit="percentunit",
                share=True,
                steps=[(None, "transparent"), (0.9, "red")],
                width=8,
            )
        )
        .with_panel(
            over_time(
                "Queries",
                lines(*_quantiles("database_query_seconds", "query")),
                unit="s",
                about="The looks that these figures are from: a measure of the database's load.",
            )
        )
        .with_panel(
            over_time(
                "Size of the database",
                lines(("max(anomaly_assets_database_size_bytes)", "size")),
                unit="bytes",
            )
        )
    )


def _sources(made: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        made.with_row(dashboard.Row("Sources and receivers"))
        .with_panel(
            over_time(
                "Sources connected",
                lines(("anomaly_assets_source_connected", "{{source}}")),
                share=True,
                width=8,
            )
        )
        .with_panel(
            over_time(
                "Rows of sources",
                lines((_rate("source_rows_total", "source, as"), "{{source}} {{as}}")),
                unit="cps",
                width=8,
            )
        )
        .with_panel(
            over_time(
                "Messages to people",
                lines(
                    (_more("alerts_sent_total"), "sent"),
                    (_more("alerts_undelivered_total"), "reached nobody"),
                ),
                width=8,
            )
        )
    )


def _alerts(made: dashboard.Dashboard) -> dashboard.Dashboard:
    return made.with_row(dashboard.Row("Alerts")).with_panel(
        listing(
            "Alerts",
            rows(
                """
                SELECT first_seen AS "first", last_seen AS "last", severity, rule, status,
                    nullif(entity_id, '') AS entity, summary, sent_at AS "sent"
                FROM alerts WHERE $__timeFilter(last_seen) ORDER BY last_seen DESC LIMIT 200
                """
            ),
            widths={"summary": 600},
        )
    )
