"""Volume under the surface of precision and recall (VUS-PR), and the period that sets its width.

Anomalies are labelled with blurred edges. VUS therefore widens every labelled segment by a buffer
that falls off from 1, computes the area under the precision-recall curve for every width of the
buffer from 0 to `window`, and takes the mean. Computed on at most 250 thresholds, equal to the
``opt`` version of the package TSB-AD 1.5.

References
----------
J. Paparrizos, P. Boniol, T. Palpanas, R. Tsay, A. Elmore, M. Franklin: Volume Under the Surface: A
New Accuracy Evaluation Measure for Time-Series Anomaly Detection. PVLDB 15(11), 2022.

Q. Liu, J. Paparrizos: The Elephant in the Room: Towards A Reliable Time-Series Anomaly Detection
Benchmark. NeurIPS 2024 (TSB-AD).
"""

from __future__ import annotations

import numpy as np

from anomaly_assets.errors import EvaluationError
from anomaly_assets.evaluation.metrics.checks import checked
from anomaly_assets.streams.windows import BoolArray, FloatArray, IntArray

#: Thresholds on the curve, as in TSB-AD.
_THRESHOLDS = 250
#: Used where no period is found, as in TSB-AD.
_FALLBACK_PERIOD = 125
_LONGEST_LAG = 400
_SHORTEST_LAG = 3
_MOST_ROWS = 20_000


def vus_pr(labels: BoolArray, scores: FloatArray, window: int) -> float:
    """Return the volume under the precision-recall surface.

    Parameters
    ----------
    labels
        Whether each window is anomalous, shape ``(n,)``; some but not all of them.
    scores
        Higher is more anomalous, any scale, shape ``(n,)``; NaN ranks lowest.
    window
        Widest buffer in windows, at least 0; usually the :func:`period` of the first stream.

    Returns
    -------
    float
        In [0, 1], 1 for a perfect ranking.

    Raises
    ------
    EvaluationError
        If the shapes differ, there is one class only, or `window` is negative.

    Examples
    --------
    >>> labels = np.array([False, False, True, True, False, False])
    >>> vus_pr(labels, labels.astype(float), 0)
    1.0
    """
    labels, scores = checked(labels, scores)
    if window < 0:
        msg = f"the widest buffer is {window} windows; give 0 or more"
        raise EvaluationError(msg)
    curve = _Curve(labels, scores, window)
    return float(np.mean([curve.average_precision(width) for width in range(window + 1)]))


