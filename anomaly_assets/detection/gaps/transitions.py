"""How likely each stream is to stay, to leave and to come back."""

from __future__ import annotations

import numpy as np

from anomaly_assets.detection.compiled import compiled
from anomaly_assets.streams.contexts import CONTEXT_NAMES
from anomaly_assets.streams.windows import FloatArray


class TransitionModel:
    """First-order Markov chain of every bit, one for each named context.

    Counts fade once for every visit of the context, with the prior kept apart, as in
    :class:`~anomaly_assets.detection.gaps.availability.AvailabilityModel`.

    Parameters
    ----------
    n_bits
        Number of bits.
    fade
        Factor on a context's counts at each visit, in (0, 1].
    prior
        Pseudo-count of either outcome.
    """

    def __init__(self, n_bits: int, *, fade: float = 0.999, prior: float = 0.5) -> None:
        self.fade = fade
        self.prior = prior
        self._counts = np.zeros((len(CONTEXT_NAMES), 2, 2, n_bits))

    def p(self, context: int, was: FloatArray) -> FloatArray:
        """Return the probability of a 1 after the bits `was` (1.0 or 0.0), shape ``(n_bits,)``."""
        probability = np.empty(was.size)
        _probability(self._counts[context], was, self.prior, probability)
        return probability

    def learn(self, context: int, outcomes: FloatArray) -> None:
        """Count one step.

        Parameters
        ----------
        context
            Context of the window.
        outcomes
            Shape ``(2, 2, n_bits)``: 1.0 at ``[before, now]``, nothing where either is unknown.
        """
        counts = self._counts[context]
        counts *= self.fade
        counts += outcomes


@compiled
def _probability(
    counts: FloatArray, was: FloatArray, prior: float, probability: FloatArray
) -> None:
    """Write the posterior mean of each bit's probability of a 1 next into `probability`."""
    for i in range(probability.size):
        before = 1 if was[i] > 0.0 else 0
        total = counts[before, 0, i] + counts[before, 1, i] + 2.0 * prior
        probability[i] = (counts[before, 1, i] + prior) / total
