"""From a studentised residual to a p-value: how heavy the tails are, learnt for each stream.

Tier 1 holds forecast residuals against these tails, the relationship voice of tier 2 its own.
"""

from __future__ import annotations

import math

import numpy as np

from anomaly_assets.detection.compiled import compiled
from anomaly_assets.detection.scoring import SMALLEST_P, student_t_p
from anomaly_assets.streams.windows import BoolArray, FloatArray, IntArray

#: Degrees of freedom of the prior once a stream has as many residuals.
MOST_DEGREES_OF_FREEDOM = 4
#: Where the tail begins, in scales.
THRESHOLD = 2.5
#: Weight of a new residual in what is known of the tail: about four weeks of windows.
TAIL_RATE = 1.0 / 8064.0
#: One residual's log excess counts as this at most: a single spike says little about a tail.
MOST_EXCESS = 1.0
#: A tail holds this share of the residuals, and has an index, within these bounds.
EXCEEDING_BOUNDS = (1e-3, 0.2)
INDEX_BOUNDS = (0.1, 1.0)
#: A record fades with this time constant, in residuals: a day of windows.
RECORD_MEMORY = 288.0
#: How fast what beats the record becomes less likely, by the power of its size over the record's.
RECORD_STEEPNESS = 4.0
#: A record is beaten by at most this factor at once, so that one glitch does not deafen for days.
LARGEST_RECORD_STEP = 3.0
#: After n readings no residual is rarer than this power of 1 / (n + 1): a whole number that changes
#: for the first time in its first hour is no certain anomaly.
YOUNG_STEEPNESS = 3.0
#: How many residuals the prior, Student's t with 4 degrees of freedom (index 1/4), counts for.
PRIOR_RESIDUALS = 100.0
_PRIOR_EXCEEDING = float(student_t_p(np.array([THRESHOLD]), np.array([4]))[0])
_LOG_PRIOR_EXCEEDING = float(np.log(_PRIOR_EXCEEDING))
#: Residuals, exceedances and the sum of their log excesses that every stream begins with.
PRIOR_TAIL = PRIOR_RESIDUALS * np.array([1.0, _PRIOR_EXCEEDING, _PRIOR_EXCEEDING / 4.0])


class TailShape:
    """How heavy the tail of each stream's studentised residuals is.

    One tail for all streams does them no justice: under Student's t with 4 degrees of freedom a
    skin temperature's spike of 8 scales is ordinary bad luck among 36 streams, and steps cry wolf.
    So that tail is only the prior. Learnt are, for each stream, how often a residual exceeds
    `THRESHOLD` and the mean logarithm of the excess, the Hill estimate of the tail's index. Beyond
    the threshold the tail is the power law with that index; below it, the prior bent to meet the
    power law.

    Tails come in bursts, whatever their shape: what is as large as something seen within the last
    day is no rarer than one in a day of residuals. The p-value is therefore at least that of
    beating the fading record of the stream, ``(size / record) ** -4 / 288``.

    Parameters
    ----------
    n_streams
        Length of the stream axis.

    References
    ----------
    Hill, B. M. (1975). A simple general approach to inference about the tail of a distribution.
    The Annals of Statistics 3(5).

    Examples
    --------
    Eight scales are ordinary until the tail is known to be light:

    >>> tails = TailShape(1)
    >>> always = np.ones((2000, 1), dtype=bool)
    >>> before = np.arange(2, 2002)[:, np.newaxis]
    >>> spike, at = np.array([[8.0]]), np.array([[2000]])
    >>> bool(tails.p(spike, at, always[:1], learn=False)[0, 0] > 5e-4)
    True
    >>> light = np.random.default_rng(0).standard_normal((2000, 1))
    >>> p = tails.p(light, before, always, learn=True)
    >>> bool(tails.p(spike, at, always[:1], learn=False)[0, 0] < 1e-4)
    True
    """

    def __init__(self, n_streams: int) -> None:
        #: Residuals, exceedances and their log excesses, faded, shape ``(3, n_streams)``.
        self.sums = np.repeat(PRIOR_TAIL[:, np.newaxis], n_streams, axis=1)
        self.record = np.full(n_streams, THRESHOLD)

    def forget(self, streams: IntArray) -> None:
        """Begin anew with some streams.

        Parameters
        ----------
        streams
            Their positions.
        """
        self.sums[:, streams] = PRIOR_TAIL[:, np.newaxis]
        self.record[streams] = THRESHOLD

    def p(
        self, t: FloatArray, readings_before: IntArray, known: BoolArray, *, learn: bool
    ) -> FloatArray:
        """Return the two-sided p-values of studentised residuals, and learn them.

        Every p-value is by what was learnt before its own window.

        Parameters
        ----------
        t
            Studentised residuals of a block, shape ``(n_windows, n_streams)``.
        readings_before
            Readings of each stream before each of them, broadcastable to `t`: the prior's degrees
            of freedom are one less.
        known
            Where there is a residual; elsewhere `t` is not looked at, the result is 1, and nothing
            is learnt.
        learn
            Whether to learn.

        Returns
        -------
        numpy.ndarray
            p-values in (0, 1], shape ``(n_windows, n_streams)``.
        """
        if readings_before.shape != t.shape:
            readings_before = np.broadcast_to(readings_before, t.shape)
        before = np.ascontiguousarray(readings_before)
        t = np.ascontiguousarray(t)
        prior = student_t_p(t, before - 1)
        p = np.ones(t.shape)
        learnt = (self.sums, self.record)
        _tail_p(t, prior, before, np.ascontiguousarray(known), *learnt, learn, SMALLEST_P, p)
        return p


