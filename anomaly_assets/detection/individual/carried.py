"""Last values carried forward over gaps, so that the array models never meet a NaN."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
        np.maximum(values, -LARGEST_VALUE, out=chain[1:])
        np.minimum(chain[1:], LARGEST_VALUE, out=chain[1:])
        if not observed.all():
            rows = np.arange(1, n_windows + 1)[:, np.newaxis] * observed
            np.maximum.accumulate(rows, axis=0, out=rows)
            chain[1:] = np.take_along_axis(chain, rows, axis=0)
        readings = np.cumsum(observed, axis=0, dtype=np.int64)
        readings += self.readings
        return CarriedBlock(
            value=chain[1:],
            previous=chain[:-1],
            observed=observed,
            readings_before=readings - observed,
        )

    def learn(self, block: CarriedBlock) -> None:
        """Move to the end of `block`."""
        if len(block.value):
            self.value = block.value[-1].copy()
            self.readings = block.readings_before[-1] + block.observed[-1]


def learning_rate(nth: IntArray, slowest: float, taking_part: BoolArray) -> FloatArray:
    """Return the weight of the `nth` item in a mean that starts plain and ends exponential.

    Parameters
    ----------
    nth
        Number of the item, from 1.
    slowest
        Weight in the long run.
    taking_part
        Where there is an item at all; the weight is 0 elsewhere, which leaves the mean as it is.
    """
    rate = np.maximum(1.0 / np.maximum(nth, 1), slowest)
    return rate * taking_part
