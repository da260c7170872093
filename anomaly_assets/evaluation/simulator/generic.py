"""Many generic streams, quickly: windows and a matching catalogue for benchmarks."""

from __future__ import annotations

import numpy as np

from anomaly_assets.errors import InputError
from anomaly_assets.evaluation.simulator.randomness import autoregressive, generator, heavy_tailed
from anomaly_assets.streams.catalogue import Aggregation, Catalogue, Group, Stream, StreamType
from anomaly_assets.streams.windows import (
    WINDOW_SECONDS,
    WINDOWS_PER_DAY,
    BoolArray,
    FloatArray,
    WindowBlock,
    WindowRange,
)

#: A Monday, 00:00 UTC.
START = 1_767_571_200
#: Ten streams in a row have these types: 4 smooth, 3 noisy, 2 of events, 1 sporadic.
_TYPES = (
    StreamType.CONTINUOUS_SMOOTH,
    StreamType.CONTINUOUS_NOISY,
    StreamType.DISCRETE_EVENTS,
    StreamType.CONTINUOUS_SMOOTH,
    StreamType.CONTINUOUS_NOISY,
    StreamType.CONTINUOUS_SMOOTH,
    StreamType.SPORADIC,
    StreamType.CONTINUOUS_NOISY,
    StreamType.DISCRETE_EVENTS,
    StreamType.CONTINUOUS_SMOOTH,
)
_GROUPS = ("motion", "location", "interaction", "biometric", "environment", "device")


def synthetic_catalogue(n_streams: int) -> Catalogue:
    """Return a catalogue of `n_streams` generic streams of all four types in six groups.

    Raises
    ------
    InputError
        If `n_streams` is not positive.
    """
    if n_streams < 1:
        msg = f"n_streams is {n_streams}; a catalogue has at least one stream"
        raise InputError(msg)
    streams = [
        Stream(
            id=f"s{number:03d}",
            type=_TYPES[number % len(_TYPES)],
            group=_GROUPS[_group_of(number)],
            aggregation=(
                Aggregation.SUM
                if _TYPES[number % len(_TYPES)] is StreamType.DISCRETE_EVENTS
                else Aggregation.MEAN
            ),
        )
        for number in range(n_streams)
    ]
    used = dict.fromkeys(stream.group for stream in streams)
    return Catalogue(
        name=f"synthetic-{n_streams}",
        groups=tuple(Group(id=group) for group in _GROUPS if group in used),
        streams=tuple(streams),
    )


def simulate_windows(
    n_streams: int, n_windows: int, seed: int = 0, *, missing: float = 0.05
) -> WindowBlock:
    """Draw windows of the streams of :func:`synthetic_catalogue`.

    Parameters
    ----------
    n_streams, n_windows
        Shape of the values.
    seed
        Seed of everything random.
    missing
        Share of windows in which a whole group is missing, in stretches of about an hour, in [0,
        1); sporadic streams are missing in half of the others too.

    Returns
    -------
    WindowBlock
        From Monday 2026-01-05 00:00 UTC, with a daily cycle, slow and heavy-tailed noise and gaps.

    Examples
    --------
    >>> simulate_windows(30, 100).values.shape
    (100, 30)
    """
    catalogue = synthetic_catalogue(n_streams)
    if n_windows < 1 or not 0.0 <= missing < 1.0:
        msg = f"n_windows is {n_windows} and missing {missing}; give at least 1 and [0, 1)"
        raise InputError(msg)
    hour = np.arange(n_windows, dtype=np.float64) * (24.0 / WINDOWS_PER_DAY)
    values = np.empty((n_windows, n_streams))
    for column, stream in enumerate(catalogue.streams):
        values[:, column] = _series(stream.type, hour, generator(seed, stream.id))
    for group in catalogue.group_ids:
        away = _stretches(n_windows, missing, generator(seed, group))
        members = np.array([s.group == group for s in catalogue.streams])
        values[np.ix_(away, members)] = np.nan
    windows = WindowRange(START, START + n_windows * WINDOW_SECONDS)
    return WindowBlock("synthetic", catalogue.time_zone, windows, values)


def _group_of(number: int) -> int:
    """Spread the types over the groups: ten streams in a row would repeat the pattern of types."""
    return (number + number // len(_TYPES)) % len(_GROUPS)


def _series(kind: StreamType, hour: FloatArray, rng: np.random.Generator) -> FloatArray:
    n = hour.size
    level, scale, peak = rng.normal(0.0, 50.0), np.exp(rng.normal(0.0, 1.0)), rng.uniform(0.0, 24.0)
    day = np.sin((hour - peak) * (2.0 * np.pi / 24.0))
    if kind is StreamType.DISCRETE_EVENTS:
        rate = np.exp(rng.normal(0.5, 0.5)) * np.maximum(0.3 + day, 0.02)
        return np.asarray(rng.poisson(rate), dtype=np.float64)
    jitter = 0.15 if kind is StreamType.CONTINUOUS_SMOOTH else 0.6
    noise = 0.6 * autoregressive(rng, n, 12.0) + jitter * heavy_tailed(rng, n)
    values = np.asarray(level + scale * (2.0 * day + noise))
    if kind is StreamType.SPORADIC:
        values[rng.random(n) < 0.5] = np.nan
    return values


def _stretches(n: int, share: float, rng: np.random.Generator) -> BoolArray:
    """Return the windows, about `share` of all, covered by stretches of about an hour."""
    length = WINDOWS_PER_DAY // 24
    begins = rng.random(n) < -np.log1p(-share) / length
    return np.asarray(np.convolve(begins, np.ones(length))[:n] > 0.0)
