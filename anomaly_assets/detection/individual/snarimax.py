"""Stable SNARIMAX(1, 1, 1) for many streams at once."""

from __future__ import annotations

import numpy as np

from anomaly_assets.detection.compiled import compiled
from anomaly_assets.detection.individual.carried import CarriedBlock
from anomaly_assets.streams.windows import BoolArray, FloatArray, IntArray

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

    def run(self, block: CarriedBlock, expected: FloatArray, *, learn: bool) -> None:
        """Forecast every window of a block, and learn it.

        Parameters
        ----------
        block
            The windows; the streams with this model come first.
        expected
            Receives the forecasts in its first columns, shape as the block.
        learn
            Whether to learn; without, every window is forecast as if it were the next.
        """
        state = (self.scale, self.total, self.weights, self.features)
        readings = (block.value, block.previous, block.observed, block.readings_before)
        _run(*readings, learn, *state, expected)


@compiled
def _run(
    value: FloatArray,
    previous: FloatArray,
    observed: BoolArray,
    readings_before: IntArray,
    learn: bool,  # noqa: FBT001 - compiled functions take positions only
    scale: FloatArray,
    total: FloatArray,
    weights: FloatArray,
    features: FloatArray,
    expected: FloatArray,
) -> None:
    """Write forecasts into `expected`, window by window, and learn."""
    for t in range(value.shape[0]):
        for i in range(scale.size):
            predicted = weights[0, i] * features[0, i] + weights[1, i] * features[1, i]
            # Through the running sum and back, as River does it: the rounding is part of the
            # result.
            expected[t, i] = ((predicted + total[i]) - total[i]) * scale[i] + previous[t, i]
            if not (learn and observed[t, i] and readings_before[t, i] > 0):
                continue
            difference = value[t, i] - previous[t, i]
            rate = max(1.0 / readings_before[t, i], SCALE_RATE)
            scale[i] += (abs(difference) - scale[i]) * rate
            step = difference / max(scale[i], SMALLEST_SCALE)
            after = total[i] + max(min(step, LARGEST_STEP), -LARGEST_STEP)
            moved = after - total[i]
            error = moved - predicted
            slope = max(min(-2.0 * error, LARGEST_GRADIENT), -LARGEST_GRADIENT)
            for k in range(2):
                gradient = features[k, i] * slope + L2 * weights[k, i]
                weights[k, i] -= gradient * LEARNING_RATE
            features[0, i] = moved
            features[1, i] = error
            total[i] = after
