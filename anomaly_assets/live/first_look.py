"""A score for a single reading, before its window is over.

The reading is held against tier 1's forecast and tail as they are, read in place and without
learning. It differs from the score that its window gets later in this:

- One reading stands for the window's value. For ``mean`` and ``last`` it is the reading itself, so
  that a spike shows undiluted, though it may come to nothing in the window's mean. For ``sum``,
  ``count`` and ``max`` it is what the window has come to so far; as this can only grow, a value
  below the forecast is not odd yet and scores 0.
- The forecast is that of the window after the last closed one, even if the reading's own window is
  one or two further on.
- It knows nothing of other streams: no tier 2, no gaps, no ensemble.
- A total so far counts a repeated reading twice.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from anomaly_assets.streams.catalogue import Aggregation

if TYPE_CHECKING:
    from anomaly_assets.detection.individual.detector import IndividualDetector
    from anomaly_assets.streams.catalogue import Catalogue
    from anomaly_assets.streams.windows import FloatArray

_GROWING = (Aggregation.SUM, Aggregation.COUNT, Aggregation.MAX)


class RunningValues:
    """What the open windows have come to, as far as first looks need it.

    Parameters
    ----------
    catalogue
        How each stream is aggregated.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._how = [stream.aggregation for stream in catalogue.streams]
        self._so_far: dict[int, FloatArray] = {}
        self._row = np.full(len(self._how), np.nan)

    def add(self, window: int, stream: int, value: float) -> float:
        """Take a reading in and return the value to be held against the forecast."""
        how = self._how[stream]
        if how not in _GROWING:
            return value
        so_far = self._so_far.get(window)
        if so_far is None:
            so_far = self._so_far[window] = np.full(len(self._how), np.nan)
        before = float(so_far[stream])
        if math.isnan(before):
            now = 1.0 if how is Aggregation.COUNT else value
        elif how is Aggregation.MAX:
            now = max(before, value)
        else:
            now = before + (1.0 if how is Aggregation.COUNT else value)
        limit = float(np.finfo(np.float64).max)
        so_far[stream] = min(max(now, -limit), limit)
        return float(so_far[stream])

    def score(
        self, detector: IndividualDetector, stream: int, compared: float
    ) -> tuple[float | None, float | None, float | None]:
        """Return score, expected value and deviation; None where unknown. Nothing is learnt."""
        self._row[stream] = compared
        try:
            scores, expected, deviation = detector.peek(self._row)
        finally:
            self._row[stream] = np.nan
        score, forecast = _known(scores[stream]), _known(expected[stream])
        growing = self._how[stream] in _GROWING
        if growing and score is not None and forecast is not None and compared <= forecast:
            score = 0.0
        return score, forecast, _known(deviation[stream])

    def forget(self, before: int) -> None:
        """Drop the windows before a time."""
        for window in [window for window in self._so_far if window < before]:
            del self._so_far[window]


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
