"""Group alarm windows into episodes: what a person would call one alarm."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from anomaly_assets.detection.explanation.episodes import MAX_QUIET_WINDOWS, joined
from anomaly_assets.errors import EvaluationError
from anomaly_assets.streams.windows import WINDOW_SECONDS, FloatArray, IntArray

#: Final scores above this are alarms.
ALARM_THRESHOLD = 0.7


@dataclass(frozen=True)
class Episode:
    """A run of alarm windows of one entity.

    Parameters
    ----------
    entity
        Whose.
    start
        Start of the first alarm window, UTC.
    end
        End of the last alarm window, UTC.
    peak
        Highest score, in (0, 1].
    windows
        Number of alarm windows; the quiet ones between them do not count.
    """

    entity: str
    start: datetime
    end: datetime
    peak: float
    windows: int


def group_episodes(
    entity: str,
    starts: IntArray,
    scores: FloatArray,
    *,
    threshold: float = ALARM_THRESHOLD,
    max_quiet: int = MAX_QUIET_WINDOWS,
) -> list[Episode]:
    """Merge the alarm windows of one entity into episodes.

    Two alarm windows belong to one episode if at most `max_quiet` windows lie between them, whether
    those scored low, are unknown (NaN) or were never scored.

    Parameters
    ----------
    entity
        Whose windows these are.
    starts
        Window starts in epoch seconds, strictly increasing, shape ``(n_windows,)``.
    scores
        Final scores in [0, 1] or NaN, same shape.
    threshold
        Scores above it are alarms.
    max_quiet
        Longest gap inside an episode, in windows.

    Raises
    ------
    EvaluationError
        If the shapes differ or the starts do not increase.

    Examples
    --------
    >>> starts = np.arange(0, 8) * 300
    >>> scores = np.array([0.1, 0.9, 0.2, 0.8, 0.1, 0.1, 0.1, 0.1])
    >>> [(e.windows, e.peak) for e in group_episodes("ann", starts, scores)]
    [(2, 0.9)]
    """
    check_scores(entity, starts, scores)
    alarms = np.flatnonzero(scores > threshold)
    parts = [alarms[run] for run in joined(starts[alarms], max_quiet=max_quiet)]
    return [
        Episode(
            entity=entity,
            start=datetime.fromtimestamp(int(starts[part[0]]), tz=UTC),
            end=datetime.fromtimestamp(int(starts[part[-1]]) + WINDOW_SECONDS, tz=UTC),
            peak=float(scores[part].max()),
            windows=int(part.size),
        )
        for part in parts
    ]


def check_scores(entity: str, starts: IntArray, scores: FloatArray) -> None:
    """Refuse scores that do not belong to their windows.

    Raises
    ------
    EvaluationError
        If the shapes differ or the starts do not increase.
    """
    if starts.ndim != 1 or starts.shape != scores.shape:
        msg = f"entity {entity!r}: {starts.shape} starts but {scores.shape} scores; give one each"
        raise EvaluationError(msg)
    if np.any(np.diff(starts) <= 0):
        row = int(np.flatnonzero(np.diff(starts) <= 0)[0]) + 1
        msg = f"entity {entity!r}: window starts do not increase at row {row}; sort them, each once"
        raise EvaluationError(msg)
