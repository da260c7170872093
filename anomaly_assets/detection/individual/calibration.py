"""How far from its forecast a stream usually is: the scale that residuals are divided by."""

from __future__ import annotations

import math

import numpy as np

from anomaly_assets.detection.compiled import compiled
from anomaly_assets.detection.individual.carried import CarriedBlock
from anomaly_assets.streams.windows import BoolArray, FloatArray, IntArray

#: Weight of a new squared residual in the variance that scores are taken from.
RATE = 0.02
#: Weight in the long-run variance, about a week of windows; a share of it is the floor of the
#: other, so that a stream which rests for hours does not alarm when it wakes up.
LONG_RATE = 1.0 / 2016.0
LONG_SHARE = 0.09
#: A residual is learnt as at most this many scales, so that one spike does not blow the scale up.
LARGEST_LEARNT = 4.0
#: Scales are at least this share of the value: below lies the noise of the representation.
RELATIVE_FLOOR = 1e-6
SMALLEST_VARIANCE = 1e-30
#: After a gap of n windows a forecast is off by min(n ** 0.35, 3) times as much.
GAP_EXPONENT = 0.35
LARGEST_GAP_FACTOR = 3.0
_GAP_FACTORS = np.array(
    [1.0, *(min(float(n) ** GAP_EXPONENT, LARGEST_GAP_FACTOR) for n in range(1, 25))]
)


class ResidualVariance:
    """Exponentially weighted variance of every stream's forecast residuals.

    Learnt after scoring and winsorised at 4 scales: one spike raises the variance by a third at
    most, while a lasting tenfold change of scale is learnt within about 18 windows.

    Parameters
    ----------
    n_streams
        Length of the stream axis.
    """

    def __init__(self, n_streams: int) -> None:
        #: The quick variance first, then the long-run one.
        self.variance = np.zeros((2, n_streams))

    def run(
        self, block: CarriedBlock, gaps: IntArray, expected: FloatArray, *, learn: bool
    ) -> FloatArray:
        """Studentise the residuals of a block, each by what was learnt before it, and learn them.

        Parameters
        ----------
        block
            The windows; the streams with forecasts come first.
        gaps
            Windows since the last observation before each window, shape as the block.
        expected
            Forecasts in the first columns, shape as the block.
        learn
            Whether to learn.

        Returns
        -------
        numpy.ndarray
            Residuals over their scales, shape ``(n_windows, n_streams)``; of use only where there
            is a reading and a forecast.
        """
        studentised = np.empty((len(expected), self.variance.shape[1]))
        readings = (block.value, block.previous, block.observed, block.readings_before)
        _run(*readings, gaps, _GAP_FACTORS, expected, learn, self.variance, studentised)
        return studentised


@compiled
def _run(
    value: FloatArray,
    previous: FloatArray,
    observed: BoolArray,
    readings_before: IntArray,
    gaps: IntArray,
    gap_factors: FloatArray,
    expected: FloatArray,
    learn: bool,  # noqa: FBT001 - compiled functions take positions only
    variance: FloatArray,
    studentised: FloatArray,
) -> None:
    """Write residuals over their scales into `studentised`, window by window, and learn."""
    for t in range(studentised.shape[0]):
        for i in range(studentised.shape[1]):
            easing = 1.0 / gap_factors[min(gaps[t, i], gap_factors.size - 1)]
            residual = (value[t, i] - expected[t, i]) * easing
            floor = previous[t, i] * RELATIVE_FLOOR
            quick, long = variance[0, i], variance[1, i]
            scale = max(long * LONG_SHARE, quick, floor * floor + SMALLEST_VARIANCE)
            studentised[t, i] = residual / math.sqrt(scale)
            nth = readings_before[t, i]
            if learn and observed[t, i] and nth > 0:
                squared = residual * residual
                # A stream that never moved has no scale yet: its first move is learnt in full.
                if long != 0.0:
                    squared = min(squared, scale * LARGEST_LEARNT**2)
                # The first residuals are those of a forecaster that still settles: the quick
                # variance forgets them sooner than a plain mean would.
                variance[0, i] += (squared - quick) * max(1.0 / (nth // 2 + 1), RATE)
                variance[1, i] += (squared - long) * max(1.0 / nth, LONG_RATE)