def period(values: FloatArray) -> int:
    """Return the dominant period of a series in rows, for the width of :func:`vus_pr`.

    The highest local maximum of the autocorrelation (at most 400 lags, of the first 20,000 rows)
    that lies beyond the second lag. 125 where there is none, where it lies below lag 6 or above lag
    303, or where a value is missing.

    Parameters
    ----------
    values
        Shape ``(n,)``.

    Raises
    ------
    EvaluationError
        If the values have another number of axes.

    Examples
    --------
    >>> period(np.sin(np.arange(1000) * 2 * np.pi / 50))
    50
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1:
        msg = f"values have shape {values.shape}, expected (n,); give one stream"
        raise EvaluationError(msg)
    values = values[:_MOST_ROWS]
    correlation = _autocorrelation(values)[_SHORTEST_LAG:]
    if correlation.size < 3 or not np.isfinite(correlation).all():
        return _FALLBACK_PERIOD
    inner = correlation[1:-1]
    peaks = np.flatnonzero((inner > correlation[:-2]) & (inner > correlation[2:])) + 1
    if not peaks.size:
        return _FALLBACK_PERIOD
    highest = int(peaks[np.argsort(correlation[peaks])[-1]])
    if not _SHORTEST_LAG <= highest <= 300:
        return _FALLBACK_PERIOD
    return highest + _SHORTEST_LAG


def _autocorrelation(values: FloatArray) -> FloatArray:
    """Return the autocorrelation at lags 0 to 400, as far as there are rows; NaN if constant."""
    if not values.size or not np.isfinite(values).all():
        return np.full(1, np.nan)
    # By a power of two, which changes no digit: squares of the largest values must stay finite.
    values = np.ldexp(values, -np.frexp(np.abs(values).max())[1])
    centred = values - values.mean()
    length = 1 << (2 * values.size + 1).bit_length()
    spectrum = np.fft.rfft(centred, length)
    covariance = np.fft.irfft(spectrum * spectrum.conj(), length)[: values.size]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(covariance[: _LONGEST_LAG + 1] / covariance[0])


class _Curve:
    """What the curves of all buffer widths have in common."""

    def __init__(self, labels: BoolArray, scores: FloatArray, window: int) -> None:
        self.labels = labels
        self.scores = scores
        edges = np.flatnonzero(np.diff(labels.astype(np.int8), prepend=0, append=0))
        self.first: IntArray = edges[::2]
        self.last: IntArray = edges[1::2] - 1
        descending = -np.sort(-scores)
        at = np.linspace(0, scores.size - 1, _THRESHOLDS).astype(int)
        self.thresholds = descending[at]
        #: Number of the first threshold that each row reaches; every row reaches the last.
        self.reached = np.searchsorted(-self.thresholds, -scores, side="left")
        self.alarms = self._at_thresholds(np.ones(scores.size), np.arange(scores.size))
        self.found = self._at_thresholds(np.ones(scores.size), np.flatnonzero(labels))
        near = np.zeros(scores.size + 1, dtype=np.int64)
        np.add.at(near, np.maximum(self.first - window // 2, 0), 1)
        np.add.at(near, np.minimum(self.last + window // 2 + 1, scores.size), -1)
        #: Rows that any width labels at all.
        self.near = np.flatnonzero(np.cumsum(near[:-1]))
        #: Highest score of each widened segment by half width, as two widths share one.
        self._peaks: dict[int, FloatArray] = {}

    def _at_thresholds(self, weights: FloatArray, rows: IntArray) -> FloatArray:
        """Sum the weights of the rows that reach each threshold."""
        return np.cumsum(
            np.bincount(self.reached[rows], weights=weights[rows], minlength=_THRESHOLDS)
        )

    def average_precision(self, width: int) -> float:
        """Return the area under the precision-recall curve at one width of the buffer."""
        true = self._at_thresholds(self._soft_labels(width), self.near)
        positives = self.labels.sum() + (true - self.found) / 2.0
        recall = np.minimum(true / positives, 1.0) * self._share_found(width // 2)
        return float(np.dot(np.diff(recall, prepend=0.0), true / self.alarms))

    def _soft_labels(self, width: int) -> FloatArray:
        """Return the labels with buffers: 1 inside, falling off with the distance, at most 1."""
        soft = self.labels.astype(np.float64)
        distance = np.arange(1, width // 2 + 1)
        falling = np.sqrt(1.0 - distance / max(width, 1))
        for first, last in zip(self.first.tolist(), self.last.tolist(), strict=True):
            after = soft[last + 1 : last + 1 + distance.size]
            after += falling[: after.size]
            before = soft[max(first - distance.size, 0) : first]
            before += falling[: before.size][::-1]
        return np.minimum(soft, 1.0)

    def _share_found(self, half: int) -> FloatArray:
        """Return the share of segments, merged where buffers meet, found at each threshold."""
        if half not in self._peaks:
            apart = self.last[:-1] + half < self.first[1:] - half
            starts = self.first[np.r_[True, apart]] - half
            ends = self.last[np.r_[apart, True]] + half
            self._peaks[half] = np.array(
                [
                    self.scores[max(start, 0) : end + 1].max()
                    for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
                ]
            )
        peaks = self._peaks[half]
        return np.asarray((peaks[:, None] >= self.thresholds).mean(axis=0))
