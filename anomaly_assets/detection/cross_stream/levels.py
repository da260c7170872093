"""A voice for unusual states: all streams together, against what is usual at this time of day.

Forecasts from the last value notice how something begins and ends. What goes on in between, a
server that is overloaded for hours, is ordinary to them after two windows; against the usual level
of the hour it is not.
"""

from __future__ import annotations

import math

import numpy as np

from anomaly_assets.detection.compiled import compiled
from anomaly_assets.streams.windows import WINDOWS_PER_DAY, FloatArray, IntArray, WindowBlock

#: A day is told apart in quarters of an hour.
BINS = 96
#: Weight of a new value in the level of its time of day, and half-life (windows) of the level of
#: all times.
SEASONAL_RATE = 0.02
HALF_LIFE = 2000.0
#: Share of a stream's overall variance that counts in the variance of every time of day.
VARIANCE_SHARE = 0.25**2
#: Values are learnt up to this many standard deviations from their level, once a stream has been
#: seen for a day: what lasts must not be learnt away.
LARGEST_LEARNT = 4.0
#: What goes on being winsorised for a day has come to stay: from then on the limit is doubled
#: every 20 minutes, at most this often. What is not winsorised takes back as much.
DOUBLINGS_A_DAY = 72.0
MOST_DOUBLINGS = 300.0
#: Deviations count up to here.
LARGEST_DEVIATION = 200.0
#: A window this many times as unusual as usual is learnt less, by the square of the excess, but at
#: least at this share of the rate.
UNUSUAL = 2.0
LEAST_LEARNT = 0.02
#: Weight of a new window in what is usual of all streams together, and its first value.
USUAL_RATE = 0.0005
FIRST_USUAL = 0.15
#: Few streams are unusual together by chance: unusualness is taken times ``n / (n + this)``.
CHANCE = 3.0
#: Half-lives (windows) over which the unusualness is averaged: what lasts says more.
AVERAGED_OVER = (1.0, 4.0, 16.0)
_FADES = 1.0 - 0.5 ** (1.0 / np.array(AVERAGED_OVER))
_LEVEL_RATE = 1.0 - 0.5 ** (1.0 / HALF_LIFE)
#: Logarithm (base 10) of the voice's odds at some levels of unusualness, found on the benchmarks:
#: straight in between, steep beyond.
KNOTS = np.array([[0.0, 0.22, 0.65], [-1.0, 1.2, 1.8]])
STEEPNESS = 8.0
MOST_ODDS = 20.0
#: Rates of the evidence: half-life of 4 windows of the level, ten days of the mean square.
EVIDENCE_RATE = 1.0 - 0.5 ** (1.0 / 4.0)
EVIDENCE_LONG_RATE = 1.0 / 3000.0
#: Evidence counts up to here, so that it stays finite.
LARGEST_EVIDENCE = 1e100


