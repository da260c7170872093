"""Compiled walks through half-space trees that lie one after the other in flat arrays."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from anomaly_assets.detection.compiled import compiled
from anomaly_assets.streams.windows import BoolArray, FloatArray, IntArray

MassArray = npt.NDArray[np.int32]


@compiled
def walk(
    x: FloatArray,
    roots: IntArray,
    heights: IntArray,
    feature: IntArray,
    threshold: FloatArray,
    left: IntArray,
    mass: MassArray,
    path: IntArray,
) -> None:
    """Write the nodes that `x` passes in each tree into the tree's row of `path`."""
    for tree in range(roots.size):
        node = roots[tree]
        path[tree, 0] = node
        for level in range(heights[tree]):
            value = x[feature[node]]
            child = left[node]
            right = value >= threshold[node]
            if math.isnan(value):
                right = mass[child] < mass[child + 1]
            node = child + 1 if right else child
            path[tree, level + 1] = node


@compiled
def weigh(
    path: IntArray,
    heights: IntArray,
    detectors: IntArray,
    limit: FloatArray,
    mass: MassArray,
    total: FloatArray,
) -> None:
    """Add to `total` the masses on the paths of each detector's trees, doubled at every level."""
    for tree in range(heights.size):
        detector = detectors[tree]
        least = limit[detector]
        # All of these are whole numbers, so that the order of summation does not matter.
        weight, weighed = 1, 0
        for level in range(heights[tree] + 1):
            held = mass[path[tree, level]]
            weighed += weight * held
            if held < least:
                break
            weight *= 2
        total[detector] += weighed


@compiled
def add(
    path: IntArray, heights: IntArray, detectors: IntArray, learning: BoolArray, mass: MassArray
) -> None:
    """Count a visit of every node on the paths of the detectors that learn."""
    for tree in range(heights.size):
        if learning[detectors[tree]]:
            for level in range(heights[tree] + 1):
                mass[path[tree, level]] += 1
