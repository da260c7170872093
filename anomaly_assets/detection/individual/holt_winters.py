"""Holt-Winters (double exponential smoothing) for many streams at once."""

from __future__ import annotations

import numpy as np

from anomaly_assets.streams.windows import BoolArray, FloatArray, IntArray

ALPHA = 0.3
BETA = 0.1


class HoltWintersArray:
    """The arithmetic of :class:`~.river_models.GuardedHoltWinters`, stream by stream in arrays.

    Level and trend start from the first two values; after a single one the forecast is that value.

    Parameters
    ----------
    n_streams
        Length of the stream axis.

    References
    ----------
    Holt, C. C. (2004). Forecasting seasonals and trends by exponentially weighted moving averages.
    International Journal of Forecasting 20(1), 5-10.
    """

    def __init__(self, n_streams: int) -> None:
        #: Level first, then trend.
        self.state = np.zeros((2, n_streams))

    def forecast(self, out: FloatArray) -> None:
        """Write the next values into `out`, shape ``(n_streams,)``."""
        np.add(self.state[0], self.state[1], out=out)

    def learn(self, value: FloatArray, observed: BoolArray, readings_before: IntArray) -> None:
        """Learn a window.

        Parameters
        ----------
        value
            Finite everywhere, of any size where not observed.
        observed
            Where there is something to learn.
        readings_before
            Readings of each stream before this one.
        """
        level, trend = self.state
        new = np.empty_like(self.state)
        np.add(level, trend, out=new[0])
        new[0] *= 1.0 - ALPHA
        new[0] += ALPHA * value
        np.subtract(new[0], level, out=new[1])
        new[1] *= BETA
        new[1] += (1.0 - BETA) * trend
        if readings_before.size and readings_before.min() < 2:
            first = readings_before == 0
            second = readings_before == 1
            new[0] = np.where(first, value, np.where(second, (level + value) / 2.0, new[0]))
            new[1] = np.where(first, 0.0, np.where(second, value - level, new[1]))
        np.copyto(self.state, new, where=observed)
