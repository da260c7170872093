"""A labelled series: the windows of one entity, and what is known of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import numpy as np

from anomaly_assets.errors import EvaluationError
from anomaly_assets.evaluation.recordings import LabelledSegment
from anomaly_assets.streams.catalogue import Catalogue
from anomaly_assets.streams.windows import (
    WINDOW_SECONDS,
    WINDOWS_PER_DAY,
    BoolArray,
    Calendar,
    FloatArray,
    WindowBlock,
    WindowRange,
)


class LabelKind(StrEnum):
    """What the labels of a series say.

    ``anomalies``: what was wrong. ``proxy``: contexts that stand in for anomalies because they must
    show (logged exercise). ``contexts``: known contexts in which an alarm is no false one; they are
    no anomalies, and nothing is ranked against them.
    """

    ANOMALIES = "anomalies"
    PROXY = "proxy"
    CONTEXTS = "contexts"


@dataclass(frozen=True)
class LabelledSeries:
    """The windows of one entity, and what is known of them.

    Parameters
    ----------
    name
        Such as ``omi-01``; unique in its data set.
    catalogue
        Its streams.
    block
        Its windows, those to learn from first.
    n_train
        Windows at the beginning that are learnt from but not evaluated.
    labels
        Whether each window is anomalous (or in a context), shape ``(n_windows,)``.
    segments
        Labelled anomalies in window numbers of the block, with the streams blamed.
    rows_per_day
        Windows that make up a day: 288, unless a recording is played at another speed.
    known
        First and last window of every window of the Numenta Anomaly Benchmark; empty otherwise.
    kind
        What the labels say.

    Raises
    ------
    EvaluationError
        If the parts do not fit together.
    """

    name: str
    catalogue: Catalogue
    block: WindowBlock
    n_train: int
    labels: BoolArray
    segments: tuple[LabelledSegment, ...]
    rows_per_day: int = WINDOWS_PER_DAY
    known: tuple[tuple[int, int], ...] = ()
    kind: LabelKind = LabelKind.ANOMALIES

    def __post_init__(self) -> None:
        """Refuse parts that do not fit together."""
        if self.labels.shape != (len(self.block),):
            msg = f"{self.name}: {len(self.block)} windows but labels of shape {self.labels.shape}"
            raise EvaluationError(msg)
        if not 0 <= self.n_train < len(self.block):
            msg = (
                f"{self.name}: {self.n_train} of its {len(self.block)} windows are to be learnt "
                "from; at least one must remain to be evaluated"
            )
            raise EvaluationError(msg)


def played(
    entity: str, values: FloatArray, start: datetime, local: Calendar | None = None
) -> WindowBlock:
    """Return rows as consecutive windows, one each, whatever the time between the rows.

    Parameters
    ----------
    entity
        Whose rows.
    values
        Shape ``(n_rows, n_streams)``.
    start
        Of the first window; on the grid.
    local
        True wall-clock time of the rows; unless given, that of the windows.
    """
    first = int(start.timestamp())
    windows = WindowRange(first, first + len(values) * WINDOW_SECONDS)
    return WindowBlock(entity, "UTC", windows, np.asarray(values, dtype=np.float64), local)


def segments_of(labels: BoolArray) -> list[tuple[int, int]]:
    """Return the runs of labelled windows, half-open."""
    edges = np.flatnonzero(np.diff(labels.astype(np.int8), prepend=0, append=0))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def fitted(catalogue: Catalogue, columns: tuple[str, ...]) -> Catalogue:
    """Return a catalogue for just these columns, as the shipped one has them where it has them.

    A column that the shipped catalogue does not know behaves as the last one it does know.
    """
    if columns == catalogue.stream_ids:
        return catalogue
    shipped = {stream.id: stream for stream in catalogue.streams}
    last = catalogue.streams[-1]
    streams = tuple(shipped.get(name, last.model_copy(update={"id": name})) for name in columns)
    return Catalogue(
        name=catalogue.name,
        description=f"{len(columns)} streams as in the recording",
        time_zone=catalogue.time_zone,
        groups=catalogue.groups,
        streams=streams,
        templates=catalogue.templates,
    )
