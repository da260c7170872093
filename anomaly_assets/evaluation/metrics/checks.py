"""What every ranking measure asks of labels and scores."""

from __future__ import annotations

import numpy as np

from anomaly_assets.errors import EvaluationError
from anomaly_assets.streams.windows import BoolArray, FloatArray


def checked(labels: BoolArray, scores: FloatArray) -> tuple[BoolArray, FloatArray]:
    """Return labels and scores fit for ranking: unknown scores just below the lowest known one.

    Parameters
    ----------
    labels
        Whether each window is anomalous, shape ``(n,)``.
    scores
        Higher is more anomalous, shape ``(n,)``; NaN where unknown.

    Raises
    ------
    EvaluationError
        If the shapes differ, a score is infinite, or the labels are of one class only.
    """
    labels = np.asarray(labels, dtype=np.bool_)
    scores = np.asarray(scores, dtype=np.float64)
    if labels.ndim != 1 or labels.shape != scores.shape:
        msg = (
            f"labels have shape {labels.shape} but scores {scores.shape}; give one for each window"
        )
        raise EvaluationError(msg)
    if not labels.any() or labels.all():
        msg = f"{labels.sum()} of {labels.size} windows are anomalous; a ranking needs both kinds"
        raise EvaluationError(msg)
    if np.isinf(scores).any():
        row = int(np.flatnonzero(np.isinf(scores))[0])
        msg = f"row {row} has an infinite score; give a finite one, or NaN where it is unknown"
        raise EvaluationError(msg)
    return labels, known(scores)


def known(scores: FloatArray) -> FloatArray:
    """Return scores with the unknown ones just below the lowest known one (0 if none is known)."""
    unknown = np.isnan(scores)
    if not unknown.any():
        return scores
    if unknown.all():
        return np.zeros_like(scores)
    lowest = np.nextafter(scores[~unknown].min(), -np.inf)
    return np.where(unknown, lowest, scores)
