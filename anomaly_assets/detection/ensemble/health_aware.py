"""Tier 3, option A: one score a window from all streams and from what they say together."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from anomaly_assets.detection.results import CrossStreamScores, EnsembleResults, IndividualScores
from anomaly_assets.detection.scoring import SMALLEST_P, cauchy_combination, p_of_score
from anomaly_assets.errors import InputError
from anomaly_assets.streams.windows import FloatArray

EnsembleMethod = Literal["cauchy", "mean"]

INDIVIDUAL_WEIGHT = 0.6
CROSS_STREAM_WEIGHT = 0.4
#: Confidence where no stream was scored and tier 2 speaks alone.
CROSS_STREAM_ONLY_CONFIDENCE = 0.3
#: Larger p-values are combined as this, so that no stream outvotes another by being very ordinary.
ORDINARY_P = 0.5
#: The window's p-value at which its score is 0.70, the limit of an anomaly.
ANOMALY_P = 0.004
#: Scores of windows are ``1 - p ** WINDOW_EXPONENT``.
WINDOW_EXPONENT = float(np.log(0.3) / np.log(ANOMALY_P))


def window_score_of_p(p: FloatArray) -> FloatArray:
    """Turn the p-value of a whole window into its score.

    A day has 288 windows, each of which combines dozens of streams: a window needs stronger
    evidence for the same score than a stream does.

    Parameters
    ----------
    p
        p-values in [0, 1]; NaN stays NaN.

    Examples
    --------
    >>> window_score_of_p(np.array([1.0, 0.004, 1e-6])).round(2).tolist()
    [0.0, 0.7, 0.95]
    """
    return np.asarray(1.0 - np.power(np.clip(p, SMALLEST_P, 1.0), WINDOW_EXPONENT))


class HealthAwareEnsemble:
    """Combine the streams' scores, weighted by their health, with tier 2.

    Parameters
    ----------
    method
        ``cauchy`` combines p-values by the weighted Cauchy combination: still a weighted average,
        but on a scale where one certain stream among thirty counts. ``mean`` averages scores, as
        the requirements put it literally; there, one stream's certain anomaly is diluted to
        nothing.

    Raises
    ------
    InputError
        If the method is unknown.

    References
    ----------
    Liu, Y. and Xie, J. (2020). Cauchy combination test: a powerful test with analytic p-value
    calculation under arbitrary dependency structures. Journal of the American Statistical
    Association 115(529).
    """

    version: int = 1

    def __init__(self, method: EnsembleMethod = "cauchy") -> None:
        if method not in get_args(EnsembleMethod):
            msg = f"ensemble method {method!r} is unknown; choose one of {get_args(EnsembleMethod)}"
            raise InputError(msg)
        self.method: EnsembleMethod = method

    def process(
        self, individual: IndividualScores, cross_stream: CrossStreamScores
    ) -> EnsembleResults:
        """Combine the tiers' scores of some windows; stateless.

        Parameters
        ----------
        individual
            Tier 1; only `score` and `health.score` are used.
        cross_stream
            Tier 2 of the same windows; only `score` is used.

        Returns
        -------
        EnsembleResults
            NaN, with confidence 0, where neither tier says anything.

        Raises
        ------
        InputError
            If the tiers are not of the same windows.
        """
        scores = individual.score
        if scores.ndim != 2 or cross_stream.score.shape != scores.shape[:1]:
            msg = (
                f"tier 1 scores {scores.shape} and tier 2 scores {cross_stream.score.shape} are "
                "not of the same windows"
            )
            raise InputError(msg)
        known = np.isfinite(scores)
        # A scored stream always has some health; the floor keeps one of 0 from vanishing.
        weights = np.where(known, np.maximum(individual.health.score, 0.01), 0.0)
        combine = self._cauchy if self.method == "cauchy" else self._mean
        n_scored = known.sum(axis=1)
        confidence = np.where(
            n_scored > 0,
            n_scored / scores.shape[1],
            np.where(np.isfinite(cross_stream.score), CROSS_STREAM_ONLY_CONFIDENCE, 0.0),
        )
        return EnsembleResults(combine(scores, weights, cross_stream.score), confidence)

    @staticmethod
    def _cauchy(scores: FloatArray, weights: FloatArray, cross_stream: FloatArray) -> FloatArray:
        individual_p = cauchy_combination(np.minimum(p_of_score(scores), ORDINARY_P), weights)
        tiers = np.minimum(np.stack([individual_p, p_of_score(cross_stream)], axis=1), ORDINARY_P)
        tier_weights = np.array([INDIVIDUAL_WEIGHT, CROSS_STREAM_WEIGHT])
        return window_score_of_p(cauchy_combination(tiers, tier_weights))

    @staticmethod
    def _mean(scores: FloatArray, weights: FloatArray, cross_stream: FloatArray) -> FloatArray:
        filled = np.where(weights > 0.0, scores, 0.0)
        with np.errstate(invalid="ignore"):
            individual = _row_sums(weights * filled) / _row_sums(weights)
        both = INDIVIDUAL_WEIGHT * individual + CROSS_STREAM_WEIGHT * cross_stream
        alone = np.where(np.isfinite(individual), individual, cross_stream)
        return np.where(np.isfinite(both), both, alone)


def _row_sums(x: FloatArray) -> FloatArray:
    """Sum each row on its own, so that the result does not depend on how many rows there are."""
    return np.array([row.sum() for row in np.ascontiguousarray(x)])
