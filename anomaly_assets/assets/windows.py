"""The assets of the pipeline, as one step each or as one graph with a step for each shard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anomaly_assets.assets.cross_stream import cross_stream_detection
from anomaly_assets.assets.ensemble import ensemble_results
from anomaly_assets.assets.explanations import explanations
from anomaly_assets.assets.gaps import gap_detection
from anomaly_assets.assets.individual import individual_detection
from anomaly_assets.assets.readings import raw_readings
from anomaly_assets.assets.sharded import sharded

if TYPE_CHECKING:
    import dagster as dg

    from anomaly_assets.settings import Settings

#: In the order in which they are made.
SINGLE = (
    raw_readings,
    individual_detection,
    gap_detection,
    cross_stream_detection,
    ensemble_results,
    explanations,
)


def window_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """Return the pipeline's assets as the settings want them carried out."""
    if settings.shards == 1:
        return list(SINGLE)
    return [sharded(SINGLE, settings.shards)]
