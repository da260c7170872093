"""Recordings of servers: a row each step, a column each stream, labels row by row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from anomaly_assets.errors import EvaluationError
from anomaly_assets.evaluation.datasets.series import LabelledSeries, fitted, played
from anomaly_assets.evaluation.recordings import (
    Recording,
    RecordingSet,
    labels,
    recordings,
    segments,
)
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets.streams.windows import WINDOWS_PER_DAY, Calendar

_MINUTES_PER_DAY = 1440
_DAYS_PER_WEEK = 7


def load_wide(of: RecordingSet, folder: Path) -> list[LabelledSeries]:
    """Read every recording of a set of servers, whichever are there.

    A row is a window. A row of smd is a minute, so it is played five times slower; its local time
    is that of the minutes, and a day has 1440 rows.

    Parameters
    ----------
    of
        ``asd`` or ``smd``.
    folder
        The folder of all recordings.

    Raises
    ------
    EvaluationError
        If there is none, or files, columns and labels do not fit.
    """
    found = [one for one in recordings(folder) if one.set is of]
    return [_series(one) for one in found]


def _series(of: Recording) -> LabelledSeries:
    columns = of.stream_columns
    if not columns:
        msg = f"{of.files[0]} has no columns d01, d02, ...; see the layout of {of.set.value}"
        raise EvaluationError(msg)
    values = np.concatenate([_values(path, columns) for path in of.files])
    if of.start is None:
        msg = f"recording {of.name!r} has no time of its first row"
        raise EvaluationError(msg)
    minutes = of.set is RecordingSet.SMD
    local = _minute_clock(len(values)) if minutes else None
    return LabelledSeries(
        name=of.entity,
        catalogue=fitted(load_catalogue(of.catalogue), columns),
        block=played(of.entity, values, of.start, local),
        n_train=of.test_from,
        labels=labels(of),
        segments=tuple(segments(of)),
        rows_per_day=_MINUTES_PER_DAY if minutes else WINDOWS_PER_DAY,
    )


def _values(path: Path, columns: tuple[str, ...]) -> np.ndarray:
    table = pd.read_csv(path)
    absent = [column for column in columns if column not in table]
    if absent:
        msg = f"{path}: column {absent[0]!r} is missing, which other files of the recording have"
        raise EvaluationError(msg)
    try:
        values = table[list(columns)].to_numpy(dtype=np.float64)
    except ValueError as error:
        msg = f"{path}: a value is no number: {error}"
        raise EvaluationError(msg) from error
    return np.where(np.isinf(values), np.nan, values)


def _minute_clock(n_rows: int) -> Calendar:
    """Return the local time of rows a minute apart, the first at midnight on a Monday."""
    day, minute = np.divmod(np.arange(n_rows), _MINUTES_PER_DAY)
    return Calendar(hour=minute / 60.0, weekday=(day % _DAYS_PER_WEEK).astype(np.int64))
