"""The shipped catalogues against the recordings they describe."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anomaly_assets.streams.aggregation import MissingReason, Readings, aggregate
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowRange

pytestmark = pytest.mark.recordings

DATA = Path(
    os.environ.get(
        "ANOMALY_ASSETS_DATA", str(Path(__file__).resolve().parents[2] / ".." / "shared" / "data")
    )
)

WEARABLE = [
    ("extrasensory", "wearable/extrasensory/es_*.csv.gz"),
    ("fitbit1", "wearable/fitbit1/*.csv.gz"),
]
SERVERS = [("asd", "asd/omi-*.csv.gz"), ("smd", "smd/machine-*_test.csv.gz")]


def _recordings(pattern: str) -> list[Path]:
    files = sorted(DATA.glob(pattern))
    if not files:
        pytest.skip(f"no recordings {pattern}; set ANOMALY_ASSETS_DATA to the folder of data sets")
    return files


@pytest.mark.parametrize(("name", "pattern"), WEARABLE)
def test_every_recorded_stream_is_in_the_catalogue_and_in_range(name: str, pattern: str) -> None:
    """All ids are known, every recorded value is valid, and no catalogue stream is invented."""
    catalogue = load_catalogue(name)
    recorded: set[str] = set()
    for file in _recordings(pattern):
        table = pd.read_csv(file)
        recorded |= set(table.stream_id)
        for stream in catalogue.streams:
            values = table.value[table.stream_id == stream.id].to_numpy(np.float64)
            low, high = stream.valid_range or (-np.inf, np.inf)
            assert ((low <= values) & (values <= high)).all(), f"{file.name}: {stream.id}"
    assert recorded == set(catalogue.stream_ids)


@pytest.mark.parametrize(("name", "pattern"), SERVERS)
def test_every_server_metric_is_in_the_catalogue(name: str, pattern: str) -> None:
    """The metric columns of each server are the catalogue's streams, in its order."""
    catalogue = load_catalogue(name)
    for file in _recordings(pattern):
        columns = [c for c in pd.read_csv(file, nrows=1).columns if c.startswith("d")]
        assert tuple(columns) == catalogue.stream_ids


def test_a_worn_tracker_without_steps_counts_zero_and_an_unworn_one_nothing() -> None:
    """Real minutes: steps are known wherever the heart rate is, and calories vouch for nothing."""
    catalogue = load_catalogue("fitbit1")
    (file,) = _recordings("wearable/fitbit1/fitbit1_native_*.csv.gz")
    table = pd.read_csv(file, nrows=250_000)
    moments = pd.DatetimeIndex(table.timestamp).as_unit("us").to_numpy(np.int64)
    position = {stream: i for i, stream in enumerate(catalogue.stream_ids)}
    codes = table.stream_id.map(position).to_numpy().astype(np.int64)
    readings = Readings(codes, moments, table.value.to_numpy(np.float64))
    seconds = moments // 1_000_000 // WINDOW_SECONDS * WINDOW_SECONDS
    windows = WindowRange(int(seconds.min()), int(seconds.max()))
    result = aggregate(readings, windows, catalogue)

    worn = np.isfinite(result.values[:, position["hr"]])
    steps = result.values[:, position["steps"]]
    walked = np.zeros(len(windows), dtype=np.bool_)
    own = readings.stream == position["steps"]
    kept = (seconds[own] - windows.start) // WINDOW_SECONDS
    walked[kept[kept < len(windows)]] = True
    assert np.isfinite(steps[worn]).all()
    assert (steps[worn & ~walked] == 0.0).all()
    assert np.isnan(steps[~worn & ~walked]).all()
    assert (~worn & np.isfinite(result.values[:, position["calories"]])).any()
    assert (result.reason[~worn & ~walked, position["steps"]] == MissingReason.ABSENT).any()
