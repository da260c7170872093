"""How well a model does on windows that it had not learnt: forecast error and calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from anomaly_assets.detection.results import IndividualScores
from anomaly_assets.detection.scoring import p_of_score
from anomaly_assets.streams.windows import WindowBlock

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from anomaly_assets.streams.windows import FloatArray

#: Scores above this count; where nothing happens, so many of them do.
ABOVE = 0.7
NOMINAL_SHARE = float(p_of_score(np.array(ABOVE)))
#: Shares of scores above 0.7 that are no worse than one another.
SAME_SHARE = 0.01


@dataclass(frozen=True)
class Quality:
    """Figures over a stretch of windows.

    Parameters
    ----------
    scores
        Known scores.
    share_above
        Share of them above 0.7; None without any.
    error
        Mean absolute forecast error over that of the last value, mean of the streams; None where
        nothing is forecast.
    """

    scores: int
    share_above: float | None
    error: float | None

    @property
    def excess(self) -> float:
        """How far the share above 0.7 is beyond what chance makes it."""
        return max((self.share_above or 0.0) - NOMINAL_SHARE, 0.0)


def quality(judged: Iterable[tuple[Any, Any]], streams: Sequence[int] | None = None) -> Quality:
    """Return the figures of consecutive blocks.

    Parameters
    ----------
    judged
        Inputs and results of a tier, block by block.
    streams
        Catalogue positions to look at; all by default. Of tier 1 only.
    """
    scores, errors, steps = [], [], []
    for inputs, results in judged:
        score = results.score
        if isinstance(results, IndividualScores):
            block = inputs if isinstance(inputs, WindowBlock) else inputs[0]
            chosen = list(range(score.shape[1]) if streams is None else streams)
            score = score[:, chosen]
            errors.append(np.abs(block.values - results.expected)[:, chosen])
            steps.append(np.abs(np.diff(block.values, axis=0))[:, chosen])
        scores.append(np.ravel(score))
    known = np.concatenate(scores) if scores else np.empty(0)
    known = known[np.isfinite(known)]
    share = float((known > ABOVE).mean()) if known.size else None
    return Quality(int(known.size), share, _normalised(errors, steps))


def is_better(candidate: Quality, current: Quality, margin: float) -> bool:
    """Whether a model does better than another one, by a margin.

    It does if its forecasts err less by `margin` (a share) while no more scores are above 0.7, or
    if scores above 0.7 become fewer by `margin` (of all scores) while forecasts err at most that
    much more. Nothing is better than what it cannot be compared with.
    """
    if candidate.share_above is None or current.share_above is None:
        return False
    calmer = candidate.excess <= current.excess - margin
    no_louder = candidate.excess <= current.excess + SAME_SHARE
    if candidate.error is None or current.error is None:
        return calmer and candidate.error is None and current.error is None
    if no_louder and candidate.error <= (1.0 - margin) * current.error:
        return True
    return calmer and candidate.error <= (1.0 + margin) * current.error


def _normalised(errors: list[FloatArray], steps: list[FloatArray]) -> float | None:
    if not errors:
        return None
    by_stream = []
    for errs, moves in zip(np.concatenate(errors).T, np.concatenate(steps).T, strict=True):
        error, step = errs[np.isfinite(errs)], moves[np.isfinite(moves)]
        if error.size and step.size and step.mean() > 0.0:
            by_stream.append(float(error.mean() / step.mean()))
    return float(np.mean(by_stream)) if by_stream else None
