"""What a user sees at the fixed alarm threshold: faults found, how late, and false alarms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anomaly_assets.errors import EvaluationError
from anomaly_assets.evaluation.episodes import ALARM_THRESHOLD, Episode, group_episodes
from anomaly_assets.streams.windows import WINDOW_SECONDS, BoolArray, FloatArray


def events(
    segments: Sequence[tuple[int, int]], scores: FloatArray, rows_per_day: int
) -> dict[str, float]:
    """Return what became of labelled events, and how many alarms were false.

    Parameters
    ----------
    segments
        Labelled events as windows, half-open.
    scores
        Final scores in [0, 1] or NaN, shape ``(n_windows,)``; above 0.7 is an alarm.
    rows_per_day
        Windows that make up a day.

    Returns
    -------
    dict
        ``event_recall`` (share of events with an alarm inside), ``median_delay_windows`` (from an
        event's first window, 0 at the earliest, to its first alarm; of the found ones) and
        ``false_alarms_a_day`` (episodes that touch no event). Left out where there is nothing to
        divide by.
    """
    delays = []
    for start, end in segments:
        alarms = np.flatnonzero(scores[start:end] > ALARM_THRESHOLD)
        if alarms.size:
            delays.append(int(alarms[0]))
    result: dict[str, float] = {}
    if segments:
        result["event_recall"] = len(delays) / len(segments)
    if delays:
        result["median_delay_windows"] = float(np.median(delays))
    if scores.size:
        false = [e for e in _episodes(scores) if not any(_touches(e, *s) for s in segments)]
        result["false_alarms_a_day"] = len(false) * rows_per_day / scores.size
    return result


def alarms_by_context(inside: BoolArray, scores: FloatArray, rows_per_day: int) -> dict[str, float]:
    """Return how often there are alarms inside and outside of known contexts.

    Parameters
    ----------
    inside
        Whether each window lies in a known context, shape ``(n_windows,)``.
    scores, rows_per_day
        As for :func:`events`.

    Returns
    -------
    dict
        ``alarm_share_inside`` and ``alarm_share_outside`` (of the windows with a score) and
        ``alarms_a_day`` (episodes). Left out where there is nothing to divide by.

    Raises
    ------
    EvaluationError
        If the shapes differ.
    """
    inside = np.asarray(inside, dtype=np.bool_)
    if scores.ndim != 1 or inside.shape != scores.shape:
        msg = f"contexts have shape {inside.shape} but scores {scores.shape}; give one a window"
        raise EvaluationError(msg)
    known = np.isfinite(scores)
    alarm = scores > ALARM_THRESHOLD
    result = {
        f"alarm_share_{name}": float(alarm[where].mean())
        for name, where in (("inside", known & inside), ("outside", known & ~inside))
        if where.any()
    }
    if scores.size:
        result["alarms_a_day"] = len(_episodes(scores)) * rows_per_day / scores.size
    return result


def _episodes(scores: FloatArray) -> list[Episode]:
    starts = np.arange(scores.size, dtype=np.int64) * WINDOW_SECONDS
    return group_episodes("", starts, scores)


def _touches(episode: Episode, start: int, end: int) -> bool:
    """Whether an episode overlaps an event given by window numbers."""
    first = episode.start.timestamp() / WINDOW_SECONDS
    last = episode.end.timestamp() / WINDOW_SECONDS
    return first < end and last > start
