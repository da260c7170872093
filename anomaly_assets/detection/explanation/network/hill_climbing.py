"""Greedy search for the causes of every stream, by a penalised likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from anomaly_assets.detection.explanation.network.lagged import FEWEST_PAIRS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anomaly_assets.detection.explanation.network.lagged import LaggedCovariance
    from anomaly_assets.streams.windows import IntArray

#: Price of a cause in units of the BIC's.
PENALTY: Final = 2.0
#: Share of what is left of a stream that a cause must explain besides: in weeks of windows an
#: effect that nobody would notice is significant, and most of those come from a wrong model.
LEAST_SHARE: Final = 0.03
#: Candidates kept for each stream, by how much they say beyond its own past.
MOST_CANDIDATES: Final = 40
#: A candidate of which less than this share of its variance is its own is a copy of other causes.
_LEAST_OWN: Final = 0.03
_LEAST_GAIN: Final = 1e-9
#: Steps for each stream after which a search ends wherever it is.
_MOST_STEPS: Final = 40


@dataclass(frozen=True)
class Link:
    """A cause that a search has found.

    Parameters
    ----------
    cause, effect
        Positions of the streams.
    lag
        Windows by which the effect is later.
    strength
        Standardised coefficient.
    """

    cause: int
    effect: int
    lag: int
    strength: float


def climb(
    covariance: LaggedCovariance, n_streams: int, given: Sequence[Sequence[int]]
) -> tuple[Link, ...]:
    """Search the causes of every stream among all streams, now and earlier.

    From a model in which each stream follows its own past and its given causes, the step that
    improves the score most is taken until none does: add a cause, drop one, or turn one of the
    same window round. Causes within one window never form a cycle.

    Parameters
    ----------
    covariance
        Of all streams at all lags.
    n_streams
        Number of streams.
    given
        Causes (positions) of each stream that are kept, whatever the data say.

    Returns
    -------
    tuple of Link
        The causes found, the given ones and each stream's own past left out; by effect.
    """
    search = _Search(covariance, n_streams, given)
    for _ in range(_MOST_STEPS * n_streams):
        if not search.step():
            break
    return search.links()


class _Search:
    """One model and what each step from it would gain.

    Every stream has its own list of variables (itself first, then its past and given causes, then
    candidates) and their covariance, swept by the causes it has at present: the swept matrix holds
    coefficients, residual variances and partial covariances all at once.
    """

    def __init__(
        self, covariance: LaggedCovariance, n_streams: int, given: Sequence[Sequence[int]]
    ) -> None:
        self._n = n_streams
        self._lags = len(covariance.matrix) // n_streams
        self._reach = np.zeros((n_streams, n_streams), dtype=np.bool_)
        self._now = np.zeros((n_streams, n_streams), dtype=np.bool_)
        for effect, causes in enumerate(given):
            self._now[list(causes), effect] = True
        self._given = self._now.copy()
        self._close()
        fixed = [
            [*(lag * n_streams + j for lag in range(1, self._lags)), *given[j]]
            for j in range(n_streams)
        ]
        self._variables = _candidates(covariance, n_streams, fixed)
        width = self._variables.shape[1]
        self._swept = np.empty((n_streams, width, width))
        self._pairs = np.empty((n_streams, width))
        self._chosen = np.zeros((n_streams, width), dtype=np.bool_)
        self._free = self._variables >= 0
        self._add = np.full((n_streams, width), -np.inf)
        self._drop = np.full((n_streams, width), -np.inf)
        for j in range(n_streams):
            self._begin(j, covariance, len(fixed[j]))

    def _begin(self, j: int, covariance: LaggedCovariance, n_fixed: int) -> None:
        own = self._variables[j]
        self._swept[j] = covariance.matrix[np.ix_(own, own)]
        self._pairs[j] = covariance.pairs[j, own]
        self._free[j, : 1 + n_fixed] = False
        for place in range(1, 1 + n_fixed):
            if self._swept[j, place, place] > _LEAST_OWN:
                self._sweep(j, place)
        self._gains(j)

    def step(self) -> bool:
        """Take the best step; False when none improves the score."""
        streams, lags = self._variables % self._n, self._variables // self._n
        closing = (lags == 0) & self._reach[np.arange(self._n)[:, None], streams]
        add = np.where(closing, -np.inf, self._add)
        best_add = int(np.argmax(add))
        best_drop = int(np.argmax(self._drop))
        gains = [add.flat[best_add], self._drop.flat[best_drop], _LEAST_GAIN]
        turned = self._best_turn(max(gains))
        if turned is not None:
            self._toggle(*turned[0])
            self._toggle(*turned[1])
            return True
        best = int(np.argmax(gains))
        if best == 2:
            return False
        at = np.unravel_index(best_drop if best else best_add, add.shape)
        self._toggle(int(at[0]), int(at[1]))
        return True

    def links(self) -> tuple[Link, ...]:
        """Return the causes that were not given."""
        found = []
        for j, place in np.argwhere(self._chosen & self._free).tolist():
            lag, cause = divmod(int(self._variables[j, place]), self._n)
            found.append(Link(cause, j, lag, float(self._swept[j, 0, place])))
        return tuple(found)

    def _best_turn(self, beyond: float) -> tuple[tuple[int, int], tuple[int, int]] | None:
        """Return the two toggles of the best turned edge that gains more than `beyond`."""
        best = None
        for j, place in np.argwhere(self._chosen & self._free).tolist():
            i = int(self._variables[j, place])
            if i >= self._n:
                continue
            there = np.flatnonzero(self._variables[i] == j)
            if not len(there) or self._chosen[i, there[0]]:
                continue
            gain = float(self._drop[j, place] + self._add[i, there[0]])
            if gain > beyond and not self._leads(i, j):
                beyond, best = gain, ((j, place), (i, int(there[0])))
        return best

    def _leads(self, i: int, j: int) -> bool:
        """Return whether `i` still leads to `j` within a window without the edge between them."""
        others = self._now[i].copy()
        others[j] = False
        return bool((others & (self._reach[:, j])).any())

    def _toggle(self, j: int, place: int) -> None:
        self._sweep(j, place)
        variable = int(self._variables[j, place])
        if variable < self._n:
            self._now[variable, j] = self._chosen[j, place]
            self._close()
        self._gains(j)

    def _sweep(self, j: int, place: int) -> None:
        matrix = self._swept[j]
        pivot = matrix[place, place]
        column = matrix[:, place].copy()
        matrix -= np.multiply.outer(column, column / pivot)
        column /= -pivot if self._chosen[j, place] else pivot
        matrix[:, place] = matrix[place, :] = column
        matrix[place, place] = -1.0 / pivot
        self._chosen[j, place] = not self._chosen[j, place]

    def _gains(self, j: int) -> None:
        """Work out what adding or dropping each variable of one stream would gain."""
        swept, pairs = self._swept[j], self._pairs[j]
        own = np.diagonal(swept)
        variance = max(float(swept[0, 0]), 1e-6)
        price = 0.5 * PENALTY * np.log(np.fmax(pairs, 2.0))
        price -= 0.5 * pairs * np.log1p(-LEAST_SHARE)
        with np.errstate(divide="ignore", invalid="ignore"):
            explained = swept[0] ** 2 / (own * variance)
            lost = swept[0] ** 2 / (-own * variance)
            add = -0.5 * pairs * np.log1p(-np.clip(explained, 0.0, 0.999)) - price
            drop = price - 0.5 * pairs * np.log1p(np.fmax(lost, 0.0))
        can = self._free[j] & ~self._chosen[j] & (own > _LEAST_OWN)
        self._add[j] = np.where(can, add, -np.inf)
        self._drop[j] = np.where(self._free[j] & self._chosen[j], drop, -np.inf)

    def _close(self) -> None:
        """Work out who leads to whom within one window."""
        reach = self._now.copy()
        while True:
            further = reach | (reach.astype(np.float32) @ reach.astype(np.float32) > 0.0)
            if np.array_equal(further, reach):
                break
            reach = further
        self._reach = reach


def _candidates(
    covariance: LaggedCovariance, n_streams: int, fixed: Sequence[Sequence[int]]
) -> IntArray:
    """Return the variables of each stream: itself, the fixed ones, then the best candidates.

    Shorter lists are filled up with the stream itself, which is never chosen.
    """
    matrix = covariance.matrix
    size = len(matrix)
    lists = []
    for j in range(n_streams):
        kept = list(fixed[j])
        inverse = np.linalg.pinv(matrix[np.ix_(kept, kept)], hermitian=True)
        towards = matrix[kept]
        with_fixed = matrix[j] - matrix[j, kept] @ inverse @ towards
        own = np.diagonal(matrix) - np.einsum("ij,ij->j", towards, inverse @ towards)
        says = with_fixed**2 / np.fmax(own, _LEAST_OWN)
        says[[j, *kept]] = -1.0
        says[covariance.pairs[j] < FEWEST_PAIRS] = -1.0
        order = np.argsort(-says, kind="stable")[: min(MOST_CANDIDATES, size)]
        lists.append([j, *kept, *order[says[order] > 0.0].tolist()])
    width = max(map(len, lists))
    return np.array([one + [-1] * (width - len(one)) for one in lists], dtype=np.int64)
