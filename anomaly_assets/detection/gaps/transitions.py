"""How likely each stream is to stay, to leave and to come back."""

from __future__ import annotations

import numpy as np

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
        counts = self._counts[context]
        missing, present = counts[:, 0], counts[:, 1]
        after = (present + self.prior) / (missing + present + 2.0 * self.prior)
        probability: FloatArray = np.where(was > 0.0, after[1], after[0])
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
