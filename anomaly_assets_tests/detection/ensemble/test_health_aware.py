"""Behaviour of the health-aware ensemble."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from anomaly_assets.detection.ensemble.health_aware import (
    ANOMALY_P,
    EnsembleMethod,
    HealthAwareEnsemble,
    window_score_of_p,
)
from anomaly_assets.detection.results import (
    CrossStreamScores,
    EnsembleResults,
    IndividualScores,
    StreamHealth,
)
from anomaly_assets.detection.scoring import score_of_p
from anomaly_assets.errors import InputError


def combine(
    scores: np.ndarray,
    cross: np.ndarray,
    health: np.ndarray | None = None,
    method: EnsembleMethod = "cauchy",
) -> EnsembleResults:
    nothing = np.full(scores.shape, np.nan)
    flags = np.zeros(scores.shape, dtype=bool)
    weights = np.ones(scores.shape) if health is None else health
    state = StreamHealth(weights, np.zeros(scores.shape, int), weights, flags, nothing, flags)
    individual = IndividualScores(scores, nothing, nothing, state)
    tier_2 = CrossStreamScores(cross, np.empty((len(cross), 0)), {})
    return HealthAwareEnsemble(method).process(individual, tier_2)


def test_the_mean_is_the_requirements_formula() -> None:
    """0.6 times the health-weighted mean of the available scores plus 0.4 times tier 2."""
    scores = np.array([[0.2, 0.8, np.nan]])
    result = combine(scores, np.array([0.5]), np.array([[1.0, 0.5, 0.9]]), "mean")
    assert result.score[0] == pytest.approx(0.6 * (0.2 + 0.4) / 1.5 + 0.4 * 0.5)
    assert result.confidence[0] == pytest.approx(2 / 3)


@pytest.mark.parametrize("method", ["cauchy", "mean"])
def test_tier_2_stands_alone_where_no_stream_was_scored(method: EnsembleMethod) -> None:
    """Confidence is then 0.3; with nothing at all the score is unknown and confidence 0."""
    result = combine(np.full((2, 3), np.nan), np.array([0.9, np.nan]), method=method)
    assert 0.6 < result.score[0] <= 0.9
    assert np.isnan(result.score[1])
    assert result.confidence.tolist() == [0.3, 0.0]


@pytest.mark.parametrize("method", ["cauchy", "mean"])
def test_tier_1_stands_alone_where_tier_2_is_unknown(method: EnsembleMethod) -> None:
    """A missing tier 2 does not make the window unknown."""
    result = combine(np.array([[0.5, 0.6]]), np.array([np.nan]), method=method)
    assert np.isfinite(result.score[0])


def test_one_certain_stream_among_many_counts() -> None:
    """The mean dilutes one stream's certain anomaly to nothing, the Cauchy combination does not."""
    scores = np.full((1, 36), 0.1)
    scores[0, 7] = score_of_p(np.array(1e-8))
    quiet = np.array([0.1])
    assert combine(scores, quiet).score[0] > 0.85
    assert combine(scores, quiet, method="mean").score[0] < 0.2


def test_an_unhealthy_stream_counts_less() -> None:
    """The same oddity weighs less in a stream of poor health."""
    scores = np.full((1, 10), 0.1)
    scores[0, 0] = 0.9
    poor = np.ones((1, 10))
    poor[0, 0] = 0.1
    quiet = np.array([0.1])
    assert combine(scores, quiet, poor).score[0] < combine(scores, quiet).score[0]


def test_no_tier_outvotes_the_other_by_being_ordinary() -> None:
    """A perfectly quiet tier 1 leaves a strong finding of tier 2 standing."""
    result = combine(np.zeros((1, 36)), np.array([0.95]))
    assert result.score[0] > 0.7


def test_independent_clean_p_values_rarely_alarm() -> None:
    """Fewer than 1 % of clean windows are above 0.7."""
    rng = np.random.default_rng(4)
    scores, cross = score_of_p(rng.random((20_000, 36))), score_of_p(rng.random(20_000))
    assert (combine(scores, cross).score > 0.7).mean() < 0.01


def test_windows_are_combined_one_by_one() -> None:
    """A window's score does not depend, to the last bit, on the windows it is handed over with."""
    rng = np.random.default_rng(0)
    scores, cross = rng.random((50, 37)), rng.random(50)
    scores[rng.random(scores.shape) < 0.3] = np.nan
    for method in get_args(EnsembleMethod):
        whole = combine(scores, cross, method=method).score
        rows = [slice(i, i + 1) for i in range(50)]
        alone = [combine(scores[row], cross[row], method=method).score[0] for row in rows]
        assert whole.tolist() == alone


def test_window_scores_have_a_stricter_scale() -> None:
    """0.7 is a smaller p-value for a window than for a stream, where it is 0.0136."""
    assert window_score_of_p(np.array([ANOMALY_P]))[0] == pytest.approx(0.7)
    assert ANOMALY_P < 0.0136
    assert score_of_p(np.array([0.0136]))[0] == pytest.approx(0.7, abs=0.005)


def test_unusable_arguments_are_refused() -> None:
    """An unknown method and tiers of different windows are errors."""
    # What a caller without type checks may do.
    with pytest.raises(InputError, match="median"):
        HealthAwareEnsemble("median")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="same windows"):
        combine(np.zeros((2, 3)), np.zeros(3))
