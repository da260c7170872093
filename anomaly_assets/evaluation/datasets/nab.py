"""Series of the Numenta Anomaly Benchmark."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from anomaly_assets.errors import EvaluationError
from anomaly_assets.evaluation.datasets.series import LabelledSeries, played
from anomaly_assets.evaluation.metrics.nab import learning_rows
from anomaly_assets.evaluation.recordings import LabelledSegment
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets.streams.windows import WINDOWS_PER_DAY, Calendar, window_of

_WINDOWS_FILE = "combined_windows.json"
_DAY_SECONDS = 86_400


def load_nab(folder: Path) -> list[LabelledSeries]:
    """Read every series under ``<folder>/nab``, whichever are there.

    Rows in order are windows, whatever the time between them, missing or irregular: the local time
    is that of the true timestamps. The first 15 % of a series, at most 750 rows, are for learning.

    Raises
    ------
    EvaluationError
        If the windows are missing, or a file cannot be read.
    """
    root = folder / "nab"
    files = sorted(root.rglob("*.csv.gz"))
    if not files:
        return []
    path = root / _WINDOWS_FILE
    if not path.is_file():
        msg = f"{path} is missing; copy it beside the series"
        raise EvaluationError(msg)
    windows = json.loads(path.read_text(encoding="utf-8"))
    return [_series(file, root, windows) for file in files]


def _series(path: Path, root: Path, windows: dict[str, list[list[str]]]) -> LabelledSeries:
    key = str(path.relative_to(root)).removesuffix(".gz")
    if key not in windows:
        msg = f"{root / _WINDOWS_FILE} has no entry {key!r}; add its windows, [] if it has none"
        raise EvaluationError(msg)
    try:
        table = pd.read_csv(path, usecols=["timestamp", "value"])
        times = pd.to_datetime(table["timestamp"], utc=True, format="ISO8601")
        values = table["value"].to_numpy(dtype=np.float64)
    except ValueError as error:
        msg = f"{path}: {error}; expected the columns timestamp and value"
        raise EvaluationError(msg) from error
    known = tuple(_rows(times, start, end, key) for start, end in windows[key])
    labels = np.zeros(len(table), dtype=np.bool_)
    for first, last in known:
        labels[first : last + 1] = True
    values = np.where(np.isinf(values), np.nan, values)
    start = window_of(times.iloc[0].to_pydatetime())
    return LabelledSeries(
        name=key.removesuffix(".csv"),
        catalogue=load_catalogue("nab"),
        block=played(key, values[:, None], start, _clock(times)),
        n_train=learning_rows(len(table)),
        labels=labels,
        segments=tuple(LabelledSegment(first, last + 1, ("value",), "") for first, last in known),
        rows_per_day=_rows_per_day(times),
        known=known,
    )


def _rows(times: pd.Series, start: str, end: str, key: str) -> tuple[int, int]:
    """Return the first and last row of a window."""
    bounds = pd.to_datetime([start, end], utc=True, format="ISO8601")
    inside = np.flatnonzero((times >= bounds[0]) & (times <= bounds[1]))
    if not inside.size:
        msg = f"{key}: no row lies in its window {start} to {end}"
        raise EvaluationError(msg)
    return int(inside[0]), int(inside[-1])


def _rows_per_day(times: pd.Series) -> int:
    """Return the rows of a day by the usual time between rows; 288 where there is none."""
    seconds = times.dt.as_unit("s").astype(np.int64).to_numpy()
    if seconds.size < 2:
        return WINDOWS_PER_DAY
    step = float(np.median(np.diff(seconds)))
    return max(round(_DAY_SECONDS / step), 1) if step > 0.0 else WINDOWS_PER_DAY


def _clock(times: pd.Series) -> Calendar:
    stamps = times.dt
    hour = stamps.hour + stamps.minute / 60.0 + stamps.second / 3600.0
    return Calendar(
        hour=hour.to_numpy(dtype=np.float64), weekday=stamps.weekday.to_numpy(dtype=np.int64)
    )
