"""Half-space trees as flat numpy arrays, equal to River's to the last bit.

A tree of height `h` is stored in heap order: node `i` has the children ``2 i + 1`` and ``2 i + 2``.
All trees of all detectors lie one after the other in the same arrays and are walked one by one in
compiled loops.

References
----------
Tan, S. C., Ting, K. M. and Liu, T. F. (2011). Fast anomaly detection for streaming data. IJCAI
2011.
"""

from __future__ import annotations

import copy
import random
import zlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from river import base

from anomaly_assets.detection.cross_stream.tree_walks import MassArray, add, walk, weigh
from anomaly_assets.errors import InputError, StateError
from anomaly_assets.streams.windows import BoolArray, FloatArray, IntArray

#: Share of a range that a split keeps away from its ends (River's value).
PADDING = 0.15
#: A node with less than this share of the reference window ends a path (the paper's value).
SIZE_LIMIT = 0.1


@dataclass(frozen=True)
class Splits:
    """The random splits of some trees of one height, heap order within a tree.

    Parameters
    ----------
    feature
        Feature of each inner node, shape ``(n_trees, 2**height - 1)``.
    threshold
        Values below it go left, same shape.
    """

    feature: IntArray
    threshold: FloatArray

    @classmethod
    def draw(
        cls, limits: Sequence[tuple[float, float]], n_trees: int, height: int, rng: random.Random
    ) -> Splits:
        """Draw trees in exactly River's order of random numbers.

        Parameters
        ----------
        limits
            Range of each feature; a feature is chosen in proportion to the width that is left of
            it.
        n_trees, height
            Size of the forest.
        rng
            Source of randomness, advanced by the call.
        """
        n_inner = 2**height - 1
        feature = np.zeros((n_trees, n_inner), dtype=np.int64)
        threshold = np.zeros((n_trees, n_inner))
        low = [bounds[0] for bounds in limits]
        high = [bounds[1] for bounds in limits]
        width = [b - a for a, b in zip(low, high, strict=True)]
        names = range(len(limits))

        def split(tree: int, node: int) -> None:
            if node >= n_inner:
                return
            on = rng.choices(names, weights=width)[0]
            a, b, before = low[on], high[on], width[on]
            at = rng.uniform(a + PADDING * (b - a), b - PADDING * (b - a))
            feature[tree, node] = on
            threshold[tree, node] = at
            high[on], width[on] = at, at - a
            split(tree, 2 * node + 1)
            low[on], high[on], width[on] = at, b, b - at
            split(tree, 2 * node + 2)
            low[on], width[on] = a, before

        for tree in range(n_trees):
            split(tree, 0)
        return cls(feature, threshold)


@dataclass(frozen=True)
class ForestPlan:
    """One detector of a bundle: a forest over a subset of the features.

    Parameters
    ----------
    features
        Positions of its features in the bundle's feature vector.
    widths
        Weight of each of these features: River's trees choose a feature in proportion to its range,
        so each is split as if it ranged over ``[0, width]`` and the splits are scaled back to [0,
        1].
    n_trees, height
        Size of the forest.
    seed
        Seed of its splits.
    """

    features: tuple[int, ...]
    widths: tuple[float, ...]
    n_trees: int
    height: int
    seed: int


@lru_cache(maxsize=256)
def planned_splits(plan: ForestPlan) -> Splits:
    """Return the splits of a plan; the same plan always gives the same splits."""
    limits = [(0.0, width) for width in plan.widths]
    rng = random.Random(plan.seed)  # noqa: S311 - draws splits, and keeps no secret
    local = Splits.draw(limits, plan.n_trees, plan.height, rng)
    widths = np.array(plan.widths)[local.feature]
    return Splits(np.array(plan.features, dtype=np.int64)[local.feature], local.threshold / widths)


@lru_cache(maxsize=16)
def _planned_trees(plans: tuple[ForestPlan, ...], window_sizes: tuple[int, ...]) -> TreeArrays:
    """Return the trees of plans, to be copied: their splits take a megabyte at 36 streams."""
    return TreeArrays([planned_splits(plan) for plan in plans], window_sizes)


