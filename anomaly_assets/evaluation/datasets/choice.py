"""Which data set is meant by a name."""

from __future__ import annotations

from pathlib import Path

from anomaly_assets.errors import EvaluationError
from anomaly_assets.evaluation.datasets.nab import load_nab
from anomaly_assets.evaluation.datasets.own import load_own
from anomaly_assets.evaluation.datasets.series import LabelledSeries
from anomaly_assets.evaluation.datasets.wearable import load_wearable
from anomaly_assets.evaluation.datasets.wide import load_wide
from anomaly_assets.evaluation.recordings import DATA_SETTING, RecordingSet, data_folder

#: Data sets known by name; any other is the folder of a user's own.
NAMES = ("asd", "smd", "nab", "extrasensory", "fitbit1")


def load(
    name: str, *, folder: Path | None = None, train_until: str | None = None
) -> list[LabelledSeries]:
    """Read a labelled data set.

    Parameters
    ----------
    name
        One of :data:`NAMES`, or the path of a folder with ``readings.csv`` and ``labels.csv``.
    folder
        Where the named data sets are; :func:`~anomaly_assets.evaluation.recordings.data_folder`
        unless given.
    train_until
        Of a folder of one's own: windows before this time are only learnt from.

    Raises
    ------
    EvaluationError
        If there is no such data set, or it is unusable; the message says where and why.
    """
    if name not in NAMES:
        if not Path(name).is_dir():
            msg = (
                f"no data set {name!r}; there are {', '.join(NAMES)}, "
                "or give a folder with readings.csv and labels.csv"
            )
            raise EvaluationError(msg)
        return load_own(Path(name), train_until)
    if train_until is not None:
        msg = f"the training part of {name} is fixed; leave out --train-until"
        raise EvaluationError(msg)
    folder = data_folder() if folder is None else folder
    if not folder.is_dir():
        msg = f"no recordings at {folder}: set {DATA_SETTING} to the folder that holds them"
        raise EvaluationError(msg)
    found = _named(name, folder)
    if not found:
        msg = f"no recording of {name} under {folder}; set {DATA_SETTING} to the folder with them"
        raise EvaluationError(msg)
    return found


def _named(name: str, folder: Path) -> list[LabelledSeries]:
    if name == "nab":
        return load_nab(folder)
    if name in (RecordingSet.ASD, RecordingSet.SMD):
        return load_wide(RecordingSet(name), folder)
    return load_wearable(RecordingSet(name), folder)
