"""Tier 4: why."""

import dagster as dg

from anomaly_assets.assets.common import described, over_windows
from anomaly_assets.assets.partitions import windows_of
from anomaly_assets.assets.resources import DeploymentResource, describe
from anomaly_assets.pipeline.explain import explain_windows
from anomaly_assets.storage.tables import CausalExplanation


@dg.asset(
    **over_windows(),
    **described("explanation", "postgres", table=CausalExplanation.__table__),
    deps=["ensemble_results", "tier1_scores", "cross_stream_scores", "gap_features"],
)
def explanations(
    context: dg.AssetExecutionContext, deployment: DeploymentResource
) -> dg.MaterializeResult:
    """Explain each window that calls for it: cause, evidence, alternatives, recommended action."""
    current = deployment.current
    windows = windows_of(context)
    return dg.MaterializeResult(
        metadata=describe(current, explain_windows(current, deployment.entities(), windows))
    )
