"""The system over a labelled series as it would have run: scored before learnt, in order."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anomaly_assets.detection.system import Detection, DetectionState, detect

if TYPE_CHECKING:
    from anomaly_assets.evaluation.datasets import LabelledSeries
    from anomaly_assets.streams.windows import FloatArray


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
    """Return how much each stream has to do with what is unusual, at least 0.

    What tier 2 says, and 0 where a stream is missing; shape ``(n_windows, n_streams)``.
    """
    evidence = detection.cross_stream.evidence
    if evidence is None:
        return np.zeros(detection.individual.score.shape)
    return np.nan_to_num(evidence, nan=0.0)
