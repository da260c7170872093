"""Checks that stand beside the assets they guard, one SQL statement each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from anomaly_assets.pipeline.network import STALE_AFTER, stale_networks
from anomaly_assets.storage import checks

if TYPE_CHECKING:
    from datetime import datetime

    from anomaly_assets.pipeline.deployment import Deployment
    from anomaly_assets.streams.windows import WindowRange

#: Share of anomalous windows above which something is wrong with the person, the device or us.
ALERT_ANOMALY_RATE = 0.10


def windows_complete(deployment: Deployment, windows: WindowRange) -> dg.AssetCheckResult:
    """Check that every stored window has a row for every stream."""
    streams = {e.entity_id: len(e.catalogue.streams) for e in deployment.entities()}
    with deployment.database.connect() as connection:
        counts = checks.rows_per_window(connection, windows)
    wrong = [
        f"{count.entity_id}: {count.smallest} to {count.largest} rows a window"
        for count in counts
        if count.entity_id in streams
        and not count.smallest == count.largest == streams[count.entity_id]
    ]
    return dg.AssetCheckResult(
        passed=not wrong,
        asset_key="raw_readings",
        check_name="windows_complete",
        metadata={"entities": len(counts), "incomplete": dg.MetadataValue.json(wrong)},
    )


def scores_valid(
    deployment: Deployment, windows: WindowRange, asset: str, method: str
) -> dg.AssetCheckResult:
    """Check that an asset's scores lie in [0, 1] and that no missing stream was scored."""
    with deployment.database.connect() as connection:
        found = checks.score_ranges(connection, windows, method)
    return dg.AssetCheckResult(
        passed=found.out_of_range == 0 and found.scored_while_missing == 0,
        asset_key=asset,
        check_name="scores_valid",
        metadata={
            "scores": found.scores,
            "unknown": found.unknown,
            "out_of_range": found.out_of_range,
            "scored_while_missing": found.scored_while_missing,
        },
    )


def anomaly_rate(deployment: Deployment, windows: WindowRange) -> dg.AssetCheckResult:
    """Check that no more windows are anomalous than `ALERT_ANOMALY_RATE`."""
    threshold = deployment.settings.explanation_threshold
    with deployment.database.connect() as connection:
        rate = checks.anomaly_rate(connection, windows, threshold)
    return dg.AssetCheckResult(
        passed=rate is None or rate <= ALERT_ANOMALY_RATE,
        severity=dg.AssetCheckSeverity.WARN,
        asset_key="ensemble_results",
        check_name="anomaly_rate",
        metadata={"anomaly_rate": dg.MetadataValue.float(rate or 0.0), "limit": ALERT_ANOMALY_RATE},
    )


def networks_fresh(deployment: Deployment, at: datetime) -> dg.AssetCheckResult:
    """Check that nobody who reports has a causal network older than `STALE_AFTER`."""
    stale = {
        entity: round(age.total_seconds() / 3600.0, 1)
        for entity, age in stale_networks(deployment, at).items()
    }
    return dg.AssetCheckResult(
        passed=not stale,
        severity=dg.AssetCheckSeverity.WARN,
        asset_key="causal_network",
        check_name="network_fresh",
        metadata={
            "stale_hours": dg.MetadataValue.json(stale),
            "limit_hours": STALE_AFTER.total_seconds() / 3600.0,
        },
    )
