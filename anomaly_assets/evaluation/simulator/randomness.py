"""Independent, reproducible sources of randomness, one for each named part of the simulation."""

from __future__ import annotations

import zlib

import numpy as np
import pandas as pd

from anomaly_assets.streams.windows import FloatArray


def generator(seed: int, *names: str) -> np.random.Generator:
    """Return the generator that belongs to `names` under `seed`.

    Every part of the simulation draws from its own, so that a new stream, a fault or another gap
    pattern leaves the draws of all others as they were.
    """
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


def heavy_tailed(rng: np.random.Generator, length: int) -> FloatArray:
    """Draw Student-t noise with 4 degrees of freedom, scaled to unit variance and cut at 8."""
    return np.asarray(np.clip(rng.standard_t(4.0, length) / np.sqrt(2.0), -8.0, 8.0))


def autoregressive(rng: np.random.Generator, length: int, memory: float) -> FloatArray:
    """Draw a stationary AR(1) series of unit variance.

    Parameters
    ----------
    rng
        Source of the innovations.
    length
        Number of minutes.
    memory
        Minutes after which the autocorrelation has fallen to 1/e.
    """
    phi = float(np.exp(-1.0 / memory))
    innovations = rng.standard_normal(length)
    # `ewm` starts from its first input, which therefore has to have the stationary variance.
    innovations[0] *= np.sqrt((1.0 - phi) / (1.0 + phi))
    smoothed = pd.Series(innovations).ewm(alpha=1.0 - phi, adjust=False).mean().to_numpy()
    return np.asarray(smoothed * np.sqrt((1.0 + phi) / (1.0 - phi)), dtype=np.float64)
