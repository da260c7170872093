"""Evidence taken out of the results of a block."""

from __future__ import annotations

import numpy as np

from anomaly_assets.detection.explanation.evidence import WindowEvidence
from anomaly_assets.detection.explanation.explain import Explainer
from anomaly_assets.detection.explanation.triggers import Trigger
from anomaly_assets.detection.results import (
    CrossStreamScores,
    EnsembleResults,
    GapScores,
    IndividualScores,
    StreamHealth,
)
from anomaly_assets.streams.windows import FloatArray, WindowBlock, WindowRange
from anomaly_assets_tests.detection.explanation.cases import CATALOGUE, N_STREAMS, USUAL, WINDOW

N_WINDOWS = 20


def _evidence(rng_values: FloatArray, first: int, row: int) -> WindowEvidence:
    """Take window `row` from a block that begins at window `first`; earlier ones are history."""
    rng = np.random.default_rng(4)
    score, deviation = rng.random((N_WINDOWS, N_STREAMS)), rng.normal(0, 4, (N_WINDOWS, N_STREAMS))
    group = rng.random((N_WINDOWS, 4))
    part = slice(first, None)
    values, whole = rng_values[part], rng.random(N_WINDOWS)[part]
    n = len(values)
    ones, missing = np.ones((n, N_STREAMS)), np.zeros((n, N_STREAMS), dtype=np.int64)
    health = StreamHealth(ones, missing, ones, ones > 0, ones, ones < 0)
    start = WINDOW + 300 * first
    return WindowEvidence.from_results(
        WindowBlock("ada", "UTC", WindowRange(start, start + 300 * n), values),
        row - first,
        Trigger.FINAL_SCORE,
        history=rng_values[:first],
        individual=IndividualScores(score[part], values - 1.0, deviation[part], health),
        cross_stream=CrossStreamScores(whole, group[part], {"relationships": whole}),
        gaps=GapScores(
            whole, group[part], group[part], ones * 0.1, group[part] > 0.9, whole, whole > 0.9
        ),
        ensemble=EnsembleResults(whole, whole),
    )


def test_a_window_is_explained_alike_however_its_block_is_cut() -> None:
    """With the windows before the block as history, the cut leaves no trace."""
    values = USUAL + np.random.default_rng(3).normal(size=(N_WINDOWS, N_STREAMS))
    explainer = Explainer(CATALOGUE)
    for row in (0, 5, 14, 19):
        whole = explainer.explain(_evidence(values, 0, row))
        assert whole.window_start == WINDOW + 300 * row
        for first in {0, row // 2, max(row - 1, 0), row}:
            assert explainer.explain(_evidence(values, first, row)) == whole
