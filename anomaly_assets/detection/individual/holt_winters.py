"""Holt-Winters (double exponential smoothing) for many streams at once."""

from __future__ import annotations

import numpy as np

from anomaly_assets.detection.compiled import compiled
from anomaly_assets.detection.individual.carried import CarriedBlock
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

    def run(self, block: CarriedBlock, first: int, expected: FloatArray, *, learn: bool) -> None:
        """Forecast every window of a block, and learn it.

        Parameters
        ----------
        block
            The windows.
        first
            Column of the first stream with this model; the others follow.
        expected
            Receives the forecasts in the same columns, shape as the block.
        learn
            Whether to learn; without, every window is forecast as if it were the next.
        """
        readings = (block.value, block.observed, block.readings_before)
        _run(*readings, first, learn, self.state, expected)


@compiled
def _run(
    value: FloatArray,
    observed: BoolArray,
    readings_before: IntArray,
    first: int,
    learn: bool,  # noqa: FBT001 - compiled functions take positions only
    state: FloatArray,
    expected: FloatArray,
) -> None:
    """Write forecasts into `expected`, window by window, and learn."""
    for t in range(value.shape[0]):
        for i in range(state.shape[1]):
            column = first + i
            level, trend = state[0, i], state[1, i]
            expected[t, column] = level + trend
            if not (learn and observed[t, column]):
                continue
            reading = value[t, column]
            if readings_before[t, column] == 0:
                state[0, i], state[1, i] = reading, 0.0
            elif readings_before[t, column] == 1:
                state[0, i], state[1, i] = (level + reading) / 2.0, reading - level
            else:
                state[0, i] = (level + trend) * (1.0 - ALPHA) + ALPHA * reading
                state[1, i] = (state[0, i] - level) * BETA + (1.0 - BETA) * trend
