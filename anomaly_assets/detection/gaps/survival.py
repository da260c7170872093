"""How old gaps grow, and how unusual the age of the present one is."""

from __future__ import annotations

import numpy as np

from anomaly_assets.streams.contexts import CONTEXT_NAMES
from anomaly_assets.streams.windows import BoolArray, FloatArray

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
        pooled = self._hazards(self._ended.sum(axis=1), self._at_risk.sum(axis=1), None, None)
        n_ended = self._ended.sum(axis=2)
        trust = n_ended / (n_ended + self.strange_gaps)
        hazards = self._hazards(self._ended, self._at_risk, pooled[:, None], trust)
        self._cost = -np.log1p(-np.minimum(hazards, 0.99))

    def _hazards(
        self,
        ended: FloatArray,
        at_risk: FloatArray,
        elsewhere: FloatArray | None,
        trust: FloatArray | None,
    ) -> FloatArray:
        """Return hazards; a context trusts its own younger ages as far as it has seen gaps."""
        hazards = np.empty_like(ended)
        prior = np.full(ended.shape[:-1], 0.5)
        for k in range(AGE_BOUNDS.size):
            if elsewhere is not None and trust is not None:
                prior = trust * prior + (1.0 - trust) * elsewhere[..., k]
            weight = self.strength if k else 1.0
            prior = (ended[..., k] + weight * prior) / (at_risk[..., k] + weight)
            hazards[..., k] = prior
        return hazards

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
        in_gap = self._age > 0
        if in_gap.any():
            self._follow(context, np.flatnonzero(in_gap), present, alive, waking=waking)
        missing = alive & ~present
        self._age = np.where(missing, self._age + waking, 0)
        self._nats = np.where(missing, np.minimum(self._nats, self.limit), 0.0)
        return self._nats.copy()

    def _follow(
        self, context: int, rows: np.ndarray, present: BoolArray, alive: BoolArray, *, waking: bool
    ) -> None:
        classes = _CLASS_OF_AGE[np.minimum(self._age[rows], _OLDEST)]
        if waking:
            self._pending[rows, context, classes] += 1.0
            self._nats[rows] += self._cost[rows, context, classes]
        over = present[rows] & alive[rows]
        if over.any():
            ended, end_classes = rows[over], classes[over]
            self._ended[ended, context] *= self.fade
            self._at_risk[ended, context] *= self.fade
            # A gap that ends asleep was never at risk there: it is censored, not completed.
            if waking:
                self._ended[ended, context, end_classes] += 1.0
            self._at_risk[ended] += self._pending[ended]
            self._pending[ended] = 0.0
        dead = rows[~alive[rows]]
        if dead.size:
            self._pending[dead] = 0.0