class TreeArrays:
    """Splits and masses of one or several forests, walked together.

    Parameters
    ----------
    splits
        One entry for each detector, in order of falling height.
    window_sizes
        Sizes of the successive reference windows of every detector: the last one repeats for ever.
        River's trees have one size; ``(25, 50, 100, 250)`` speaks after 25 windows instead of 250.

    Raises
    ------
    InputError
        If a later detector is higher than an earlier one.
    """

    def __init__(self, splits: Sequence[Splits], window_sizes: Sequence[int]) -> None:
        heights = [int(s.feature.shape[1] + 1).bit_length() - 1 for s in splits]
        if heights != sorted(heights, reverse=True):
            msg = f"forests must come in order of falling height, got heights {heights}"
            raise InputError(msg)
        self.window_sizes = tuple(window_sizes)
        self.n_detectors = len(splits)
        self._set_up(splits, heights)
        self.forget()

    def _set_up(self, splits: Sequence[Splits], heights: list[int]) -> None:
        """Lay the trees out one after the other."""
        n_trees = [s.feature.shape[0] for s in splits]
        nodes = [2 ** (h + 1) - 1 for h in heights]
        self._heights = heights
        self._n_nodes = sum(n * size for n, size in zip(n_trees, nodes, strict=True))
        feature = np.zeros(self._n_nodes, dtype=np.int64)
        threshold = np.zeros(self._n_nodes)
        left = np.zeros(self._n_nodes, dtype=np.int64)
        roots = []
        self._node_slices: list[slice] = []
        start = 0
        for split, n, size in zip(splits, n_trees, nodes, strict=True):
            stop = start + n * size
            inner = split.feature.shape[1]
            feature[start:stop].reshape(n, size)[:, :inner] = split.feature
            threshold[start:stop].reshape(n, size)[:, :inner] = split.threshold
            root = np.arange(start, stop, size, dtype=np.int64)
            left[start:stop] = (root[:, None] + 2 * np.arange(size) + 1).ravel()
            roots.append(root)
            self._node_slices.append(slice(start, stop))
            start = stop
        self._feature, self._threshold, self._left = feature, threshold, left
        for constant in (feature, threshold, left):
            constant.setflags(write=False)
        self._n_trees = np.array(n_trees, dtype=np.int64)
        self._roots = np.concatenate(roots)
        self._height_of_tree = np.repeat(np.array(heights, dtype=np.int64), self._n_trees)
        self._detector_of_tree = np.repeat(np.arange(self.n_detectors), self._n_trees)
        self._everybody = np.ones(self.n_detectors, dtype=bool)
        self._most = np.array(
            [n * (2 ** (h + 1) - 1) for n, h in zip(n_trees, heights, strict=True)], dtype=np.int64
        )

    def untaught(self) -> TreeArrays:
        """Return the same trees without anything learnt; they share their splits."""
        trees = copy.copy(self)
        trees.forget()
        return trees

    def forget(self) -> None:
        """Begin anew with masses and counters of its own."""
        self.counter = np.zeros(self.n_detectors, dtype=np.int64)
        self.pivots = np.zeros(self.n_detectors, dtype=np.int64)
        self.l_mass: MassArray = np.zeros(self._n_nodes, dtype=np.int32)
        self.r_mass: MassArray = np.zeros(self._n_nodes, dtype=np.int32)
        self._path = np.zeros((self._roots.size, max(self._heights) + 1), dtype=np.int64)
        self._turned()

    def _turned(self) -> None:
        """Work out what changes only when a window is full."""
        sizes = np.array((0, *self.window_sizes), dtype=np.int64)
        n_sizes = len(self.window_sizes)
        #: Size of each detector's reference window, 0 before it has one.
        self.reference: IntArray = sizes[np.minimum(self.pivots, n_sizes)]
        self._target = sizes[np.minimum(self.pivots + 1, n_sizes)]
        self._limit: FloatArray = np.asarray(SIZE_LIMIT * self.reference, dtype=np.float64)
        self._largest_total = np.where(
            self.reference > 0, (self._most * self.reference).astype(np.float64), np.nan
        )

    def walk(self, x: FloatArray) -> IntArray:
        """Find the path of `x` through every tree.

        Parameters
        ----------
        x
            Feature vector; NaN is a missing feature, which goes to the child that has seen more.

        Returns
        -------
        numpy.ndarray
            Nodes on the path, shape ``(n_trees, height + 1)``; valid until the next walk.
        """
        trees = (self._roots, self._height_of_tree, self._feature, self._threshold, self._left)
        walk(x, *trees, self.l_mass, self._path)
        return self._path

    def score(self, path: IntArray) -> FloatArray:
        """Score a path: 0 for the most ordinary, towards 1 for the least, shape ``(n_detectors,)``.

        NaN for a detector that has no reference window yet.
        """
        total = np.zeros(self.n_detectors)
        weigh(path, self._height_of_tree, self._detector_of_tree, self._limit, self.r_mass, total)
        return np.asarray(1.0 - total / self._largest_total)

    def learn(self, path: IntArray, active: BoolArray | None = None) -> None:
        """Add a path to the masses, and turn the windows of those detectors that are full.

        Parameters
        ----------
        path
            From :meth:`walk`.
        active
            Which detectors learn, shape ``(n_detectors,)``; all of them when None.
        """
        learning = self._everybody if active is None else active
        add(path, self._height_of_tree, self._detector_of_tree, learning, self.l_mass)
        self.counter += learning
        full = self.counter == self._target
        if full.any():
            for detector in np.flatnonzero(full).tolist():
                own = self._node_slices[detector]
                self.r_mass[own] = self.l_mass[own]
                self.l_mass[own] = 0
            self.counter[full] = 0
            self.pivots[full] += 1
            self._turned()

    def masses(self) -> bytes:
        """Return the masses as compressed bytes: only leaves, the rest are sums of them."""
        smallest = np.uint8 if max(self.window_sizes) <= 255 else np.int32
        parts = []
        for masses in (self.l_mass, self.r_mass):
            for detector, nodes in enumerate(self._node_slices):
                height = self._heights[detector]
                trees = masses[nodes].reshape(-1, 2 ** (height + 1) - 1)
                parts.append(trees[:, 2**height - 1 :].astype(smallest).tobytes())
        return zlib.compress(b"".join(parts), level=1)

    def restore(self, counter: IntArray, pivots: IntArray, packed: bytes) -> None:
        """Restore counters, and what :meth:`masses` returned.

        Raises
        ------
        StateError
            If the bytes belong to a forest of another size.
        """
        smallest = np.uint8 if max(self.window_sizes) <= 255 else np.int32
        leaves = np.frombuffer(zlib.decompress(packed), dtype=smallest).astype(np.int32)
        expected = 2 * sum(int(n) * 2**h for n, h in zip(self._n_trees, self._heights, strict=True))
        if leaves.size != expected:
            msg = f"forest state has {leaves.size} leaf masses, expected {expected}; replay it"
            raise StateError(msg)
        at = 0
        for masses in (self.l_mass, self.r_mass):
            for detector, nodes in enumerate(self._node_slices):
                height = self._heights[detector]
                trees = masses[nodes].reshape(-1, 2 ** (height + 1) - 1)
                size = trees.shape[0] * 2**height
                trees[:, 2**height - 1 :] = leaves[at : at + size].reshape(-1, 2**height)
                for level in range(height - 1, -1, -1):
                    first, below = 2**level - 1, 2 ** (level + 1) - 1
                    trees[:, first:below] = (
                        trees[:, below : 2 * below + 1].reshape(trees.shape[0], -1, 2).sum(axis=2)
                    )
                at += size
        self.counter, self.pivots = counter, pivots
        self._turned()


