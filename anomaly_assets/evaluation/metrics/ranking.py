"""How well scores rank anomalous windows above the others, window by window."""

from __future__ import annotations

import numpy as np

from anomaly_assets.evaluation.metrics.checks import checked
from anomaly_assets.evaluation.metrics.optional import sklearn
from anomaly_assets.streams.windows import BoolArray, FloatArray


def ranking(labels: BoolArray, scores: FloatArray) -> dict[str, float]:
    """Return ROC AUC, average precision and the best F1 of any threshold.

    Every window counts for itself: there is no point adjustment, which lets random scores look
    good.

    Parameters
    ----------
    labels
        Whether each window is anomalous, shape ``(n,)``; some but not all of them.
    scores
        Higher is more anomalous, any scale, shape ``(n,)``; NaN ranks lowest.

    Returns
    -------
    dict
        ``roc``, ``pr`` and ``best_f1``, each in [0, 1].

    Raises
    ------
    EvaluationError
        If the shapes differ, there is one class only, or scikit-learn is not installed.
    """
    labels, scores = checked(labels, scores)
    metrics = sklearn("metrics")
    precision, recall, _ = metrics.precision_recall_curve(labels, scores)
    both = precision + recall
    f1 = np.divide(2.0 * precision * recall, both, out=np.zeros_like(both), where=both > 0.0)
    return {
        "roc": float(metrics.roc_auc_score(labels, scores)),
        "pr": float(metrics.average_precision_score(labels, scores)),
        "best_f1": float(f1.max()),
    }
