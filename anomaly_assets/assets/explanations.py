"""Tier 4: why."""

import base64
import time

import dagster as dg

from anomaly_assets.assets.checks import batch_time
from anomaly_assets.assets.common import described, over_windows
from anomaly_assets.assets.measures import of_process
from anomaly_assets.assets.partitions import windows_of
from anomaly_assets.assets.resources import DeploymentResource, describe
from anomaly_assets.pipeline.deployment import Deployment
from anomaly_assets.pipeline.explain import explain_windows
from anomaly_assets.pipeline.figures import top_picture
from anomaly_assets.storage.tables import CausalExplanation
from anomaly_assets.streams.windows import WindowRange

BATCH_TIME = dg.AssetCheckSpec(
    "batch_time",
    asset="explanations",
    description=(
        "From its first asset to its last the run takes at most "
        "ANOMALY_ASSETS_ALERT_BATCH_SECONDS (10 s) a window."
    ),
)


@dg.asset(
    **over_windows(),
    **described("explanation", "postgres", table=CausalExplanation.__table__),
    deps=["ensemble_results", "tier1_scores", "cross_stream_scores", "gap_features"],
    check_specs=[BATCH_TIME],
)
def explanations(
    context: dg.AssetExecutionContext, deployment: DeploymentResource
) -> dg.MaterializeResult:
    """Explain each episode that calls for it: cause, evidence, alternatives, recommended action."""
    current = deployment.current
    windows = windows_of(context)
    metadata = describe(current, explain_windows(current, deployment.entities(), windows))
    show_picture(context, current, windows)
    return dg.MaterializeResult(
        metadata={**metadata, **of_process()},
        check_results=[batch_time(current, windows, start_of_run(context), time.time())],
    )


def start_of_run(context: dg.OpExecutionContext | dg.AssetExecutionContext) -> float | None:
    """Return when the run of a step began, in seconds since the epoch; None where unknown."""
    record = context.instance.get_run_record_by_id(context.run.run_id)
    return None if record is None else record.start_time


def show_picture(
    context: dg.OpExecutionContext | dg.AssetExecutionContext,
    deployment: Deployment,
    windows: WindowRange,
) -> None:
    """Show the run's highest-scored episode, if there is one, as an observation.

    As metadata of the materialisation it would be copied to every partition of the range.
    """
    found = top_picture(deployment, windows)
    if found is None:
        return
    explanation, png = found
    image = base64.b64encode(png).decode()
    metadata = {
        "top_episode": dg.MetadataValue.text(explanation.anomaly_id),
        "figure": dg.MetadataValue.md(
            f"{explanation.summary}\n\n![figure](data:image/png;base64,{image})"
        ),
    }
    context.log_event(dg.AssetObservation("explanations", metadata=metadata))
