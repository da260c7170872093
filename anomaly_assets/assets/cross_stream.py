"""Tier 2: streams against each other."""

from collections.abc import Iterator

import dagster as dg

from anomaly_assets.assets.checks import scores_valid
from anomaly_assets.assets.common import STATE_POOL, described, over_windows
from anomaly_assets.assets.partitions import PREVIOUS_WINDOW, windows_of
from anomaly_assets.assets.resources import DeploymentResource
from anomaly_assets.pipeline.advance import ModelStates
from anomaly_assets.storage.tables import AnomalyScore, ModelSnapshot

UPSTREAM = {dg.AssetKey("tier1_scores"), dg.AssetKey("gap_features")}


@dg.multi_asset(
    **over_windows(),
    pool=STATE_POOL,
    ins={
        "cross_stream_models": dg.AssetIn(partition_mapping=PREVIOUS_WINDOW),
        "tier1_scores": dg.AssetIn(dagster_type=dg.Nothing),
        "gap_features": dg.AssetIn(dagster_type=dg.Nothing),
    },
    outs={
        "cross_stream_models": dg.AssetOut(
            io_manager_key="model_state",
            description=(
                "State of the Half-Space Trees over all streams and of each group, and of the "
                "relationships between streams; depends on its own previous window."
            ),
            **described("cross_stream", "river", "postgres", table=ModelSnapshot.__table__),
        ),
        "cross_stream_scores": dg.AssetOut(
            dagster_type=dg.Nothing,
            description="How odd the window is across streams, overall, by group and by voice.",
            **described("cross_stream", "river", "postgres", table=AnomalyScore.__table__),
        ),
    },
    internal_asset_deps={
        "cross_stream_models": {*UPSTREAM, dg.AssetKey("cross_stream_models")},
        "cross_stream_scores": UPSTREAM,
    },
    check_specs=[
        dg.AssetCheckSpec(
            "scores_valid",
            asset="cross_stream_scores",
            blocking=True,
            description="Scores lie in [0, 1]; every window has one for the whole entity.",
        )
    ],
)
def cross_stream_detection(
    context: dg.AssetExecutionContext,
    deployment: DeploymentResource,
    cross_stream_models: ModelStates,
) -> Iterator[dg.Output[object] | dg.AssetCheckResult]:
    """Score the streams against each other, then learn; results and state commit together."""
    windows = windows_of(context)
    yield dg.Output(cross_stream_models.advance(windows), output_name="cross_stream_models")
    yield dg.Output(None, output_name="cross_stream_scores")
    yield scores_valid(deployment.current, windows, "cross_stream_scores", "river_multivariate")
