"""Tiers 1 to 3 as one function of state and windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from anomaly_assets.detection.cross_stream.detector import CrossStreamDetector
from anomaly_assets.detection.ensemble.health_aware import HealthAwareEnsemble
from anomaly_assets.detection.gaps.detector import GapDetector
from anomaly_assets.detection.individual.detector import IndividualDetector

if TYPE_CHECKING:
    from anomaly_assets.detection.results import (
        CrossStreamScores,
        EnsembleResults,
        GapScores,
        IndividualScores,
    )
    from anomaly_assets.streams.catalogue import Catalogue
    from anomaly_assets.streams.windows import WindowBlock


@dataclass
class DetectionState:
    """Everything the three tiers have learnt of one entity.

    Parameters
    ----------
    individual, gaps, cross_stream
        The detectors, each one picklable object that is its own state.
    """

    individual: IndividualDetector
    gaps: GapDetector
    cross_stream: CrossStreamDetector

    @classmethod
    def fresh(cls, catalogue: Catalogue, *, seed: int = 42) -> DetectionState:
        """Return state that has learnt nothing."""
        return cls(
            IndividualDetector(catalogue),
            GapDetector(catalogue),
            CrossStreamDetector(catalogue, seed=seed),
        )


@dataclass(frozen=True)
class Detection:
    """What tiers 1 to 3 say of a block of windows."""

    individual: IndividualScores
    gaps: GapScores
    cross_stream: CrossStreamScores
    ensemble: EnsembleResults


def detect(
    state: DetectionState, block: WindowBlock, ensemble: HealthAwareEnsemble | None = None
) -> Detection:
    """Score a block of consecutive windows, and learn from it.

    The same windows give the same scores to the last bit, whether in one block or in many.

    Parameters
    ----------
    state
        As it was before the block; it is moved on to its end.
    block
        Windows of one entity, following those that `state` has learnt.
    ensemble
        How to combine the tiers; the health-weighted Cauchy combination by default.
    """
    individual = state.individual.process(block)
    gaps = state.gaps.process(block)
    cross_stream = state.cross_stream.process(block, individual, gaps)
    final = (ensemble or HealthAwareEnsemble()).process(individual, cross_stream)
    return Detection(individual, gaps, cross_stream, final)
