"""Catalogues and series that the tests of tier 1 share."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from anomaly_assets.detection.individual.detector import IndividualDetector
from anomaly_assets.detection.results import IndividualScores
from anomaly_assets.streams.catalogue import Catalogue, Group, Stream, StreamType
from anomaly_assets.streams.windows import WINDOW_SECONDS, FloatArray, WindowBlock, WindowRange


def catalogue_of(types: Sequence[StreamType]) -> Catalogue:
    """Return a catalogue with one stream of each of `types`, in one group."""
    return Catalogue(
        name="sample",
        groups=(Group(id="all"),),
        streams=tuple(Stream(id=f"s{i}", type=t, group="all") for i, t in enumerate(types)),
    )


def block_of(values: FloatArray, start: int = 0) -> WindowBlock:
    """Return `values` as a block that begins with window number `start`."""
    windows = WindowRange(start * WINDOW_SECONDS, (start + len(values)) * WINDOW_SECONDS)
    return WindowBlock("entity", "UTC", windows, values)


def scores_of(values: FloatArray, stream_type: StreamType) -> IndividualScores:
    """Run a fresh detector over streams of one type, one for each column."""
    detector = IndividualDetector(catalogue_of([stream_type] * values.shape[1]))
    return detector.process(block_of(values))


def mixed_series(seed: int, n_windows: int) -> tuple[Catalogue, FloatArray]:
    """Return streams of all types with gaps, spikes, constants and extreme sizes."""
    rng = np.random.default_rng(seed)
    types = [*StreamType, *StreamType, *StreamType]
    values = rng.standard_normal((n_windows, len(types)))
    values[:, [0, 3]] = np.cumsum(values[:, [0, 3]], axis=0)
    values[:, 2] = rng.poisson(3.0, n_windows)
    values[:, 6] = rng.negative_binomial(0.5, 0.05, n_windows) * (rng.random(n_windows) < 0.2)
    values[rng.random(values.shape) < 0.01] *= 20.0
    values[:, 4] = values[:, 4].round()
    values[:, 5] = 4.0
    values[n_windows // 2 :, 5] = 5.0
    values[:, 7] *= 1e-8
    values[:, 8] *= 1e99
    values[n_windows // 3 : n_windows // 3 + 30] = values[n_windows // 3]
    values[rng.random(values.shape) < 0.1] = np.nan
    values[n_windows // 5 : n_windows // 2, 0] = np.nan
    values[: n_windows // 4, 9] = np.nan
    values[:, 11] = np.nan
    return catalogue_of(types), values


def arrays_of(scores: IndividualScores) -> dict[str, FloatArray]:
    """Return all arrays of `scores` by name."""
    own = {f"individual {f.name}": getattr(scores, f.name) for f in dataclasses.fields(scores)}
    health = own.pop("individual health")
    return own | {f"health {f.name}": getattr(health, f.name) for f in dataclasses.fields(health)}
