"""Readings of the journal, aggregated to windows."""

import dagster as dg

from anomaly_assets.assets.checks import streams_available, windows_complete
from anomaly_assets.assets.common import described, over_windows
from anomaly_assets.assets.measures import measured
from anomaly_assets.assets.partitions import windows_of
from anomaly_assets.assets.resources import DeploymentResource, describe
from anomaly_assets.pipeline.stateless import aggregate_windows
from anomaly_assets.storage.tables import TimeSeriesData

WINDOWS_COMPLETE = dg.AssetCheckSpec(
    "windows_complete",
    asset="raw_readings",
    blocking=True,
    description="Every stored window has one row for every stream of its entity's catalogue.",
)

STREAMS_AVAILABLE = dg.AssetCheckSpec(
    "streams_available",
    asset="raw_readings",
    description=(
        "In the last window no entity has fewer of its streams than "
        "ANOMALY_ASSETS_ALERT_STREAMS_AVAILABLE (70 %)."
    ),
)


@dg.asset(
    **over_windows(),
    **described("readings", "postgres", table=TimeSeriesData.__table__),
    check_specs=[WINDOWS_COMPLETE, STREAMS_AVAILABLE],
)
def raw_readings(
    context: dg.AssetExecutionContext, deployment: DeploymentResource
) -> dg.MaterializeResult:
    """One row per window and stream: the journal's readings, aggregated as the catalogue says.

    A missing stream has a row too, without a value and with the reason (`absent`, `late`, `stuck`,
    `off`, `rejected`).
    """
    current = deployment.current
    windows = windows_of(context)
    metadata = describe(current, aggregate_windows(current, deployment.entities(), windows))
    return dg.MaterializeResult(
        metadata={**metadata, **measured(current, "readings", windows)},
        check_results=[windows_complete(current, windows), streams_available(current, windows)],
    )
