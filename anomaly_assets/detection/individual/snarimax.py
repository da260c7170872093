"""Stable SNARIMAX(1, 1, 1) for many streams at once."""

from __future__ import annotations

import numpy as np

from anomaly_assets.streams.windows import BoolArray, FloatArray

#: Weight of a new difference in the mean absolute difference.
SCALE_RATE = 0.02
#: Scaled differences are clipped at this size.
LARGEST_STEP = 5.0
LEARNING_RATE = 0.005
L2 = 1e-3
LARGEST_GRADIENT = 2.0
#: Stands in for a mean absolute difference of 0, where every difference so far was 0.
SMALLEST_SCALE = 1e-300


class SnarimaxArray:
    """The arithmetic of :class:`~.river_models.StableSNARIMAX`, stream by stream in arrays.

    River's SNARIMAX(p=1, d=1, q=1) explodes on most real series. It is stable when it is fed the
    running sum of clipped scaled differences (a difference over the exponentially weighted mean
    absolute difference, clipped at 5) and its forecast is scaled back.

    Parameters
    ----------
    n_streams
        Length of the stream axis.

    References
    ----------
    Anava, O., Hazan, E., Mannor, S. and Shamir, O. (2013). Online learning for time series
    prediction. Conference on Learning Theory, 172-184.
    """

    def __init__(self, n_streams: int) -> None:
        self.scale = np.zeros(n_streams)
        self.total = np.zeros(n_streams)
        #: Weights and features, autoregressive part first, then the moving average.
        self.weights = np.zeros((2, n_streams))
        self.features = np.zeros((2, n_streams))

    def _predicted_step(self) -> FloatArray:
        product = self.weights * self.features
        step: FloatArray = product[0] + product[1]
        return step

    def forecast(self, previous: FloatArray, out: FloatArray) -> None:
        """Write the next values into `out`.

        Parameters
        ----------
        previous
            Last value of each stream.
        out
            Where the forecasts go, shape ``(n_streams,)``.
        """
        # Through the running sum and back, as River does it: the rounding is part of the result.
        np.add(self._predicted_step(), self.total, out=out)
        out -= self.total
        out *= self.scale
        out += previous

    def learn(self, difference: FloatArray, rate: FloatArray, learning: BoolArray) -> None:
        """Learn the difference between the new value of each stream and the one before it.

        Parameters
        ----------
        difference
            0 where there is nothing to learn.
        rate
            Weight of the difference in the scale, 0 where there is nothing to learn.
        learning
            Where there is a second or later reading.
        """
        change = np.abs(difference)
        change -= self.scale
        change *= rate
        self.scale += change
        step = difference / np.maximum(self.scale, SMALLEST_SCALE)
        np.minimum(step, LARGEST_STEP, out=step)
        np.maximum(step, -LARGEST_STEP, out=step)
        total = self.total + step
        predicted = self._predicted_step()
        new = np.empty_like(self.features)
        np.subtract(total, self.total, out=new[0])
        np.subtract(new[0], predicted, out=new[1])
        slope = -2.0 * new[1]
        np.minimum(slope, LARGEST_GRADIENT, out=slope)
        np.maximum(slope, -LARGEST_GRADIENT, out=slope)
        gradient = self.features * slope
        gradient += L2 * self.weights
        gradient *= LEARNING_RATE
        gradient *= learning
        self.weights -= gradient
        np.copyto(self.features, new, where=learning)
        self.total = total
