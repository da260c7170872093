"""Last values carried forward over gaps, so that the array models never meet a NaN."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anomaly_assets.detection.compiled import compiled
from anomaly_assets.streams.windows import BoolArray, FloatArray, IntArray

#: Values are clipped to this size: squares and differences of clipped values stay finite.
LARGEST_VALUE = 1e100


@dataclass(frozen=True)
class CarriedBlock:
    """A block of windows without NaN, arrays of shape ``(n_windows, n_streams)``.

    Parameters
    ----------
    value
        The value where observed, else the last one observed before, 0 before the first reading.
    previous
        The same one window earlier.
    observed
        Whether the stream was observed (bool).
    readings_before
        Readings of the stream before the window (int64).
    """

    value: FloatArray
    previous: FloatArray
    observed: BoolArray
    readings_before: IntArray


class LastValues:
    """The last value and the number of readings of every stream.

    Parameters
    ----------
    n_streams
        Length of the stream axis.
    """

    def __init__(self, n_streams: int) -> None:
        self.value = np.zeros(n_streams)
        self.readings = np.zeros(n_streams, dtype=np.int64)

    def carry(self, values: FloatArray, observed: BoolArray) -> CarriedBlock:
        """Return `values` with gaps filled by what was observed before them.

        Parameters
        ----------
        values
            Shape ``(n_windows, n_streams)``, NaN where missing.
        observed
            Where `values` is not NaN.
        """
        n_windows, n_streams = values.shape
        chain = np.empty((n_windows + 1, n_streams))
        chain[0] = self.value
        before = np.empty((n_windows, n_streams), dtype=np.int64)
        _carry(values, observed, self.readings, chain, before)
        return CarriedBlock(
            value=chain[1:], previous=chain[:-1], observed=observed, readings_before=before
        )

    def learn(self, block: CarriedBlock) -> None:
        """Move to the end of `block`."""
        if len(block.value):
            self.value = block.value[-1].copy()
            self.readings = block.readings_before[-1] + block.observed[-1]


@compiled
def _carry(
    values: FloatArray,
    observed: BoolArray,
    readings: IntArray,
    chain: FloatArray,
    readings_before: IntArray,
) -> None:
    """Fill `chain`, whose first row is given, with values and what was observed before gaps."""
    for t in range(values.shape[0]):
        for i in range(values.shape[1]):
            readings_before[t, i] = readings[i]
            if t > 0:
                readings_before[t, i] = readings_before[t - 1, i] + observed[t - 1, i]
            if observed[t, i]:
                chain[t + 1, i] = min(max(values[t, i], -LARGEST_VALUE), LARGEST_VALUE)
            else:
                chain[t + 1, i] = chain[t, i]
