"""VUS-PR and the period, against the package that benchmarks use."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly_assets.errors import EvaluationError
from anomaly_assets.evaluation.metrics.vus import period, vus_pr


def example(seed: int, size: int, segments: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and scores; odd seeds have many tied scores."""
    generator = np.random.default_rng(seed)
    labels = np.zeros(size, dtype=np.bool_)
    for start, end in segments:
        labels[start:end] = True
    return labels, np.round(generator.random(size) + 0.4 * labels, 2 if seed % 2 else 6)


@pytest.mark.parametrize(
    ("seed", "size", "segments", "window", "expected"),
    [
        (1, 400, [(50, 60), (200, 230)], 20, 0.6191432016191517),
        (2, 600, [(0, 5), (100, 101), (110, 140), (590, 600)], 31, 0.6190941827652874),
        (3, 1000, [(500, 520), (522, 530), (700, 790)], 100, 0.6793642472705862),
        (4, 120, [(60, 70)], 0, 0.6193253505969023),
        (5, 300, [(10, 20), (290, 300)], 1, 0.5842235853134932),
    ],
)
def test_the_volume_equals_tsb_ad(
    seed: int, size: int, segments: list[tuple[int, int]], window: int, expected: float
) -> None:
    """Figures of TSB-AD 1.5, ``generate_curve(..., version="opt", thre=250)``."""
    labels, scores = example(seed, size, segments)
    assert vus_pr(labels, scores, window) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("seed", "true", "size", "expected"),
    [(1, 50, 1000, 51), (2, 288, 3000, 6), (3, 7, 500, 7), (4, 390, 4000, 6), (5, 24, 60, 25)],
)
def test_the_period_equals_tsb_ad(seed: int, true: int, size: int, expected: int) -> None:
    """Figures of TSB-AD 1.5, ``find_length_rank``; noise makes it find short periods."""
    noise = 0.3 * np.random.default_rng(seed).standard_normal(size)
    assert period(np.sin(np.arange(size) * 2 * np.pi / true) + noise) == expected


@pytest.mark.parametrize(
    "values", [np.zeros(0), np.ones(500), np.full(500, np.nan), np.arange(3.0), np.arange(900.0)]
)
def test_without_a_period_it_is_125(values: np.ndarray) -> None:
    """Nothing, a constant, missing values, too few rows and a trend have no period."""
    assert period(values) == 125


def test_a_perfect_ranking_is_better_than_none_and_unknown_is_lowest() -> None:
    """Scores equal to the labels give 1 without a buffer, and NaN is as if scored lowest."""
    labels, scores = example(1, 400, [(50, 60), (200, 230)])
    assert vus_pr(labels, labels.astype(float), 0) == 1.0
    unknown = np.where(labels, scores, np.nan)
    assert vus_pr(labels, unknown, 20) == vus_pr(labels, np.where(labels, scores, -5.0), 20)
    assert vus_pr(labels, scores, 0) < 1.0
    assert 0.0 < vus_pr(labels, np.full(400, np.nan), 20) < 0.5


def test_labels_of_one_kind_and_a_negative_window_are_refused() -> None:
    """There is nothing to rank; the message says what is wrong."""
    with pytest.raises(EvaluationError, match="both kinds"):
        vus_pr(np.zeros(5, dtype=np.bool_), np.zeros(5), 3)
    with pytest.raises(EvaluationError, match="0 or more"):
        vus_pr(np.array([True, False]), np.zeros(2), -1)
    with pytest.raises(EvaluationError, match="shape"):
        vus_pr(np.array([True, False]), np.zeros(3), 1)
    with pytest.raises(EvaluationError, match="row 1"):
        vus_pr(np.array([True, False]), np.array([0.0, np.inf]), 1)
