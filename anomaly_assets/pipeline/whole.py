"""The whole pipeline over a range, step after step, as the assets run it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anomaly_assets.pipeline.advance import ModelStates
from anomaly_assets.pipeline.explain import explain_windows
from anomaly_assets.pipeline.stateless import aggregate_windows, combine
from anomaly_assets.pipeline.tiers import CrossStreamTier, GapTier, IndividualTier

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anomaly_assets.pipeline.advance import Commit
    from anomaly_assets.pipeline.deployment import Deployment
    from anomaly_assets.streams.windows import WindowRange


def process(deployment: Deployment, windows: WindowRange) -> Iterator[Commit]:
    """Take a range of windows from readings to explanations, yielding each committed block.

    Parameters
    ----------
    deployment
        Whose readings to process; entities that fail are recorded in ``deployment.failures``.
    windows
        The range, following what has been processed or overlapping it.
    """
    entities = deployment.entities()
    yield from aggregate_windows(deployment, entities, windows)
    for tier in (IndividualTier(), GapTier(), CrossStreamTier(deployment.settings.seed)):
        yield from ModelStates(tier, deployment).advance(windows)
    yield from combine(deployment, entities, windows)
    yield from explain_windows(deployment, entities, windows)
