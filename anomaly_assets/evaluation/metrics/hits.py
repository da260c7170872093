"""Whether the streams with the most evidence are those that were to blame.

References
----------
Y. Su, Y. Zhao, C. Niu, R. Liu, W. Sun, D. Pei: Robust Anomaly Detection for Multivariate Time
Series through Stochastic Recurrent Neural Network. KDD 2019 (HitRate@P%).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from anomaly_assets.errors import EvaluationError
from anomaly_assets.evaluation.recordings import LabelledSegment
from anomaly_assets.streams.windows import FloatArray

#: Evidence counts up to here.
_LARGEST = 1e290


def hit_rate(
    segments: Sequence[LabelledSegment],
    evidence: FloatArray,
    streams: Sequence[str],
    percent: int = 100,
) -> float | None:
    """Return HitRate@P%, the mean over segments.

    The evidence of a stream is its mean over the whole segment. Of a segment with G streams to
    blame, the rate is the share of them among the first ``floor(percent / 100 * G)`` streams.
    Streams of equal evidence rank in the order of the catalogue.

    Parameters
    ----------
    segments
        Labelled anomalies; those that blame no stream are left out.
    evidence
        How unusual each stream is, at least 0, shape ``(n_windows, n_streams)``; NaN counts as 0.
    streams
        Identifiers, in the order of the columns.
    percent
        100 or more.

    Returns
    -------
    float or None
        In [0, 1]; None if no segment blames a stream.

    Raises
    ------
    EvaluationError
        If a segment blames an unknown stream or holds no window, the shapes do not fit, evidence is
        infinite, or `percent` is less than 100.
    """
    if percent < 100:
        msg = f"HitRate@{percent}% is not defined; give 100 or more"
        raise EvaluationError(msg)
    if evidence.ndim != 2 or evidence.shape[1] != len(streams):
        msg = f"evidence has shape {evidence.shape}, expected (n_windows, {len(streams)})"
        raise EvaluationError(msg)
    if np.isinf(evidence).any():
        row = int(np.flatnonzero(np.isinf(evidence).any(axis=1))[0])
        msg = f"row {row} has infinite evidence; give a finite one, or NaN where it is unknown"
        raise EvaluationError(msg)
    position = {name: number for number, name in enumerate(streams)}
    rates = []
    for segment in segments:
        blamed = set(segment.streams)
        if not blamed:
            continue
        unknown = sorted(blamed - position.keys())
        if unknown:
            msg = f"the segment from window {segment.start} blames the unknown stream {unknown[0]}"
            raise EvaluationError(msg)
        part = evidence[segment.start : segment.end]
        if not part.size:
            msg = f"the segment {segment.start} to {segment.end} holds no window with evidence"
            raise EvaluationError(msg)
        order = np.argsort(-_mean(part), kind="stable")
        first = order[: math.floor(percent * len(blamed) / 100)].tolist()
        rates.append(len({position[name] for name in blamed} & set(first)) / len(blamed))
    return float(np.mean(rates)) if rates else None


def _mean(part: FloatArray) -> FloatArray:
    """Return the mean evidence of each stream, unknown as 0, bounded so that its sum is finite."""
    return np.asarray(np.clip(np.nan_to_num(part), -_LARGEST, _LARGEST).mean(axis=0))
