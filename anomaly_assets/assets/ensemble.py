"""Tier 3: one final score a window."""

import dagster as dg

from anomaly_assets.assets.checks import anomaly_rate, scores_valid
from anomaly_assets.assets.common import described, over_windows
from anomaly_assets.assets.measures import measured
from anomaly_assets.assets.partitions import windows_of
from anomaly_assets.assets.resources import DeploymentResource, describe
from anomaly_assets.pipeline.stateless import combine
from anomaly_assets.storage.tables import AnomalyScore


@dg.asset(
    **over_windows(),
    **described("ensemble", "postgres", table=AnomalyScore.__table__),
    deps=["tier1_scores", "stream_health", "cross_stream_scores"],
    check_specs=[
        dg.AssetCheckSpec(
            "scores_valid",
            asset="ensemble_results",
            blocking=True,
            description="Final scores lie in [0, 1].",
        ),
        dg.AssetCheckSpec(
            "anomaly_rate",
            asset="ensemble_results",
            description=(
                "No entity has an hour with more anomalous windows than "
                "ANOMALY_ASSETS_ALERT_ANOMALY_RATE (10 %)."
            ),
        ),
    ],
)
def ensemble_results(
    context: dg.AssetExecutionContext, deployment: DeploymentResource
) -> dg.MaterializeResult:
    """Combine tiers 1 and 2, weighted by stream health, into a final score and confidence."""
    current = deployment.current
    windows = windows_of(context)
    return dg.MaterializeResult(
        metadata={
            **describe(current, combine(current, deployment.entities(), windows)),
            **measured(current, "ensemble", windows),
        },
        check_results=[
            scores_valid(current, windows, "ensemble_results", "ensemble"),
            anomaly_rate(current, windows),
        ],
    )
