"""Jobs: the pipeline over a range of windows, and the upkeep of the database."""

from datetime import UTC, datetime

import dagster as dg

from anomaly_assets.assets.resources import DeploymentResource
from anomaly_assets.pipeline.retention import retain_readings
from anomaly_assets.pipeline.upkeep import (
    prepare_partitions,
    prune_live,
    prune_networks,
    prune_snapshots,
    prune_superseded,
)

PIPELINE = dg.AssetSelection.assets(
    "raw_readings",
    "tier1_models",
    "tier1_scores",
    "stream_health",
    "gap_patterns",
    "gap_features",
    "cross_stream_models",
    "cross_stream_scores",
    "ensemble_results",
    "explanations",
)

process_windows = dg.define_asset_job(
    "process_windows",
    selection=PIPELINE,
    description="From readings to explanations, over one window or a range of them, in order.",
)


@dg.op
def create_partitions(context: dg.OpExecutionContext, deployment: DeploymentResource) -> list[str]:
    """Create the database partitions of the months to come."""
    created = prepare_partitions(deployment.current, datetime.now(tz=UTC))
    context.add_output_metadata({"created": dg.MetadataValue.json(created)})
    return created


@dg.op
def retain_snapshots(context: dg.OpExecutionContext, deployment: DeploymentResource) -> int:
    """Delete the model snapshots that retention no longer keeps."""
    deleted = prune_snapshots(deployment.current)
    context.add_output_metadata({"deleted": deleted})
    return deleted


@dg.op
def retain_superseded(context: dg.OpExecutionContext, deployment: DeploymentResource) -> int:
    """Delete replaced results and archived models after `keep_superseded_days`."""
    deleted = prune_superseded(deployment.current)
    context.add_output_metadata({"deleted_models": deleted})
    return deleted


@dg.op
def retain_networks(context: dg.OpExecutionContext, deployment: DeploymentResource) -> int:
    """Delete the causal networks that retention no longer keeps."""
    deleted = prune_networks(deployment.current)
    context.add_output_metadata({"deleted": deleted})
    return deleted


@dg.op
def retain_live(context: dg.OpExecutionContext, deployment: DeploymentResource) -> int:
    """Delete old answers to requests with an idempotency key, and old alerts."""
    keys, alerts = prune_live(deployment.current, datetime.now(tz=UTC))
    context.add_output_metadata({"idempotency_keys": keys, "alerts": alerts})
    return keys + alerts


@dg.op
def retain_raw_readings(context: dg.OpExecutionContext, deployment: DeploymentResource) -> int:
    """Aggregate readings past retention by the hour, verify that, and drop them."""
    report = retain_readings(deployment.current, datetime.now(tz=UTC))
    for outlook in report.waiting:
        start = outlook.piece.start.date().isoformat()
        context.log.warning("readings from %s on are kept: %s", start, outlook.reason)
    context.add_output_metadata(
        {
            "server": report.server,
            "old_before": "never" if report.before is None else report.before.isoformat(),
            "readings": report.readings,
            "hourly_values": sum(one.hours for one in report.dropped),
            "dropped": dg.MetadataValue.json([one.piece.name for one in report.dropped]),
            "waiting": dg.MetadataValue.json([one.piece.name for one in report.waiting]),
        }
    )
    return report.readings


@dg.job(
    description=(
        "Database partitions of the months to come; retention of readings, model snapshots, "
        "networks, idempotency keys and alerts."
    )
)
def upkeep() -> None:
    """Keep the database in order."""
    create_partitions()
    retain_snapshots()
    retain_superseded()
    retain_networks()
    retain_live()
    retain_raw_readings()
