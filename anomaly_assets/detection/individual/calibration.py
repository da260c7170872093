"""How far from its forecast a stream usually is: the scale that residuals are divided by."""

from __future__ import annotations

import numpy as np

from anomaly_assets.streams.windows import FloatArray, IntArray

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


def gap_factor(gap_windows: IntArray) -> FloatArray:
    """Return by how much a forecast over `gap_windows` windows is less sure than over one."""
    return _GAP_FACTORS[np.minimum(gap_windows, len(_GAP_FACTORS) - 1)]


def variance_floor(previous: FloatArray) -> FloatArray:
    """Return the least variance that a stream at this value may have."""
    floor = previous * RELATIVE_FLOOR
    floor *= floor
    floor += SMALLEST_VARIANCE
    return floor


def quick_start(nth: IntArray) -> IntArray:
    """Return the number that the `nth` residual counts as: about half.

    The first residuals are those of a forecaster that still settles; they are forgotten sooner than
    a plain mean would forget them.
    """
    return nth // 2 + 1


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

    def scale_squared(self, floor: FloatArray, out: FloatArray) -> None:
        """Write the variance to score with, at least `floor`, into `out`."""
        np.multiply(self.variance[1], LONG_SHARE, out=out)
        np.maximum(out, self.variance[0], out=out)
        np.maximum(out, floor, out=out)

    def learn(self, residual: FloatArray, scale_squared: FloatArray, rates: FloatArray) -> None:
        """Learn residuals.

        Parameters
        ----------
        residual
            Finite, shape ``(n_streams,)``.
        scale_squared
            What :meth:`scale_squared` gave for them.
        rates
            Weights in the two variances, shape ``(2, n_streams)``, 0 where nothing is learnt.
        """
        limit = scale_squared * LARGEST_LEARNT**2
        # A stream that never moved has no scale yet: its first move is learnt in full.
        np.copyto(limit, np.inf, where=self.variance[1] == 0.0)
        squared = residual * residual
        np.minimum(squared, limit, out=squared)
        change = squared - self.variance
        change *= rates
        self.variance += change
