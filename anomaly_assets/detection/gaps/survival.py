"""How old gaps grow, and how unusual the age of the present one is."""

from __future__ import annotations

import math

import numpy as np

from anomaly_assets.detection.compiled import compiled
from anomaly_assets.streams.contexts import CONTEXT_NAMES
from anomaly_assets.streams.windows import BoolArray, FloatArray, IntArray

#: Youngest age (waking windows) of each class of ages; the last one is open.
AGE_BOUNDS = np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 72, 96, 144, 192, 288])
_OLDEST = int(AGE_BOUNDS[-1])
_CLASS_OF_AGE = np.searchsorted(AGE_BOUNDS, np.arange(_OLDEST + 1), side="right") - 1


class GapSurvival:
    r"""Life tables of gaps, per row (a group) and context.

    The age of a gap is counted over waking windows only: a night adds nothing. In a waking window a
    gap of age :math:`a` ends with the hazard :math:`h_c(a)` of the context :math:`c` of that
    window, so that a gap that began on the way to work is judged at work by the gaps of work. The
    surprise of its age is :math:`-\log S = -\sum \log(1 - h)`.

    Hazards are estimated from completed gaps only, so that a gap does not excuse itself while it
    lasts. Ages come in classes, each smoothed by Laplace towards the hazard of the next younger
    one; beyond the longest gap that makes a geometric tail. A context's table fades whenever one of
    its gaps ends, so that about the last `memory` gaps count.

    Parameters
    ----------
    n_rows
        Number of rows.
    memory
        Number of completed gaps of a row and context that count.
    strength
        Windows of evidence that the hazard of the next younger class is worth.
    limit
        Largest surprise in nats.
    strange_gaps
        Completed gaps after which a context is judged as much by itself as by all contexts pooled.

    References
    ----------
    Cutler, S. J. and Ederer, F. (1958). Maximum utilization of the life table method in analyzing
    survival. Journal of Chronic Diseases 8(6), 699-712.
    """

    def __init__(
        self,
        n_rows: int,
        *,
        memory: int = 200,
        strength: float = 4.0,
        limit: float = 40.0,
        strange_gaps: float = 10.0,
    ) -> None:
        shape = (n_rows, len(CONTEXT_NAMES), AGE_BOUNDS.size)
        self.fade = 1.0 - 1.0 / memory
        self.strength = strength
        self.limit = limit
        self.strange_gaps = strange_gaps
        self._ended = np.zeros(shape)
        self._at_risk = np.zeros(shape)
        # At-risk windows of the gaps that still last, learnt when these end.
        self._pending = np.zeros(shape)
        self._age = np.zeros(n_rows, dtype=np.int64)
        self._nats = np.zeros(n_rows)
        self._cost = np.zeros(shape)
        self.refresh()

    @property
    def age(self) -> FloatArray:
        """Age of each row's present gap in waking windows, 0 where there is none."""
        return self._age.astype(np.float64)

    @property
    def nats_per_window(self) -> FloatArray:
        """Surprise of surviving a window, shape ``(n_rows, n_contexts, n_age_classes)``."""
        return self._cost

    def refresh(self) -> None:
        """Estimate the hazards anew from everything learnt (not in every window, being slow)."""
        learnt = (self._ended, self._at_risk)
        _refresh(*learnt, self.strength, self.strange_gaps, self._cost)

    def update(
        self, context: int, present: BoolArray, alive: BoolArray, *, waking: bool
    ) -> FloatArray:
        """Take in one window and return the surprise of every gap's age.

        Parameters
        ----------
        context
            Code of the window's context.
        present
            Whether anything of each row was there, shape ``(n_rows,)``.
        alive
            Whether the row takes part; a row that does not has no gap.
        waking
            Whether the window counts.

        Returns
        -------
        numpy.ndarray
            Nats, shape ``(n_rows,)``, 0 where there is no gap. A copy.
        """
        table = (self._pending, self._ended, self._at_risk, self._cost)
        size = (self.fade, self.limit)
        _update(
            context, present, alive, waking, *size, *table, _CLASS_OF_AGE, self._age, self._nats
        )
        return self._nats.copy()


@compiled
def _update(
    context: int,
    present: BoolArray,
    alive: BoolArray,
    waking: bool,  # noqa: FBT001 - compiled functions take positions only
    fade: float,
    limit: float,
    pending: FloatArray,
    ended: FloatArray,
    at_risk: FloatArray,
    cost: FloatArray,
    class_of_age: IntArray,
    age: IntArray,
    nats: FloatArray,
) -> None:
    """Let every row's gap grow, end or die, and move its surprise on."""
    for row in range(age.size):
        if age[row] > 0:
            at = class_of_age[min(age[row], class_of_age.size - 1)]
            if waking:
                pending[row, context, at] += 1.0
                nats[row] += cost[row, context, at]
            if present[row] and alive[row]:
                ended[row, context, :] *= fade
                at_risk[row, context, :] *= fade
                # A gap that ends asleep was never at risk there: it is censored, not completed.
                if waking:
                    ended[row, context, at] += 1.0
                at_risk[row, :, :] += pending[row]
                pending[row, :, :] = 0.0
            elif not alive[row]:
                pending[row, :, :] = 0.0
        if alive[row] and not present[row]:
            age[row] += waking
            nats[row] = min(nats[row], limit)
        else:
            age[row] = 0
            nats[row] = 0.0


@compiled
def _refresh(
    ended: FloatArray, at_risk: FloatArray, strength: float, strange_gaps: float, cost: FloatArray
) -> None:
    """Write what surviving a window costs, by hazards smoothed from age class to age class."""
    n_rows, n_contexts, n_classes = ended.shape
    pooled = np.empty(n_classes)
    for row in range(n_rows):
        prior = 0.5
        for k in range(n_classes):
            n_ended, n_at_risk = 0.0, 0.0
            for context in range(n_contexts):
                n_ended += ended[row, context, k]
                n_at_risk += at_risk[row, context, k]
            weight = strength if k else 1.0
            prior = (n_ended + weight * prior) / (n_at_risk + weight)
            pooled[k] = prior
        for context in range(n_contexts):
            n_ended = 0.0
            for k in range(n_classes):
                n_ended += ended[row, context, k]
            # A context trusts its own younger ages as far as it has seen gaps.
            trust = n_ended / (n_ended + strange_gaps)
            prior = 0.5
            for k in range(n_classes):
                prior = trust * prior + (1.0 - trust) * pooled[k]
                weight = strength if k else 1.0
                prior = (ended[row, context, k] + weight * prior) / (
                    at_risk[row, context, k] + weight
                )
                cost[row, context, k] = -math.log1p(-min(prior, 0.99))