_LOWEST_EXCEEDING, _HIGHEST_EXCEEDING = EXCEEDING_BOUNDS
_LOWEST_INDEX, _HIGHEST_INDEX = INDEX_BOUNDS


@compiled
def _tail_p(
    t: FloatArray,
    prior: FloatArray,
    readings_before: IntArray,
    known: BoolArray,
    sums: FloatArray,
    record: FloatArray,
    learn: bool,  # noqa: FBT001 - compiled functions take positions only
    smallest_p: float,
    p: FloatArray,
) -> None:
    """Write the p-values of known residuals into `p`, window by window, and learn them."""
    for row in range(t.shape[0]):
        for i in range(t.shape[1]):
            if not known[row, i]:
                continue
            size = abs(t[row, i])
            excess = math.log(max(size, THRESHOLD) / THRESHOLD)
            # Too few residuals to stand on: the prior's fewer degrees of freedom say how few.
            tail = prior[row, i]
            if readings_before[row, i] > MOST_DEGREES_OF_FREEDOM:
                exceeding = sums[1, i] / sums[0, i]
                exceeding = min(max(exceeding, _LOWEST_EXCEEDING), _HIGHEST_EXCEEDING)
                if excess > 0.0:
                    index = min(max(sums[2, i] / sums[1, i], _LOWEST_INDEX), _HIGHEST_INDEX)
                    tail = exceeding * math.exp(-excess / index)
                else:
                    tail = tail ** (math.log(exceeding) / _LOG_PRIOR_EXCEEDING)
                again = math.pow(record[i] / max(size, 1e-3), RECORD_STEEPNESS) / RECORD_MEMORY
                tail = max(tail, again)
            # Nothing is known to be rarer than a few readings can tell.
            tail = max(tail, (readings_before[row, i] + 1.0) ** -YOUNG_STEEPNESS)
            p[row, i] = min(max(tail, smallest_p), 1.0)
            if learn:
                faded = record[i] * (1.0 - 1.0 / RECORD_MEMORY)
                beaten = min(size, LARGEST_RECORD_STEP * record[i])
                record[i] = max(faded, beaten, THRESHOLD)
                fade = 1.0 - TAIL_RATE
                sums[0, i] = sums[0, i] * fade + 1.0
                sums[1, i] = sums[1, i] * fade + (1.0 if size > THRESHOLD else 0.0)
                sums[2, i] = sums[2, i] * fade + min(excess, MOST_EXCESS)
