"""Real recordings kept outside the project: where they are and what is known of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import numpy as np
import pandas as pd

from anomaly_assets.errors import EvaluationError
from anomaly_assets.streams.windows import WINDOW_SECONDS, BoolArray

DATA_SETTING = "ANOMALY_ASSETS_DATA"
_REPOSITORY = Path(__file__).resolve().parents[2]
#: Recordings of servers have row numbers instead of times; their first row is put on this Monday.
_WIDE_START = datetime(2026, 1, 5, tzinfo=UTC)


class RecordingSet(StrEnum):
    """Origin and layout of a recording; also the name of its catalogue."""

    ASD = "asd"
    SMD = "smd"
    EXTRASENSORY = "extrasensory"
    FITBIT1 = "fitbit1"


class Shape(StrEnum):
    """``wide``: a row each step, a column each stream; ``long``: timestamp, stream_id, value."""

    WIDE = "wide"
    LONG = "long"


@dataclass(frozen=True)
class Recording:
    """One entity's recording and what ingestion needs to know about it.

    Parameters
    ----------
    name
        Such as ``asd/omi-01``.
    set
        Where it comes from; its value is the catalogue's name.
    files
        Readings, in order of time.
    shape
        Wide or long.
    time_zone
        IANA zone of the entity.
    start, step_seconds
        Time of the first row and seconds between rows of a wide recording; None and 0 for a long
        one, which has its own (UTC) times.
    test_from
        Row at which the labelled test part of a wide recording begins.
    """

    name: str
    set: RecordingSet
    files: tuple[Path, ...]
    shape: Shape
    time_zone: str
    start: datetime | None = None
    step_seconds: int = 0
    test_from: int = 0

    @property
    def entity(self) -> str:
        """Identifier of the entity."""
        return self.name.rpartition("/")[2]

    @property
    def catalogue(self) -> str:
        """Name of the shipped catalogue."""
        return self.set.value

    @property
    def stream_columns(self) -> tuple[str, ...]:
        """Columns of a wide recording that are streams."""
        if self.shape is Shape.LONG:
            return ()
        columns = pd.read_csv(self.files[0], nrows=0).columns
        return tuple(str(column) for column in columns if column[0] == "d" and column[1:].isdigit())


@dataclass(frozen=True)
class LabelledSegment:
    """An anomaly as the publishers of a recording describe it.

    Parameters
    ----------
    start, end
        Rows of the whole recording, half-open.
    streams
        The streams they blame.
    kind
        Their word for it, or ``""``.
    """

    start: int
    end: int
    streams: tuple[str, ...]
    kind: str


def data_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Return the folder of the recordings, which may not exist.

    Parameters
    ----------
    environment
        Where the setting ``ANOMALY_ASSETS_DATA`` is looked up; the process environment unless
        given.

    Returns
    -------
    pathlib.Path
        The setting if there is one, else the first that exists of ``../shared/data`` beside the
        current directory and beside the repository.
    """
    setting = (os.environ if environment is None else environment).get(DATA_SETTING)
    if setting:
        return Path(setting).expanduser()
    candidates = [root.parent / "shared" / "data" for root in (Path.cwd(), _REPOSITORY)]
    return next((folder for folder in candidates if folder.is_dir()), candidates[0])


def recordings(folder: Path | None = None) -> list[Recording]:
    """List the recordings under `folder`, by set and name.

    Parameters
    ----------
    folder
        Default: :func:`data_folder`.

    Raises
    ------
    EvaluationError
        If the folder does not exist.
    """
    folder = data_folder() if folder is None else folder
    if not folder.is_dir():
        msg = f"no recordings at {folder}: set {DATA_SETTING} to the folder that holds them"
        raise EvaluationError(msg)
    return [*_asd(folder), *_smd(folder), *_extrasensory(folder), *_fitbit1(folder)]


def recording(name: str, folder: Path | None = None) -> Recording:
    """Return one recording by name, such as ``asd/omi-01``.

    Raises
    ------
    EvaluationError
        If there is none of that name.
    """
    known = {found.name: found for found in recordings(folder)}
    if name not in known:
        msg = f"no recording {name!r}; there are {', '.join(known) or 'none'}"
        raise EvaluationError(msg)
    return known[name]


