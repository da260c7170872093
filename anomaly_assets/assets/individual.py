"""Tier 1: every stream against its own River model."""

from collections.abc import Iterator

import dagster as dg

from anomaly_assets.assets.checks import scores_valid
from anomaly_assets.assets.common import STATE_POOL, described, over_windows
from anomaly_assets.assets.measures import measured
from anomaly_assets.assets.partitions import PREVIOUS_WINDOW, windows_of
from anomaly_assets.assets.resources import DeploymentResource
from anomaly_assets.pipeline.advance import ModelStates
from anomaly_assets.storage.tables import AnomalyScore, ModelSnapshot, StreamHealthRow

READINGS = dg.AssetKey("raw_readings")


@dg.multi_asset(
    **over_windows(),
    pool=STATE_POOL,
    ins={
        "tier1_models": dg.AssetIn(partition_mapping=PREVIOUS_WINDOW),
        "raw_readings": dg.AssetIn(dagster_type=dg.Nothing),
    },
    outs={
        "tier1_models": dg.AssetOut(
            io_manager_key="model_state",
            description=(
                "State of every stream's River model after each window, kept as signed snapshots; "
                "depends on its own previous window."
            ),
            **described("individual", "river", "postgres", table=ModelSnapshot.__table__),
        ),
        "tier1_scores": dg.AssetOut(
            dagster_type=dg.Nothing,
            description=(
                "How odd each stream's value is against its own forecast: score in [0, 1], "
                "expected value, signed deviation. Unknown (NULL) where the stream is missing or "
                "unhealthy."
            ),
            **described("individual", "river", "postgres", table=AnomalyScore.__table__),
        ),
        "stream_health": dg.AssetOut(
            dagster_type=dg.Nothing,
            description="Availability, gaps and accuracy of each stream; who needs retraining.",
            **described("individual", "postgres", table=StreamHealthRow.__table__),
        ),
    },
    internal_asset_deps={
        "tier1_models": {READINGS, dg.AssetKey("tier1_models")},
        "tier1_scores": {READINGS},
        "stream_health": {READINGS},
    },
    check_specs=[
        dg.AssetCheckSpec(
            "scores_valid",
            asset="tier1_scores",
            blocking=True,
            description="Scores lie in [0, 1]; missing streams are unknown, never scored.",
        )
    ],
)
def individual_detection(
    context: dg.AssetExecutionContext, deployment: DeploymentResource, tier1_models: ModelStates
) -> Iterator[dg.Output[object] | dg.AssetCheckResult]:
    """Score every stream against its own model, then learn; results and state commit together."""
    windows = windows_of(context)
    yield dg.Output(tier1_models.advance(windows), output_name="tier1_models")
    yield dg.Output(None, output_name="tier1_scores")
    health = measured(deployment.current, "health", windows)
    yield dg.Output(None, output_name="stream_health", metadata=health)
    yield scores_valid(deployment.current, windows, "tier1_scores", "river_individual")
