"""Option B's model: a fitted time-series forest as plain arrays, walked without its library.

Fitting needs sktime; scoring must not: neither its imports nor its pickles belong on a path that
answers within milliseconds and unpickles nothing but what it knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from anomaly_assets.detection.feedback.series import as_series
from anomaly_assets.errors import StateError
from anomaly_assets.streams.windows import FloatArray, IntArray

if TYPE_CHECKING:
    from sktime.classification.interval_based import TimeSeriesForestClassifier

_LEAF: Final = -1


@dataclass(eq=False)
class SeriesForest:
    """Says how likely people are to confirm an alarm, from the scores of the last hour.

    Parameters
    ----------
    series_length
        Length of the series that it takes.
    intervals
        Start and end of the intervals that each tree looks at, shape ``(n_trees, n_intervals, 2)``.
    left, right, feature
        By tree and node: children (-1 at a leaf), and which feature is asked; features are mean,
        standard deviation and slope of each interval in turn.
    limit, share
        By tree and node: the feature's limit, and at a leaf the share of confirmed anomalies.
    cut
        Probability from which on an alarm stands.
    """

    series_length: int
    intervals: IntArray
    left: IntArray
    right: IntArray
    feature: IntArray
    limit: FloatArray
    share: FloatArray
    cut: float = 0.5
    version: int = 1

    @classmethod
    def empty(cls) -> SeriesForest:
        """Return a forest without trees, which knows its own version only."""
        none: IntArray = np.empty((0, 0), dtype=np.int64)
        nothing: FloatArray = np.empty((0, 0))
        return cls(0, none.reshape(0, 0, 2), none, none, none, nothing, nothing)

    @classmethod
    def compiled(cls, fitted: TimeSeriesForestClassifier, confirmed: int) -> SeriesForest:
        """Take the arrays out of a fitted classifier.

        Parameters
        ----------
        fitted
            Of sktime.
        confirmed
            Position of the class that means a confirmed anomaly.
        """
        trees = [estimator.tree_ for estimator in fitted.estimators_]
        nodes = max(tree.node_count for tree in trees)

        def column(values: list[Any], fill: float) -> FloatArray:
            table = np.full((len(trees), nodes), fill)
            for row, own in zip(table, values, strict=True):
                row[: len(own)] = own
            return table

        shares = [tree.value[:, 0, confirmed] / tree.value[:, 0, :].sum(axis=1) for tree in trees]
        return cls(
            series_length=int(fitted.series_length),
            intervals=np.array(fitted.intervals_, dtype=np.int64),
            left=column([tree.children_left for tree in trees], _LEAF).astype(np.int64),
            right=column([tree.children_right for tree in trees], _LEAF).astype(np.int64),
            feature=column([tree.feature for tree in trees], 0).astype(np.int64),
            limit=column([tree.threshold for tree in trees], 0.0),
            share=column(shares, 0.0),
        )

    def probability(self, recent: FloatArray) -> FloatArray:
        """Return how likely each alarm is to be confirmed, in [0, 1].

        Parameters
        ----------
        recent
            Shape ``(n, HISTORY, n_channels)``, as
            :func:`~anomaly_assets.detection.feedback.series.recent_scores` returns it.

        Raises
        ------
        StateError
            If the forest was fitted on other channels.
        """
        series = as_series(recent)
        if series.shape[1] != self.series_length:
            msg = (
                f"the meta-learner takes series of {self.series_length} values, these have "
                f"{series.shape[1]}: the catalogue has changed; train it again (asset meta_learner)"
            )
            raise StateError(msg)
        return np.array([self._one(own) for own in series], dtype=np.float64)

    def score(self, recent: FloatArray, threshold: float) -> FloatArray:
        """Return the same as scores that are held against a threshold.

        The probability at which an alarm stands becomes the threshold; what lies above is spread
        up to 1, what lies below down to 0.
        """
        q = self.probability(recent)
        with np.errstate(divide="ignore", invalid="ignore"):
            above = threshold + (1.0 - threshold) * (q - self.cut) / (1.0 - self.cut)
            below = threshold * q / self.cut
        # An alarm at the very cut stands, so its score has to exceed the threshold.
        return np.where(q >= self.cut, np.maximum(above, np.nextafter(threshold, 1.0)), below)

    def _one(self, series: FloatArray) -> float:
        """Return the probability of one window: whatever it is asked with, the same bits."""
        features = self._features(series)
        trees = np.arange(len(self.left))
        node = np.zeros(len(self.left), dtype=np.int64)
        while True:
            left = self.left[trees, node]
            inner = left != _LEAF
            if not inner.any():
                return float(self.share[trees, node].mean())
            asked = features[trees, self.feature[trees, node]]
            # The library asks in single precision.
            goes_left = asked <= self.limit[trees, node]
            step = np.where(goes_left, left, self.right[trees, node])
            node = np.where(inner, step, node)

    def _features(self, series: FloatArray) -> FloatArray:
        """Return mean, standard deviation and slope of every interval, by tree."""
        start, stop = self.intervals[..., 0], self.intervals[..., 1]
        length = (stop - start).astype(np.float64)
        longest = int((stop - start).max())
        number = np.arange(longest)
        inside = number < (stop - start)[..., np.newaxis]
        at = np.minimum(start[..., np.newaxis] + number, self.series_length - 1)
        values = np.where(inside, series[at], 0.0)
        mean = values.sum(axis=-1) / length
        centred = np.where(inside, values - mean[..., np.newaxis], 0.0)
        spread = np.sqrt((centred * centred).sum(axis=-1) / length)
        place = np.where(inside, number - (length[..., np.newaxis] - 1.0) / 2.0, 0.0)
        slope = (values * place).sum(axis=-1) / (place * place).sum(axis=-1)
        return (
            np.stack([mean, spread, slope], axis=-1)
            .reshape(len(start), -1)
            .astype(np.float32)
            .astype(np.float64)
        )
