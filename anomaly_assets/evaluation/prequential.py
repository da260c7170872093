"""The system over a labelled series as it would have run: scored before learnt, in order."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from anomaly_assets.detection.system import Detection, DetectionState, detect

if TYPE_CHECKING:
    from anomaly_assets.evaluation.datasets import LabelledSeries
    from anomaly_assets.streams.windows import FloatArray

#: A stream this far off (studentised) is as blamed as one can be.
_MOST_DEVIATION = 10.0
#: Windows; blame outlasts the window in which a stream was off, as faults do.
_HALF_LIFE = 12.0


@dataclass(frozen=True)
class Scored:
    """What a detector says of every window of a series.

    Parameters
    ----------
    score
        Higher is more anomalous, shape ``(n_windows,)``; NaN where unknown.
    evidence
        How unusual each stream is, at least 0, shape ``(n_windows, n_streams)``; None from a
        detector that names no streams.
    seconds
        Taken by the detector.
    """

    score: FloatArray
    evidence: FloatArray | None
    seconds: float


def run_ours(series: LabelledSeries) -> Scored:
    """Run tiers 1 to 3 over a series from fresh state, training windows first, all in order.

    Parameters
    ----------
    series
        What to run over; its labels are not looked at.
    """
    started = time.perf_counter()
    detection = detect(DetectionState.fresh(series.catalogue), series.block)
    evidence = stream_evidence(detection)
    return Scored(detection.ensemble.score, evidence, time.perf_counter() - started)


def stream_evidence(detection: Detection) -> FloatArray:
    """Return how unusual each stream is, at least 0, shape ``(n_windows, n_streams)``.

    The size of the studentised residual, at most 10 and 0 where there is none, as an exponentially
    weighted mean of half-life 12 windows.
    """
    deviation = np.nan_to_num(np.abs(detection.individual.deviation), nan=0.0)
    clipped = pd.DataFrame(np.minimum(deviation, _MOST_DEVIATION))
    return clipped.ewm(halflife=_HALF_LIFE, adjust=False).mean().to_numpy()
