"""The day at a glance."""

import base64
from datetime import timedelta

import dagster as dg

from anomaly_assets.assets.common import described
from anomaly_assets.assets.partitions import DAYS
from anomaly_assets.assets.resources import DeploymentResource
from anomaly_assets.pipeline.mail import mail_report
from anomaly_assets.pipeline.report import DailyReport, report_of_day, save_report


@dg.asset(
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=1),
    **described("report", "markdown"),
    deps=["ensemble_results", "explanations", "stream_health"],
)
def daily_report(
    context: dg.AssetExecutionContext, deployment: DeploymentResource
) -> dg.MaterializeResult:
    """One day for each entity: coverage, anomalies, the best explanations, unhealthy streams.

    It is a page in the deployment's folder `reports`, and is sent to the addresses of
    `report_urls`.
    """
    start, end = context.partition_time_window
    current = deployment.current
    report = report_of_day(current, start, max(end, start + timedelta(days=1)))
    path = save_report(report, current.settings.home / "reports")
    attempts = mail_report(report, path, current.settings)
    for attempt in attempts:
        if attempt.error is not None:
            context.log.warning("the report to %s: %s", attempt.address, attempt.error)
    return dg.MaterializeResult(
        metadata={
            "report": dg.MetadataValue.md(report.markdown),
            "page": dg.MetadataValue.path(path.resolve()),
            "entities": report.entities,
            "windows": report.windows,
            "anomalous_windows": report.anomalous,
            "sent": sum(attempt.error is None for attempt in attempts),
            "not_sent": sum(attempt.error is not None for attempt in attempts),
            **_anomalies(report),
            **_picture(report),
        }
    )


def _anomalies(report: DailyReport) -> dict[str, dg.MetadataValue]:
    """Return the day's episodes as a table; none without any."""
    found = sorted(
        (row for day in report.days for row in day.anomalies), key=lambda row: -row.score
    )
    if not found:
        return {}
    records = [
        dg.TableRecord(
            {
                "entity": row.entity_id,
                "begin": f"{row.episode_start:%Y-%m-%d %H:%M}",
                "score": round(row.score, 3),
                "cause": row.primary_cause or "",
                "summary": row.summary or "",
            }
        )
        for row in found
    ]
    return {"anomalies": dg.MetadataValue.table(records)}


def _picture(report: DailyReport) -> dict[str, dg.MetadataValue]:
    """Show the day with the highest score."""
    if not report.pictures:
        return {}
    entity_id, png = next(iter(report.pictures.items()))
    image = base64.b64encode(png).decode()
    return {
        "figure": dg.MetadataValue.md(f"`{entity_id}`\n\n![figure](data:image/png;base64,{image})")
    }
