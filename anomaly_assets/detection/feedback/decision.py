"""Whether windows raise an alarm, given what people have said of earlier ones.

Feedback never raises an alarm: it takes alarms away. Final scores stay what they are; what is
decided stands beside them. So only windows that call for attention by themselves are looked at, and
with nothing to apply nothing changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from anomaly_assets.detection.cross_stream.detector import VOICES, combine_voices
from anomaly_assets.detection.explanation.triggers import FINAL_ABOVE, CodeArray, Trigger, triggers
from anomaly_assets.detection.feedback.evidence import VOICE_PREFIX, Evidence
from anomaly_assets.detection.results import (
    CrossStreamScores,
    IndividualScores,
    StreamHealth,
)
from anomaly_assets.detection.scoring import p_of_score, score_of_p
from anomaly_assets.streams.windows import BoolArray, FloatArray

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from anomaly_assets.detection.ensemble.health_aware import HealthAwareEnsemble
    from anomaly_assets.detection.feedback.adjustment import Adjustment
    from anomaly_assets.detection.feedback.forest import SeriesForest

#: Which of the ensemble's two options has spoken.
OPTION_A: Final = "A"
OPTION_B: Final = "B"
_EVERY_VOICE = np.ones(len(VOICES), dtype=np.bool_)


@dataclass(frozen=True)
class Decisions:
    """What is decided of some windows, arrays of shape ``(n,)``.

    Parameters
    ----------
    score
        Score that is decided by: the final score after weights, or the meta-learner's.
    threshold
        Scores have to exceed this to raise an alarm.
    code
        Why a window still calls for an explanation; 0: not any more. Suppressed windows keep it.
    suppressed_by
        Name of the rule that suppresses the window; None: none does.
    by_meta
        Whether the meta-learner (option B) has spoken.
    """

    score: FloatArray
    threshold: float
    code: CodeArray
    suppressed_by: tuple[str | None, ...]
    by_meta: BoolArray

    @property
    def alarm(self) -> BoolArray:
        """Which windows raise an alarm."""
        spoken = np.array([name is None for name in self.suppressed_by], dtype=np.bool_)
        return np.asarray((self.score > self.threshold) & spoken)

    @property
    def option(self) -> tuple[str, ...]:
        """Which option has spoken of each window."""
        return tuple(OPTION_B if meta else OPTION_A for meta in self.by_meta.tolist())


def calls(evidence: Evidence, threshold: float) -> BoolArray:
    """Return which windows are decided about at all: those that would be shown without feedback."""
    return np.asarray((evidence.codes(threshold) != 0) | (evidence.final > FINAL_ABOVE))


def decide(
    evidence: Evidence,
    adjustment: Adjustment,
    *,
    threshold: float,
    ensemble: HealthAwareEnsemble,
    forest: SeriesForest | None = None,
) -> Decisions:
    """Decide about windows that call for attention.

    Parameters
    ----------
    evidence
        The windows; with `recent` where there is a forest.
    adjustment
        What is in force.
    threshold
        Final score from which on windows are explained without feedback.
    ensemble
        How the tiers are combined.
    forest
        The meta-learner; None where option A stands.

    Returns
    -------
    Decisions
        A function of the arguments alone, window by window.
    """
    alarm_above = max(FINAL_ABOVE, adjustment.threshold or 0.0)
    explain_above = max(threshold, adjustment.threshold or 0.0)
    individual, score = discounted(evidence, adjustment.trust, ensemble)
    by_meta = np.zeros(len(evidence), dtype=np.bool_)
    if forest is not None and evidence.recent is not None:
        # Below the limit the window is no alarm whatever the forest says.
        by_meta = np.asarray(score > alarm_above)
        spoken = forest.score(evidence.recent[by_meta], alarm_above)
        score = score.copy()
        score[by_meta] = spoken
    code = triggers(individual, evidence.cross_stream, score, threshold=explain_above)
    suppressed: list[str | None] = [None] * len(evidence)
    for rule in adjustment.rules:
        rows = np.flatnonzero(rule.holds(evidence))
        if not rows.size:
            continue
        covered = evidence.take(rows)
        without = {**adjustment.trust, **dict.fromkeys(rule.covers, 0.0)}
        rest, rest_score = discounted(covered, without, ensemble)
        rest_code = triggers(rest, covered.cross_stream, rest_score, threshold=explain_above)
        by_score = code[rows] == Trigger.FINAL_SCORE.code
        quiet = np.where(by_score, rest_score <= alarm_above, rest_code == 0)
        for row in rows[quiet & ((code[rows] != 0) | (score[rows] > alarm_above))].tolist():
            suppressed[row] = suppressed[row] or rule.name
    return Decisions(score, alarm_above, code, tuple(suppressed), by_meta)


def discounted(
    evidence: Evidence, trust: Mapping[str, float], ensemble: HealthAwareEnsemble
) -> tuple[FloatArray, FloatArray]:
    """Return tier-1 scores and final scores when some sources are trusted less.

    A source's p-value is divided by its weight, in its own score as in everything that is combined
    from it; weight 0 silences it. No score ever rises.

    Parameters
    ----------
    evidence
        The windows.
    trust
        Weight in [0, 1] by stream or voice; those not named have 1, unknown names mean nothing.
    ensemble
        How the tiers are combined.

    Returns
    -------
    tuple of numpy.ndarray
        Shapes ``(n, n_streams)`` and ``(n,)``; to the last bit what they were where every weight
        is 1.
    """
    weights = _weights(evidence.streams, trust)
    voice_weights = _weights([f"{VOICE_PREFIX}{name}" for name in VOICES], trust)
    if (weights == 1.0).all() and (voice_weights == 1.0).all():
        return evidence.score, evidence.final
    individual = np.where(weights == 1.0, evidence.score, _weaker(evidence.score, weights))
    cross_stream = evidence.cross_stream
    if not (voice_weights == 1.0).all():
        before = _worst(evidence.voices)
        after = _worst(_weaker(evidence.voices, voice_weights))
        with np.errstate(invalid="ignore"):
            factor = np.where(np.isfinite(before), np.fmax(after / before, 1.0), 1.0)
        p = np.minimum(p_of_score(cross_stream) * factor, 1.0)
        cross_stream = np.where(factor == 1.0, cross_stream, score_of_p(p))
    combined = ensemble.process(
        _individual(individual, evidence.health), _cross_stream(cross_stream)
    ).score
    return individual, np.fmin(combined, evidence.final)


def _weights(names: Iterable[str], trust: Mapping[str, float]) -> FloatArray:
    return np.array([trust.get(name, 1.0) for name in names], dtype=np.float64)


def _weaker(score: FloatArray, weights: FloatArray) -> FloatArray:
    """Divide p-values by weights; a weight of 0 makes them 1."""
    with np.errstate(divide="ignore"):
        p = np.minimum(p_of_score(score) / weights, 1.0)
    return np.fmin(score_of_p(p), score)


def _worst(voices: FloatArray) -> FloatArray:
    p = p_of_score(voices)
    return combine_voices(p[:, :-1], p[:, -1], _EVERY_VOICE)


def _individual(score: FloatArray, health: FloatArray) -> IndividualScores:
    unknown: Any = np.full(score.shape, np.nan)
    return IndividualScores(
        score,
        unknown,
        unknown,
        StreamHealth(unknown, unknown, health, unknown, unknown, unknown),
    )


def _cross_stream(score: FloatArray) -> CrossStreamScores:
    return CrossStreamScores(score, np.empty((len(score), 0)), {})
