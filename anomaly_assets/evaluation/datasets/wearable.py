"""Recordings of persons, with known contexts instead of labelled anomalies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from anomaly_assets.errors import EvaluationError
from anomaly_assets.evaluation.datasets.long import block_of, windows_between
from anomaly_assets.evaluation.datasets.series import LabelKind, LabelledSeries
from anomaly_assets.evaluation.recordings import (
    LabelledSegment,
    Recording,
    RecordingSet,
    contexts,
    recordings,
)
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets.streams.windows import WINDOWS_PER_DAY

#: Windows that a person's habits are learnt in before alarms are counted.
_LEARNING_WINDOWS = 3 * WINDOWS_PER_DAY
_EXERCISE = "exercise"


def load_wearable(of: RecordingSet, folder: Path) -> list[LabelledSeries]:
    """Read every recording of a set of persons, whichever are there.

    The contexts of fitbit1 that are exercise serve as proxy labels, as exercise must show in the
    heart rate; those of extrasensory are only contexts. The first three days (half of a recording
    shorter than six) are not counted.

    Parameters
    ----------
    of
        ``extrasensory`` or ``fitbit1``.
    folder
        The folder of all recordings.

    Raises
    ------
    EvaluationError
        If files or streams do not fit.
    """
    return [_series(one) for one in recordings(folder) if one.set is of]


def _series(of: Recording) -> LabelledSeries:
    catalogue = load_catalogue(of.catalogue)
    table = pd.concat([pd.read_csv(path) for path in of.files], ignore_index=True)
    table["timestamp"] = pd.to_datetime(table["timestamp"], utc=True, format="ISO8601")
    unknown = set(table["stream_id"]) - set(catalogue.stream_ids)
    if unknown:
        msg = (
            f"{of.files[0]}: stream {min(unknown)!r} is not in the catalogue "
            f"{catalogue.name!r}; use a folder with a catalogue of its own"
        )
        raise EvaluationError(msg)
    table = table[np.isfinite(table["value"].to_numpy(dtype=np.float64))]
    block = block_of(of.entity, table, catalogue, of.time_zone)
    known = contexts(of)
    proxy = of.set is RecordingSet.FITBIT1
    if proxy:
        known = known[known["label"].str.startswith(_EXERCISE)]
    labels = np.zeros(len(block), dtype=np.bool_)
    segments = []
    for start, end, label in zip(known["start"], known["end"], known["label"], strict=True):
        first, last = windows_between(block, start, end)
        labels[first:last] = True
        if first < last:
            segments.append(LabelledSegment(first, last, (), label))
    return LabelledSeries(
        name=of.entity,
        catalogue=catalogue,
        block=block,
        n_train=min(_LEARNING_WINDOWS, len(block) // 2),
        labels=labels,
        segments=tuple(segments),
        kind=LabelKind.PROXY if proxy else LabelKind.CONTEXTS,
    )
