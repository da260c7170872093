"""The day at a glance."""

from datetime import timedelta

import dagster as dg

from anomaly_assets.assets.common import described
from anomaly_assets.assets.partitions import DAYS
from anomaly_assets.assets.resources import DeploymentResource
from anomaly_assets.pipeline.report import report_of_day


@dg.asset(
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=1),
    **described("report", "markdown"),
    deps=["ensemble_results", "explanations", "stream_health"],
)
def daily_report(
    context: dg.AssetExecutionContext, deployment: DeploymentResource
) -> dg.MaterializeResult:
    """One day for each entity: coverage, anomalies, the best explanations, unhealthy streams."""
    start, end = context.partition_time_window
    report = report_of_day(deployment.current, start, max(end, start + timedelta(days=1)))
    return dg.MaterializeResult(
        metadata={
            "report": dg.MetadataValue.md(report.markdown),
            "entities": report.entities,
            "windows": report.windows,
            "anomalous_windows": report.anomalous,
        }
    )