class ForestBundle:
    """Several half-space forests over one feature vector: one walk to score and learn them all.

    Parameters
    ----------
    plans
        The detectors, in order of falling height.
    window_sizes
        Sizes of the successive reference windows.
    """

    def __init__(
        self, plans: Sequence[ForestPlan], window_sizes: Sequence[int] = (25, 50, 100, 250)
    ) -> None:
        self.plans = tuple(plans)
        self._trees = _planned_trees(self.plans, tuple(window_sizes)).untaught()

    def score_and_learn(self, x: FloatArray, active: BoolArray) -> FloatArray:
        """Score a feature vector with every detector, then learn it.

        Parameters
        ----------
        x
            Feature vector, values in [0, 1]; NaN is missing.
        active
            Which detectors learn, shape ``(n_plans,)``.

        Returns
        -------
        numpy.ndarray
            Raw scores, shape ``(n_plans,)``; NaN before a detector's first reference window is
            full.
        """
        path = self._trees.walk(x)
        scores = self._trees.score(path)
        self._trees.learn(path, None if active.all() else active)
        return scores

    def __getstate__(self) -> dict[str, Any]:
        """Keep what cannot be drawn again from the plans."""
        trees = self._trees
        return {
            "plans": self.plans,
            "window_sizes": trees.window_sizes,
            "counter": trees.counter,
            "pivots": trees.pivots,
            "masses": trees.masses(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Draw the splits again and restore the masses."""
        self.plans = state["plans"]
        self._trees = _planned_trees(self.plans, tuple(state["window_sizes"])).untaught()
        self._trees.restore(state["counter"], state["pivots"], state["masses"])


class ArrayHalfSpaceTrees(base.AnomalyDetector):
    """Half-space trees with River's interface and River's results, to the last bit.

    Parameters
    ----------
    n_trees
        Number of trees.
    height
        Height of each tree, which has ``2 ** (height + 1) - 1`` nodes.
    window_size
        Number of observations after which the reference masses are replaced.
    limits
        Range of each feature; ``(0, 1)`` for those not named.
    seed
        Seed of the splits, drawn at the first :meth:`learn_one` from the features it is given.

    Examples
    --------
    >>> model = ArrayHalfSpaceTrees(n_trees=5, height=3, window_size=3, seed=42)
    >>> for value in (0.5, 0.45, 0.43):
    ...     model.learn_one({"x": value})
    >>> model.learn_one({"x": 0.5})
    >>> round(model.score_one({"x": 0.5}), 3)
    0.107

    References
    ----------
    Tan, S. C., Ting, K. M. and Liu, T. F. (2011). Fast anomaly detection for streaming data.
    IJCAI 2011.
    """

    def __init__(
        self,
        n_trees: int = 10,
        height: int = 8,
        window_size: int = 250,
        limits: dict[Hashable, tuple[float, float]] | None = None,
        seed: int | None = None,
    ) -> None:
        self.n_trees = n_trees
        self.height = height
        self.window_size = window_size
        self.limits = limits
        self.seed = seed
        self._rng = random.Random(seed)  # noqa: S311 - draws splits as River does: no secret
        self._features: list[Hashable] = []
        self._trees: TreeArrays | None = None

    def _vector(self, x: Mapping[Hashable, float]) -> FloatArray:
        # River sends a value that is itself NaN to the right; only a missing key is missing.
        known = np.array([name in x for name in self._features], dtype=bool)
        values = np.array([float(x.get(name, 0.0)) for name in self._features])
        return np.where(known, np.where(np.isnan(values), np.inf, values), np.nan)

    def learn_one(self, x: dict[Hashable, Any]) -> None:
        """Learn one observation.

        Parameters
        ----------
        x
            Value of each feature.
        """
        if self._trees is None:
            limits = self.limits or {}
            # River types names of features as hashable, but sorts them too.
            self._features = sorted(x)  # type: ignore[type-var]
            ranges = [limits.get(name, (0.0, 1.0)) for name in self._features]
            splits = Splits.draw(ranges, self.n_trees, self.height, self._rng)
            self._trees = TreeArrays([splits], (self.window_size,))
        self._trees.learn(self._trees.walk(self._vector(x)))

    def score_one(self, x: dict[Hashable, Any]) -> float:
        """Score one observation: 0 before the first window is full, towards 1 for the unusual.

        Parameters
        ----------
        x
            Value of each feature; features unknown at the first :meth:`learn_one` are ignored.
        """
        if self._trees is None or self._trees.pivots[0] == 0:
            return 0.0
        return float(self._trees.score(self._trees.walk(self._vector(x)))[0])
