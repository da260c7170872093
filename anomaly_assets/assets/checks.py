"""Checks that stand beside the assets they guard, one SQL statement each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from anomaly_assets.monitoring.ranges import anomaly_rates, available_at_the_end
from anomaly_assets.pipeline.network import STALE_AFTER, stale_networks
from anomaly_assets.storage import checks
from anomaly_assets.streams.windows import WINDOWS_PER_HOUR

if TYPE_CHECKING:
    from datetime import datetime

    from anomaly_assets.pipeline.deployment import Deployment
    from anomaly_assets.streams.windows import WindowRange

#: Entities named in the metadata of a check; more would swell Dagster's event log.
MOST_NAMED = 20


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
    """Check that nobody has an hour with more anomalous windows than the setting allows.

    The limit is `ANOMALY_ASSETS_ALERT_ANOMALY_RATE`; above it something is wrong with the person,
    the device or us.
    """
    limit = deployment.settings.alert_anomaly_rate
    threshold = deployment.settings.explanation_threshold
    with deployment.database.connect() as connection:
        rates = anomaly_rates(connection, windows, threshold)
    shares = {entity: count / WINDOWS_PER_HOUR for entity, count in rates.worst.items()}
    above = {entity: share for entity, share in shares.items() if share > limit}
    metadata: dict[str, dg.MetadataValue] = {
        "highest_hourly_rate": dg.MetadataValue.float(max(shares.values(), default=0.0)),
        "limit": dg.MetadataValue.float(limit),
        "entities_above": dg.MetadataValue.int(len(above)),
        "above": dg.MetadataValue.json(_highest(above)),
    }
    if rates.share is not None:
        metadata["anomaly_rate"] = dg.MetadataValue.float(rates.share)
    return _alert("ensemble_results", "anomaly_rate", metadata, passed=not above)


def streams_available(deployment: Deployment, windows: WindowRange) -> dg.AssetCheckResult:
    """Check that in the last window nobody has fewer streams than the setting asks for.

    The limit is the share `ANOMALY_ASSETS_ALERT_STREAMS_AVAILABLE`.
    """
    limit = deployment.settings.alert_streams_available
    with deployment.database.connect() as connection:
        shares = available_at_the_end(connection, windows)
    below = {entity: share for entity, share in shares.items() if share < limit}
    metadata: dict[str, dg.MetadataValue] = {
        "limit": dg.MetadataValue.float(limit),
        "entities_below": dg.MetadataValue.int(len(below)),
        "below": dg.MetadataValue.json(_highest(below, lowest=True)),
    }
    if shares:
        metadata["lowest_share"] = dg.MetadataValue.float(min(shares.values()))
    return _alert("raw_readings", "streams_available", metadata, passed=not below)


def batch_time(
    deployment: Deployment, windows: WindowRange, started: float | None, now: float
) -> dg.AssetCheckResult:
    """Check that the run has taken no longer than the setting allows.

    Parameters
    ----------
    deployment
        Whose setting `ANOMALY_ASSETS_ALERT_BATCH_SECONDS` counts.
    windows
        What was processed; of several, each may take as long.
    started, now
        Begin of the run, None where unknown, and now; seconds since the epoch.
    """
    limit = deployment.settings.alert_batch_seconds
    metadata: dict[str, dg.MetadataValue] = {
        "limit": dg.MetadataValue.float(limit),
        "windows": dg.MetadataValue.int(len(windows)),
    }
    if started is None:
        return _alert("explanations", "batch_time", metadata, passed=True)
    seconds = max(now - started, 0.0)
    each = seconds / max(len(windows), 1)
    metadata["seconds"] = dg.MetadataValue.float(round(seconds, 3))
    metadata["seconds_per_window"] = dg.MetadataValue.float(round(each, 6))
    return _alert("explanations", "batch_time", metadata, passed=each <= limit)


def _alert(
    asset: str, name: str, metadata: dict[str, dg.MetadataValue], *, passed: bool
) -> dg.AssetCheckResult:
    """Return a check that warns and holds nothing up."""
    return dg.AssetCheckResult(
        passed=passed,
        severity=dg.AssetCheckSeverity.WARN,
        asset_key=asset,
        check_name=name,
        metadata=metadata,
    )


def _highest(shares: dict[str, float], *, lowest: bool = False) -> dict[str, float]:
    order = sorted(shares, key=lambda entity: (shares[entity], entity), reverse=not lowest)
    return {entity: round(shares[entity], 4) for entity in order[:MOST_NAMED]}


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
