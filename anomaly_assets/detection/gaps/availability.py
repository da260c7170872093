"""How likely each stream is to be there at this hour of this kind of day."""

from __future__ import annotations

import numpy as np

from anomaly_assets.detection.compiled import compiled
from anomaly_assets.streams.catalogue import Contexts
from anomaly_assets.streams.contexts import is_weekend
from anomaly_assets.streams.windows import Calendar, FloatArray, IntArray

N_HOURS = 24
#: Local hour of the day, on a working day or at the weekend.
N_CELLS = 2 * N_HOURS


def availability_cells(calendar: Calendar, contexts: Contexts) -> IntArray:
    """Return each window's cell: its local hour, plus 24 at the weekend; ``(n_windows,)``."""
    weekend = is_weekend(calendar, contexts).astype(np.int64)
    return calendar.hour.astype(np.int64) + N_HOURS * weekend


def surprise_minus_entropy(p: FloatArray, bits: FloatArray) -> FloatArray:
    r"""Return how much more surprising each bit is than expected.

    The surprise of bit :math:`x` is :math:`-\log P(x)` and its expectation the entropy, so that
    their difference is :math:`(x - p) \log((1 - p) / p)`, which is 0 on average for any `p`: a
    stream that comes and goes at random is never surprising for long.

    Parameters
    ----------
    p
        Probability of a 1, strictly inside (0, 1), any shape.
    bits
        What was seen: 1.0 or 0.0, same shape.

    Returns
    -------
    numpy.ndarray
        Nats, same shape.

    Examples
    --------
    >>> surprise_minus_entropy(np.array([0.5, 0.99]), np.array([1.0, 0.0])).round(2).tolist()
    [0.0, 4.55]
    """
    return (bits - p) * np.log((1.0 - p) / p)


class AvailabilityModel:
    r"""Beta-Bernoulli probability that a bit is 1, per local hour and kind of day.

    With the faded counts :math:`n_1` and :math:`n_0` of a cell and Jeffreys' prior,
    :math:`P = (n_1 + 1/2) / (n_0 + n_1 + 1)`. A cell fades once for every *visit*, not once for
    every window: a week-end cell, visited on two days of seven, would otherwise forget between two
    week-ends what it learnt. At 12 visits an hour, 0.999 halves a cell's memory in 58 of its days.

    Parameters
    ----------
    n_bits
        Number of bits.
    fade
        Factor on a cell's counts at each visit, in (0, 1].
    prior
        Pseudo-count of either outcome.
    """

    def __init__(self, n_bits: int, *, fade: float = 0.999, prior: float = 0.5) -> None:
        self.fade = fade
        self.prior = prior
        self._counts = np.zeros((N_CELLS, 2, n_bits))

    @property
    def counts(self) -> FloatArray:
        """Faded counts of 0 and of 1 in each cell, shape ``(N_CELLS, 2, n_bits)``."""
        return self._counts

    def p(self, cell: int) -> FloatArray:
        """Return the probability of a 1 in `cell`, shape ``(n_bits,)``."""
        counts = self._counts[cell]
        probability = np.empty(counts.shape[1])
        _probability(counts, self.prior, probability)
        return probability

    def learn(self, cell: int, outcomes: FloatArray) -> None:
        """Count one window.

        Parameters
        ----------
        cell
            Its cell.
        outcomes
            Shape ``(2, n_bits)``: 1.0 in row 0 where the bit was 0, in row 1 where it was 1;
            neither where the bit is unknown.
        """
        counts = self._counts[cell]
        counts *= self.fade
        counts += outcomes


@compiled
def _probability(counts: FloatArray, prior: float, probability: FloatArray) -> None:
    """Write the posterior mean of each bit's probability of a 1 into `probability`."""
    for i in range(probability.size):
        total = counts[0, i] + counts[1, i] + 2.0 * prior
        probability[i] = (counts[1, i] + prior) / total
