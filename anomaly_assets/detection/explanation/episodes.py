"""Episodes: the run of anomalous windows that a person would call one anomaly.

Everything here is a function of the windows alone, so that an episode is the same whether its
windows were processed in one range, one by one, or again after late readings.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from anomaly_assets.detection.explanation.triggers import CodeArray, Trigger
from anomaly_assets.detection.scoring import p_of_score
from anomaly_assets.errors import InputError
from anomaly_assets.streams.windows import WINDOW_SECONDS, FloatArray, IntArray

#: A quarter of an hour below the threshold does not end an episode; longer does.
MAX_QUIET_WINDOWS = 3
#: A window tells more than the one explained so far when it is this many nats rarer (about seven
#: times): less is the same anomaly over again, and the onset is the better witness of what began.
CLEARLY_RARER = 2.0


@dataclass(frozen=True, slots=True)
class Episode:
    """A run of anomalous windows of one entity.

    Parameters
    ----------
    start, end
        Start of its first and end of its last anomalous window, seconds since the epoch.
    windows
        Number of anomalous windows; the quiet ones between them do not count.
    peak_score
        Highest final score, NaN where none is known.
    telling
        Start of the window that it is explained by.
    ongoing
        Whether the next window can still belong to it.
    """

    start: int
    end: int
    windows: int
    peak_score: float
    telling: int
    ongoing: bool = False

    @classmethod
    def of_window(cls, start: int, score: float) -> Episode:
        """Return a window by itself, as it is explained on demand."""
        return cls(start, start + WINDOW_SECONDS, 1, score, start)


def joined(starts: IntArray, *, max_quiet: int = MAX_QUIET_WINDOWS) -> list[slice]:
    """Join anomalous windows to runs with at most `max_quiet` other windows in between.

    Parameters
    ----------
    starts
        Starts of the anomalous windows, epoch seconds, strictly increasing, shape ``(n,)``.
    max_quiet
        Longest gap inside a run, in windows, whether those were quiet or never scored.

    Returns
    -------
    list of slice
        One a run, in order; together they cover `starts`.

    Examples
    --------
    >>> joined(np.array([0, 1, 5, 10]) * 300)
    [slice(0, 3, None), slice(3, 4, None)]
    """
    if starts.size == 0:
        return []
    breaks = np.flatnonzero(np.diff(starts) > (max_quiet + 1) * WINDOW_SECONDS) + 1
    edges = [0, *breaks.tolist(), starts.size]
    return [slice(first, last) for first, last in pairwise(edges)]


def episodes_of(
    starts: IntArray, codes: CodeArray, scores: FloatArray, *, until: int
) -> list[Episode]:
    """Group the anomalous windows of one entity into episodes.

    Parameters
    ----------
    starts
        Starts of the windows that call for an explanation, epoch seconds, strictly increasing.
    codes
        Why they do, as :func:`~anomaly_assets.detection.explanation.triggers.triggers` says it.
    scores
        Their final scores in [0, 1] or NaN, same shape.
    until
        End of the last window that was scored at all: what ended less than
        :data:`MAX_QUIET_WINDOWS` windows before it, or just then, is ongoing.

    Raises
    ------
    InputError
        If the shapes differ or the starts do not increase.
    """
    if (
        starts.ndim != 1
        or not starts.shape == codes.shape == scores.shape
        or bool((np.diff(starts) <= 0).any())
    ):
        msg = (
            f"{starts.shape} starts, {codes.shape} codes and {scores.shape} scores of anomalous "
            "windows: give one of each, and the starts in order, each once"
        )
        raise InputError(msg)
    found = []
    for part in joined(starts):
        end = int(starts[part][-1]) + WINDOW_SECONDS
        known = scores[part][np.isfinite(scores[part])]
        found.append(
            Episode(
                start=int(starts[part][0]),
                end=end,
                windows=part.stop - part.start,
                peak_score=float(known.max()) if known.size else float("nan"),
                telling=int(starts[part][telling_window(codes[part], scores[part])]),
                ongoing=until - end <= MAX_QUIET_WINDOWS * WINDOW_SECONDS,
            )
        )
    return found


def telling_window(codes: CodeArray, scores: FloatArray) -> int:
    """Choose the window by which an episode is explained.

    It is the onset, where causes and their effects are still apart, until a window tells clearly
    more: the first that is anomalous as a whole where so far only single streams were, and from
    there one that is clearly rarer. The choice never looks ahead: an explanation changes only when
    the episode has grown clearly worse, and its end changes nothing.

    Parameters
    ----------
    codes
        Why the episode's anomalous windows call for an explanation, in order, at least one.
    scores
        Their final scores, NaN where unknown.

    Returns
    -------
    int
        Position of the window.

    Examples
    --------
    >>> final = np.ones(5, dtype=np.int8)
    >>> telling_window(final, np.array([0.72, 0.75, 0.93, 0.94, 0.71]))
    2
    """
    whole = codes == Trigger.FINAL_SCORE.code
    # An unknown score stands behind any known one.
    rarity = np.where(np.isfinite(scores), -np.log(p_of_score(np.nan_to_num(scores))), -np.inf)
    telling = 0
    for position in range(1, len(scores)):
        if whole[position] != whole[telling]:
            more = bool(whole[position])
        else:
            more = rarity[position] > rarity[telling] + CLEARLY_RARER
        if more:
            telling = position
    return telling
