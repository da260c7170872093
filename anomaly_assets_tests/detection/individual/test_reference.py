"""Tests that the array detector computes what River's objects compute."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anomaly_assets.detection.individual.detector import IndividualDetector
from anomaly_assets.detection.individual.reference import RiverIndividualDetector
from anomaly_assets.streams.catalogue import Catalogue, StreamType
from anomaly_assets.streams.windows import FloatArray
from anomaly_assets_tests.detection.individual.samples import (
    arrays_of,
    block_of,
    catalogue_of,
    mixed_series,
)

_REPOSITORY = Path(__file__).resolve().parents[3]


def _assert_equal(catalogue: Catalogue, values: FloatArray) -> None:
    arrays, objects = IndividualDetector(catalogue), RiverIndividualDetector(catalogue)
    left = arrays_of(arrays.process(block_of(values)))
    right = arrays_of(objects.process(block_of(values)))
    for name, array in left.items():
        if name == "individual score":
            # Scalar and array powers may differ in the last bit.
            np.testing.assert_allclose(array, right[name], rtol=0.0, atol=1e-12, err_msg=name)
        else:
            np.testing.assert_array_equal(array, right[name], err_msg=name)
    for a, b in zip(arrays.peek(values[7]), objects.peek(values[7]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_arrays_equal_river_on_random_series(seed: int) -> None:
    """All types agree over gaps, constants, spikes, flat lines and sizes from 1e-8 to 1e100."""
    _assert_equal(*mixed_series(seed, n_windows=700))


@pytest.mark.parametrize("stream_type", StreamType)
def test_arrays_equal_river_beyond_the_length_of_the_rings(stream_type: StreamType) -> None:
    """The agreement holds when run histories and rank windows have wrapped around."""
    rng = np.random.default_rng(20)
    values = rng.poisson(4.0, (2300, 1)).astype(np.float64)
    values[rng.random(values.shape) < 0.03] = np.nan
    _assert_equal(catalogue_of([stream_type]), values)


@pytest.mark.recordings
def test_arrays_equal_river_on_a_recording() -> None:
    """Scores of two days of a real server agree for all types."""
    folder = Path(os.environ.get("ANOMALY_ASSETS_DATA", _REPOSITORY / "../shared/data"))
    path = folder / "asd" / "omi-01.csv.gz"
    if not path.exists():
        pytest.skip(f"no recording {path.name}: set ANOMALY_ASSETS_DATA to the recordings' folder")
    frame = pd.read_csv(path, nrows=2 * 288)
    values = frame.filter(regex=r"^d\d\d$").to_numpy(dtype=np.float64)[:, :12]
    _assert_equal(catalogue_of([*StreamType] * 3), values)
