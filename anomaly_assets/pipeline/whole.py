"""The whole pipeline over a range, step after step, as the assets run it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from anomaly_assets.pipeline.advance import advance
from anomaly_assets.pipeline.explain import explain_windows
from anomaly_assets.pipeline.stateless import aggregate_windows, combine
from anomaly_assets.pipeline.tiers import CrossStreamTier, GapTier, IndividualTier
from anomaly_assets.pipeline.together import groups_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anomaly_assets.pipeline.advance import Commit
    from anomaly_assets.pipeline.deployment import Deployment, Entity
    from anomaly_assets.streams.windows import WindowRange


#: The steps, by the assets whose results they make, in order.
STEPS: Final = (
    "raw_readings",
    IndividualTier.component,
    GapTier.component,
    CrossStreamTier.component,
    "ensemble_results",
    "explanations",
)


def process(deployment: Deployment, windows: WindowRange) -> Iterator[Commit]:
    """Take a range of windows from readings to explanations, yielding each committed block.

    Parameters
    ----------
    deployment
        Whose readings to process; entities that fail are recorded in ``deployment.failures``.
    windows
        The range, following what has been processed or overlapping it.
    """
    for _, commits in steps(deployment, deployment.entities(), windows):
        yield from commits


def steps(
    deployment: Deployment, entities: Sequence[Entity], windows: WindowRange
) -> Iterator[tuple[str, Iterator[Commit]]]:
    """Take some entities through the steps, yielding each one's name and its commits.

    Over a short range they go in groups, so that a name comes once for each group. The commits of
    one step have to be consumed before the next is asked for.
    """
    tiers = (IndividualTier(), GapTier(), CrossStreamTier(deployment.settings.seed))
    for group in groups_of(entities, windows):
        yield STEPS[0], aggregate_windows(deployment, group, windows)
        for tier in tiers:
            yield tier.component, advance(tier, deployment, group, windows)
        yield STEPS[-2], combine(deployment, group, windows)
        yield STEPS[-1], explain_windows(deployment, group, windows)