class LevelModel:
    r"""How unusual the levels of all streams are, and which streams are.

    Each stream has a level and variance for every quarter of an hour of the local day and one for
    all times. The two are blended by how well either has predicted, so that a stream without a
    daily cycle is not cut into 96 pieces. With the deviations :math:`z` of the streams that are
    there, a window's unusualness is the mean of :math:`\log(1 + z^2 / 4)`, averaged over half-lives
    of 1, 4 and 16 windows.

    Two things keep a lasting anomaly from becoming the new normal: values are winsorised before
    they are learnt, and windows far more unusual than usual are learnt slowly.

    Parameters
    ----------
    n_streams
        Number of streams.
    """

    def __init__(self, n_streams: int) -> None:
        #: Mean, variance and number of values of each time of day, ``(3, BINS, n_streams)``.
        self._profile = np.zeros((3, BINS, n_streams))
        #: Mean, variance, number of values, and mean squared errors of the time of day's level and
        #: of the one of all times, days winsorised of late, ``(6, n_streams)``.
        self._level = np.zeros((6, n_streams))
        #: Usual unusualness, number of windows, days more unusual than usual of late, the averages.
        self._window = np.concatenate([[FIRST_USUAL, 0.0, 0.0], np.zeros(len(AVERAGED_OVER))])
        #: Hour of the last window.
        self._hour = np.full(1, np.nan)
        #: Short-term level and long-term mean square of the distance from it, ``(2, n_streams)``.
        self._recent = np.zeros((2, n_streams))

    def usual(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return mean, standard deviation and number of values of each stream, at all times."""
        mean, variance, count = self._level[:3]
        known = count > 0.0
        spread = np.sqrt(np.maximum(variance, 0.0))
        return np.where(known, mean, np.nan), np.where(known, spread, np.nan), count.copy()

    def process(self, block: WindowBlock, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Judge every window by what was learnt before it, then learn it.

        Parameters
        ----------
        block
            The windows that follow the last ones processed.
        values
            Its values, within 1e100 of 0, shape ``(n_windows, n_streams)``.

        Returns
        -------
        odds
            Odds that the window's state is unusual, at least 0, shape ``(n_windows,)``; NaN where
            nothing is observed or known.
        evidence
            How much every stream contributes to what is unusual *now*: its squared distance from
            its level of the last windows over the long-term mean of the same, at least 0, shape
            ``(n_windows, n_streams)``; NaN where it is missing.
        """
        unusual = np.full(len(block), np.nan)
        evidence = np.full(values.shape, np.nan)
        bins = np.minimum(block.calendar.hour * (BINS / 24.0), BINS - 1).astype(np.int64)
        days = self._days_passed(block.calendar.hour)
        known = (self._profile, self._level, self._window, self._recent)
        _process(values, bins, days, _FADES, *known, unusual, evidence)
        exponent = np.interp(unusual, *KNOTS)
        exponent += STEEPNESS * np.maximum(unusual - KNOTS[0, -1], 0.0)
        return np.power(10.0, np.minimum(exponent, MOST_ODDS)), evidence

    def _days_passed(self, hour: FloatArray) -> FloatArray:
        """Return the part of a local day that each window adds; clocks set back add none."""
        steps = np.diff(hour, prepend=self._hour if hour.size else []) % 24.0
        if hour.size:
            self._hour = hour[-1:].copy()
        return np.where(steps < 12.0, steps, 0.0) / 24.0


@compiled
def _process(
    values: FloatArray,
    bins: IntArray,
    days: FloatArray,
    fades: FloatArray,
    profile: FloatArray,
    level: FloatArray,
    window: FloatArray,
    recent: FloatArray,
    unusual: FloatArray,
    evidence: FloatArray,
) -> None:
    """Judge and learn windows one after the other."""
    n_streams = values.shape[1]
    for t in range(len(values)):
        at = bins[t]
        total, largest, count = 0.0, 0.0, 0
        for i in range(n_streams):
            if math.isnan(values[t, i]):
                continue
            if level[2, i] >= 2.0:
                z = _deviation(values[t, i], profile[:, at, i], level[:, i])
                oddity = math.log1p(0.25 * z * z)
                total += oddity
                largest = max(largest, oddity)
                count += 1
        share = 1.0
        if count > 0:
            # Among few, the largest alone is no common state: it is for tier 1 to judge.
            together = (total - largest * min(CHANCE / count, 1.0)) / (count + CHANCE)
            share = _unusual_share(total / count, days[t], window)
            mean = 0.0
            for k in range(fades.size):
                window[3 + k] += fades[k] * (together - window[3 + k])
                mean += window[3 + k]
            unusual[t] = mean / fades.size * min(1.0, FIRST_USUAL / window[0])
        for i in range(n_streams):
            if not math.isnan(values[t, i]):
                evidence[t, i] = _evidence(values[t, i], level[2, i], recent[:, i])
                _learn(values[t, i], share, days[t], profile[:, at, i], level[:, i])


@compiled
def _deviation(value: float, profile: FloatArray, level: FloatArray) -> float:
    """Return the distance from the blended level in standard deviations."""
    weight = 0.0
    if profile[2] > 0.0:
        # Equal until there is an error of either.
        weight = (level[4] + 1e-200) / (level[3] + level[4] + 2e-200)
    mean = weight * profile[0] + (1.0 - weight) * level[0]
    seasonal = profile[1] + VARIANCE_SHARE * level[1]
    variance = weight * seasonal + (1.0 - weight) * level[1]
    z = (value - mean) / (math.sqrt(variance) + 1e-9 * abs(mean) + 1e-200)
    return max(min(z, LARGEST_DEVIATION), -LARGEST_DEVIATION)


@compiled
def _unusual_share(unusual: float, passed: float, window: FloatArray) -> float:
    """Return at which share of the rate a window is to be learnt, and learn what is usual."""
    share = 1.0
    ratio = unusual / window[0]
    if ratio <= UNUSUAL:
        window[2] = max(window[2] - passed, 0.0)
    elif window[1] >= WINDOWS_PER_DAY:
        window[2] += passed
        if window[2] <= 1.0:
            share = max(LEAST_LEARNT, (UNUSUAL / ratio) ** 2)
    window[0] += max(USUAL_RATE, 1.0 / (window[1] + 20.0)) * share * (unusual - window[0])
    window[0] = max(window[0], 1e-3)
    window[1] += 1.0
    return share


@compiled
def _evidence(value: float, seen: float, recent: FloatArray) -> float:
    """Return the squared distance from the level of the last windows over its long-term mean."""
    if seen == 0.0:
        recent[0] = value
        return 0.0
    squared = (value - recent[0]) ** 2
    evidence = 0.0
    if seen >= 20.0 and recent[1] > 0.0:
        evidence = min(squared / recent[1], LARGEST_EVIDENCE)
    recent[0] += EVIDENCE_RATE * (value - recent[0])
    recent[1] += max(EVIDENCE_LONG_RATE, 1.0 / (seen + 1.0)) * (squared - recent[1])
    return evidence


@compiled
def _learn(
    value: float, share: float, passed: float, profile: FloatArray, level: FloatArray
) -> None:
    """Move a stream's levels and variances, and the errors of both levels."""
    seen = level[2]
    level[2] += 1.0
    if seen == 0.0:
        level[0] = profile[0] = value
        profile[2] = 1.0
        return
    old = seen >= WINDOWS_PER_DAY
    lasting = level[5] - 1.0
    widened = 2.0 ** min(DOUBLINGS_A_DAY * lasting, MOST_DOUBLINGS) if lasting > 0.0 else 1.0
    if seen >= 20.0 and profile[2] > 0.0:
        limit = LARGEST_LEARNT**2 * level[1]
        rate = max(_LEVEL_RATE, 1.0 / seen) * share
        level[3] += rate * (min((value - profile[0]) ** 2, limit) - level[3])
        level[4] += rate * (min((value - level[0]) ** 2, limit) - level[4])
    seasonal = LARGEST_LEARNT * math.sqrt(profile[1] + VARIANCE_SHARE * level[1])
    # What has never varied has no scale yet: its first change gives it one.
    limit = LARGEST_LEARNT * math.sqrt(level[1]) if old and level[1] > 0.0 else math.inf
    far = abs(value - level[0]) > limit
    level[5] = level[5] + passed if far else max(level[5] - passed, 0.0)
    limit *= widened
    if lasting > 0.0:
        share = 1.0
    rate = max(_LEVEL_RATE, 1.0 / (seen + 1.0)) * (share if old else 1.0)
    change = max(min(value - level[0], limit), -limit)
    level[0] += rate * change
    level[1] = (1.0 - rate) * (level[1] + rate * change * change)
    profile[2] += 1.0
    if profile[2] == 1.0:
        profile[0] = value
        return
    change = value - profile[0]
    if seasonal > 0.0:
        seasonal *= widened
        change = max(min(change, seasonal), -seasonal)
    rate = max(SEASONAL_RATE, 1.0 / profile[2]) * (share if profile[2] > 4.0 else 1.0)
    profile[0] += rate * change
    profile[1] = (1.0 - rate) * (profile[1] + rate * change * change)
