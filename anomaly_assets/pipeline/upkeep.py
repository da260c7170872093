"""Upkeep of a deployment: partitions ahead of time, snapshots and networks within retention."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING

from anomaly_assets.state.retention import snapshots_to_keep
from anomaly_assets.storage import alerts, idempotency, networks
from anomaly_assets.storage.model_versions import prune_archive
from anomaly_assets.storage.partitions import ensure_partitions

if TYPE_CHECKING:
    from datetime import datetime

    from anomaly_assets.pipeline.deployment import Deployment

_LONGEST_MONTH = timedelta(days=31)
_ALERTS_KEPT = timedelta(days=365)


def prepare_partitions(deployment: Deployment, now: datetime) -> list[str]:
    """Create the database partitions from `now` to the months ahead that the settings ask for.

    Returns
    -------
    list of str
        Names of the partitions made.
    """
    ahead = deployment.settings.partition_months_ahead * _LONGEST_MONTH
    with deployment.database.connect() as connection:
        return ensure_partitions(connection, now, now + ahead)


def prune_snapshots(deployment: Deployment) -> int:
    """Delete the snapshots that retention no longer keeps; return how many.

    Pinned ones neither go nor count.
    """
    settings = deployment.settings
    deleted = 0
    with deployment.database.connect() as connection, connection.transaction():
        rows = connection.execute(
            "SELECT entity_id, component, as_of FROM model_snapshots AS s WHERE NOT EXISTS ("
            "SELECT FROM model_pins AS p WHERE p.entity_id = s.entity_id "
            "AND p.version = s.version)"
        )
        moments: dict[tuple[str, str], list[datetime]] = defaultdict(list)
        for entity_id, component, as_of in rows:
            moments[entity_id, component].append(as_of)
        for (entity_id, component), all_of_them in sorted(moments.items()):
            kept = snapshots_to_keep(
                all_of_them,
                hourly=settings.keep_hourly_snapshots,
                daily=settings.keep_daily_snapshots,
                monthly=settings.keep_monthly_snapshots,
            )
            deleted += connection.execute(
                "DELETE FROM model_snapshots WHERE entity_id = %s AND component = %s "
                "AND as_of = ANY(%s)",
                (entity_id, component, [m for m in all_of_them if m not in kept]),
            ).rowcount
    return deleted


def prune_superseded(deployment: Deployment) -> int:
    """Delete replaced results, and models beside the present course, after their time.

    Returns how many models.
    """
    kept = timedelta(days=deployment.settings.keep_superseded_days)
    with deployment.database.connect() as connection, connection.transaction():
        return prune_archive(connection, kept)


def prune_networks(deployment: Deployment) -> int:
    """Delete the causal networks that retention no longer keeps; return how many."""
    with deployment.database.connect() as connection:
        return networks.prune_networks(connection, deployment.settings.keep_network_days)


def prune_live(deployment: Deployment, now: datetime) -> tuple[int, int]:
    """Delete what the live path need not remember; return how many keys and alerts.

    Answers to requests with an idempotency key go after `idempotency_hours`, alerts that nobody
    waits for any more after a year.
    """
    with deployment.database.connect() as connection:
        keys = idempotency.prune_keys(connection, deployment.settings.idempotency_span)
        return keys, alerts.prune_alerts(connection, now - _ALERTS_KEPT)
