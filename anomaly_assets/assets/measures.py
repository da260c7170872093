"""Figures of a run on its assets, as numbers, so that Dagster draws them over time.

They are of the run and not of each partition: metadata of partitions in a range are quadratic.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Literal

import dagster as dg

from anomaly_assets.monitoring.ranges import figures

if TYPE_CHECKING:
    from anomaly_assets.pipeline.deployment import Deployment
    from anomaly_assets.streams.windows import WindowRange

#: Digits behind the point; what is smaller does not show in a drawing.
_DIGITS = 6


def measured(
    deployment: Deployment, what: Literal["readings", "health", "ensemble"], windows: WindowRange
) -> dict[str, dg.MetadataValue]:
    """Return the figures of what a run has stored over its windows."""
    threshold = deployment.settings.explanation_threshold
    with deployment.database.connect() as connection:
        found = figures(connection, what, windows, threshold)
    return {name: dg.MetadataValue.float(round(value, _DIGITS)) for name, value in found.items()}


def of_process() -> dict[str, dg.MetadataValue]:
    """Return memory and processor time of the run's process so far."""
    used: dict[str, dg.MetadataValue] = {
        "cpu_seconds": dg.MetadataValue.float(round(time.process_time(), 3))
    }
    memory = _peak_memory()
    if memory is not None:
        used["peak_memory_bytes"] = dg.MetadataValue.int(memory)
    return used


def _peak_memory() -> int | None:
    try:
        import resource  # noqa: PLC0415 - there is none for Windows
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