def labels(of: Recording) -> BoolArray:
    """Return the anomaly label of every row of an asd or smd recording, shape ``(n_rows,)``.

    Rows before ``test_from`` are unlabelled and False.

    Raises
    ------
    EvaluationError
        If the recording has no labels.
    """
    if of.set is RecordingSet.ASD:
        rows = pd.read_csv(of.files[0], usecols=["label"])["label"].to_numpy()
        return np.asarray(rows != 0)
    if of.set is RecordingSet.SMD:
        test = pd.read_csv(_beside(of.files[1], "_test.csv.gz", "_test_label.csv.gz"))
        before = np.zeros(of.test_from, dtype=np.bool_)
        return np.concatenate([before, test["label"].to_numpy() != 0])
    msg = f"recording {of.name!r} has contexts, not anomaly labels; ask for its contexts"
    raise EvaluationError(msg)


def segments(of: Recording) -> list[LabelledSegment]:
    """Return the labelled anomalies of an asd or smd recording, with the streams blamed.

    Raises
    ------
    EvaluationError
        If the recording has no labels.
    """
    if of.set is RecordingSet.ASD:
        path = _beside(of.files[0], ".csv.gz", "_interpretation.csv")
    elif of.set is RecordingSet.SMD:
        path = _beside(of.files[1], "_test.csv.gz", "_interpretation.csv")
    else:
        msg = f"recording {of.name!r} has contexts, not anomaly labels; ask for its contexts"
        raise EvaluationError(msg)
    table = pd.read_csv(path, dtype={"dims": str})
    kinds = table["type"] if "type" in table else [""] * len(table)
    return [
        LabelledSegment(
            of.test_from + int(start), of.test_from + int(end), tuple(dims.split()), str(kind)
        )
        for start, end, dims, kind in zip(
            table["start"], table["end"], table["dims"], kinds, strict=True
        )
    ]


def contexts(of: Recording) -> pd.DataFrame:
    """Return the known contexts of a wearable recording: ``start``, ``end`` (UTC) and ``label``.

    They are no anomalies, and an alarm outside of them is not a false one.

    Raises
    ------
    EvaluationError
        If the recording has no contexts.
    """
    if of.shape is Shape.WIDE:
        msg = f"recording {of.name!r} has anomaly labels, not contexts; ask for its labels"
        raise EvaluationError(msg)
    table = pd.read_csv(_beside(of.files[0], ".csv.gz", "_events.csv"))
    return pd.DataFrame(
        {
            "start": pd.to_datetime(table["start"], utc=True, format="ISO8601"),
            "end": pd.to_datetime(table["end"], utc=True, format="ISO8601"),
            "label": table["label"].astype(str),
        }
    )


def _beside(path: Path, ending: str, other: str) -> Path:
    found = path.with_name(path.name.removesuffix(ending) + other)
    if not found.is_file():
        msg = f"{found} is missing beside {path.name}; copy the recordings again"
        raise EvaluationError(msg)
    return found


def _asd(folder: Path) -> list[Recording]:
    found = []
    for path in sorted((folder / "asd").glob("*.csv.gz")):
        split = pd.read_csv(path, usecols=["split"])["split"]
        found.append(
            Recording(
                name=f"asd/{path.name.removesuffix('.csv.gz')}",
                set=RecordingSet.ASD,
                files=(path,),
                shape=Shape.WIDE,
                time_zone="UTC",
                start=_WIDE_START,
                step_seconds=WINDOW_SECONDS,
                test_from=int((split == "train").sum()),
            )
        )
    return found


def _smd(folder: Path) -> list[Recording]:
    found = []
    for train in sorted((folder / "smd").glob("*_train.csv.gz")):
        rows = len(pd.read_csv(train, usecols=[0]))
        found.append(
            Recording(
                name=f"smd/{train.name.removesuffix('_train.csv.gz')}",
                set=RecordingSet.SMD,
                files=(train, _beside(train, "_train.csv.gz", "_test.csv.gz")),
                shape=Shape.WIDE,
                time_zone="UTC",
                start=_WIDE_START,
                # A row is a minute; as one row is one window, it is played five times slower.
                step_seconds=WINDOW_SECONDS,
                test_from=rows,
            )
        )
    return found


def _extrasensory(folder: Path) -> list[Recording]:
    paths = sorted((folder / "wearable" / "extrasensory").glob("*.csv.gz"))
    return [_long(path, RecordingSet.EXTRASENSORY, "America/Los_Angeles") for path in paths]


def _fitbit1(folder: Path) -> list[Recording]:
    paths = sorted((folder / "wearable" / "fitbit1").glob("*.csv.gz"))
    return [_long(path, RecordingSet.FITBIT1, "America/Chicago") for path in paths]


def _long(path: Path, of: RecordingSet, time_zone: str) -> Recording:
    return Recording(
        name=f"{of.value}/{path.name.removesuffix('.csv.gz')}",
        set=of,
        files=(path,),
        shape=Shape.LONG,
        time_zone=time_zone,
    )
