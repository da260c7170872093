"""How often lead-lag analysis finds what is not there, and how often it finds what is.

A data set is one day of windows (288) of six streams, 15 pairs, judged at lags from -10 to +10
minutes. Where the streams are independent every finding is false; where three of them drive the
other three, those pairs, each with its direction, lag and sign, are to be found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from anomaly_assets.detection.explanation.events import MINUTES_PER_WINDOW
from anomaly_assets.detection.explanation.lead_lag import LeadLag
from anomaly_assets.errors import EvaluationError
from anomaly_assets.streams.windows import FloatArray

#: Windows of a data set (a day), its streams, and the data sets of one seed and family.
WINDOWS = 288
STREAMS = 6
DATA_SETS = 50
#: Coupling of the innovations of leader and follower, and its lag in windows.
COUPLING = 0.4
LAG = 1
#: Share of the values that is missing, each by itself.
MISSING = 0.2
#: Autocorrelation of independent streams, and of those whose coupling is to be found.
STRONG_AUTOCORRELATION = 0.9
AUTOCORRELATION = 0.5
_BURN_IN = 100

Family = Callable[[np.random.Generator], FloatArray]


def _innovations(rng: np.random.Generator) -> FloatArray:
    return rng.standard_normal((WINDOWS + _BURN_IN, STREAMS))


def _autoregressive(innovations: FloatArray, coefficient: float) -> FloatArray:
    """First-order autoregression driven by innovations, its beginning thrown away."""
    values = innovations.copy()
    for row in range(1, len(values)):
        values[row] += coefficient * values[row - 1]
    return values[_BURN_IN:]


def _time_of_day() -> FloatArray:
    """Angle of each window in the day, shape ``(WINDOWS, 1)``."""
    return (2.0 * np.pi * np.arange(WINDOWS) / WINDOWS)[:, None]


def _autocorrelated(rng: np.random.Generator) -> FloatArray:
    return _autoregressive(_innovations(rng), STRONG_AUTOCORRELATION)


def _daily_wave(rng: np.random.Generator) -> FloatArray:
    """Draw waves of nearly one phase, up to fifteen times as high as the innovations."""
    height, phase = rng.uniform(3.0, 15.0, STREAMS), rng.normal(0.0, 0.4, STREAMS)
    return height * np.sin(_time_of_day() + phase) + _autocorrelated(rng)


def _daytime() -> FloatArray:
    """One by day, 0 by night, with a wake-up and a bedtime of half an hour."""
    return 1.0 / (1.0 + np.exp(-8.0 * np.sin(_time_of_day() - 0.8)))


def _day_and_night(rng: np.random.Generator) -> FloatArray:
    """Another level by day, the same hour of waking in every stream."""
    level = rng.uniform(1.0, 5.0, STREAMS) * _daytime()
    return level + _autoregressive(_innovations(rng), AUTOCORRELATION)


def _livelier_by_day(rng: np.random.Generator) -> FloatArray:
    """Keep the level all day, with seven times the noise by day."""
    return (0.3 + 2.0 * _daytime()) * _autoregressive(_innovations(rng), AUTOCORRELATION)


def _counts_by_day(rng: np.random.Generator) -> FloatArray:
    """Count what comes by day and stops at night: level and noise move together."""
    return rng.poisson(3.0 * _daytime(), (WINDOWS, STREAMS)).astype(np.float64)


#: Kinds of independent data.
INDEPENDENT: dict[str, Family] = {
    "autocorrelated": _autocorrelated,
    "daily_wave": _daily_wave,
    "day_and_night": _day_and_night,
    "livelier_by_day": _livelier_by_day,
    "counts_by_day": _counts_by_day,
}


def _with_gaps(values: FloatArray, rng: np.random.Generator) -> FloatArray:
    values[rng.random(values.shape) < MISSING] = np.nan
    return values


def false_positive_rates(seeds: Iterable[int]) -> dict[str, float]:
    """Share of the data sets of independent streams in which anything at all is found.

    That is the strictest reading of a false positive rate: one false pair among 15 spoils a data
    set. Half of the data sets have gaps.

    Parameters
    ----------
    seeds
        Each gives :data:`DATA_SETS` data sets of every family.

    Returns
    -------
    dict
        The rate of each family of :data:`INDEPENDENT`.

    Raises
    ------
    EvaluationError
        If there are no seeds.
    """
    wanted = _checked(seeds)
    rates = {}
    for number, (name, family) in enumerate(INDEPENDENT.items()):
        false = 0
        for seed in wanted:
            for index in range(DATA_SETS):
                rng = np.random.default_rng([seed, number, index])
                values = family(rng)
                false += bool(LeadLag(_with_gaps(values, rng) if index % 2 else values).findings())
        rates[name] = false / (len(wanted) * DATA_SETS)
    return rates


def power(seeds: Iterable[int], *, autocorrelation: float = AUTOCORRELATION) -> float:
    """Share of the true pairs that are found as they are.

    Each of the first three streams drives one of the others: the innovation of the follower is
    :data:`COUPLING` times that of its leader :data:`LAG` windows ago, the rest its own; either sign
    is drawn. Found means leader, follower, lag and sign are right, among 15 pairs.

    Parameters
    ----------
    seeds
        Each gives :data:`DATA_SETS` data sets.
    autocorrelation
        Of every stream, below 1.

    Raises
    ------
    EvaluationError
        If there are no seeds, or the autocorrelation explodes.
    """
    wanted = _checked(seeds)
    if not abs(autocorrelation) < 1.0:
        msg = f"an autocorrelation of {autocorrelation} has no steady state; give one below 1"
        raise EvaluationError(msg)
    leaders = range(STREAMS // 2)
    right = 0
    for seed in wanted:
        for index in range(DATA_SETS):
            rng = np.random.default_rng([seed, len(INDEPENDENT), index])
            noise, signs = _innovations(rng), rng.choice((-1.0, 1.0), len(leaders))
            for leader in leaders:
                follower = noise[:, len(leaders) + leader]
                follower[LAG:] *= np.sqrt(1.0 - COUPLING**2)
                follower[LAG:] += signs[leader] * COUPLING * noise[:-LAG, leader]
            values = _with_gaps(_autoregressive(noise, autocorrelation), rng)
            right += sum(
                f.leader in leaders
                and f.follower == len(leaders) + f.leader
                and f.lag_minutes == MINUTES_PER_WINDOW * LAG
                and bool(f.correlation * signs[f.leader] > 0.0)
                for f in LeadLag(values, minutes_per_row=MINUTES_PER_WINDOW).findings()
            )
    return right / (len(wanted) * DATA_SETS * len(leaders))


def measure_lead_lag(seeds: Iterable[int]) -> dict[str, float]:
    """Measure lead-lag analysis.

    Parameters
    ----------
    seeds
        Seeds of the simulated data.

    Returns
    -------
    dict
        ``fpr``, the highest of :func:`false_positive_rates`, and ``power``, see :func:`power`.

    Raises
    ------
    EvaluationError
        If there are no seeds.
    """
    wanted = _checked(seeds)
    return {"fpr": max(false_positive_rates(wanted).values()), "power": power(wanted)}


def _checked(seeds: Iterable[int]) -> tuple[int, ...]:
    wanted = tuple(seeds)
    if not wanted:
        msg = "no seeds: give at least one whole number, such as range(4)"
        raise EvaluationError(msg)
    return wanted
