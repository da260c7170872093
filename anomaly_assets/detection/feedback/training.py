"""Option B, fitted on judged alarms and held against option A on later ones.

A forest that has seen an alarm can repeat what was said of it; whether it knows better than option
A shows on alarms that came later alone. Only there it is measured, and only a forest that is better
there by a margin, and loses no anomaly there, takes over.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from anomaly_assets.detection.feedback.forest import SeriesForest
from anomaly_assets.detection.feedback.labelled import Effect
from anomaly_assets.detection.feedback.series import HISTORY, as_series
from anomaly_assets.errors import InputError, StateError

if TYPE_CHECKING:
    from anomaly_assets.detection.feedback.labelled import Labelled
    from anomaly_assets.streams.windows import BoolArray, FloatArray, IntArray

TREES: Final = 100
#: Windows of an alarm that it learns from: the first ones, in which it has to be told.
WINDOWS_PER_ALARM: Final = 4
#: Parts that the earlier alarms are cut into, so that each is judged by a forest that does not
#: know it.
_PARTS: Final = 5
#: The cut lies at this share of what the least likely of the confirmed alarms got.
_BELOW: Final = 0.5
_CUTS: Final = (0.02, 0.5)
#: Compiled and fitted forest agree to this, on average over what was learnt.
_AGREEMENT: Final = 1e-3


@dataclass(frozen=True)
class Validation:
    """How both options did on alarms later than what the forest was fitted on.

    Parameters
    ----------
    average_precision_a, average_precision_b
        Of confirmed anomalies among the later alarms, ranked by each option; NaN without both
        kinds.
    effect
        What the forest does to the later alarms that option A raises.
    n_earlier, n_later
        Judged alarms fitted on, and judged by.
    """

    average_precision_a: float
    average_precision_b: float
    effect: Effect
    n_earlier: int
    n_later: int

    def is_better(self, margin: float) -> bool:
        """Whether option B takes over: it ranks better by a margin and loses nothing."""
        gain = self.average_precision_b - self.average_precision_a
        return bool(
            gain >= margin and self.effect.confirmed_lost == 0 and self.effect.false_removed > 0
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        a, b = self.average_precision_a, self.average_precision_b
        return {
            "average_precision_a": None if np.isnan(a) else round(a, 4),
            "average_precision_b": None if np.isnan(b) else round(b, 4),
            "later_labels": self.effect.to_dict(),
            "n_earlier": self.n_earlier,
            "n_later": self.n_later,
        }


def train(
    labelled: Labelled, option_a: FloatArray, *, seed: int
) -> tuple[SeriesForest, Validation]:
    """Fit a forest on the earlier alarms, and measure it on the later ones.

    Parameters
    ----------
    labelled
        Judged alarms that option A raises, of everybody with the same streams, with `recent`.
    option_a
        Score of each alarm by option A, shape ``(n_alarms,)``.
    seed
        Of the forest: the same alarms and seed give the same bits.

    Returns
    -------
    tuple
        The forest, which knows the earlier alarms alone, and how it did on the later ones.

    Raises
    ------
    InputError
        If the earlier alarms are of one kind, or their last hours are not known.
    ImportError
        Without sktime, which the extra ``meta`` brings.
    """
    earlier, later = labelled.split()
    if not 0 < earlier.n_confirmed < len(earlier) or labelled.evidence.recent is None:
        msg = (
            f"{earlier.n_confirmed} of {len(earlier)} earlier alarms were confirmed; both kinds "
            "are needed, each with the last hour of scores"
        )
        raise InputError(msg)
    forest = replace(fit(earlier, seed=seed), cut=_cut(earlier, seed))
    return forest, validate(forest, later, option_a[len(earlier) :], len(earlier))


def validate(
    forest: SeriesForest, later: Labelled, option_a: FloatArray, n_earlier: int
) -> Validation:
    """Measure a forest on alarms that it does not know."""
    q = _of_alarms(forest, later)
    stands = q >= forest.cut
    yes = later.confirmed
    effect = Effect(
        later.n_false, int((stands & ~yes).sum()), later.n_confirmed, int((stands & yes).sum())
    )
    return Validation(
        average_precision(option_a, yes), average_precision(q, yes), effect, n_earlier, len(later)
    )


def average_precision(score: FloatArray, positive: BoolArray) -> float:
    """Return the mean precision at each positive, highest score first; ties count against it.

    Examples
    --------
    >>> average_precision(np.array([0.9, 0.8, 0.7]), np.array([True, False, True]))
    0.8333333333333333
    """
    if not positive.any() or positive.all():
        return float("nan")
    order = np.lexsort((positive, -score))
    hits = positive[order]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean())


def fit(labelled: Labelled, *, seed: int) -> SeriesForest:
    """Fit a forest on judged alarms and compile it.

    Raises
    ------
    StateError
        If the compiled forest does not say what the fitted one does.
    """
    # Needed here only; importing it takes seconds.
    from sktime.classification.interval_based import (  # noqa: PLC0415
        TimeSeriesForestClassifier,
    )

    rows = _first_windows(labelled)
    recent = _recent(labelled)[rows]
    series = as_series(recent)
    confirmed = labelled.confirmed[labelled.alarm[rows]].astype(np.int64)
    fitted = TimeSeriesForestClassifier(
        n_estimators=TREES,
        # No interval reaches from one channel into the next.
        inner_series_length=HISTORY,
        random_state=seed,
        n_jobs=1,
    ).fit(series[:, np.newaxis, :], confirmed)
    forest = SeriesForest.compiled(fitted, list(fitted.classes_).index(1))
    theirs = fitted.predict_proba(series[:, np.newaxis, :])[:, list(fitted.classes_).index(1)]
    if float(np.abs(forest.probability(recent) - theirs).mean()) > _AGREEMENT:
        msg = "the compiled meta-learner does not agree with sktime's; option A stands"
        raise StateError(msg)
    return forest


def _cut(earlier: Labelled, seed: int) -> float:
    """Return the probability below which an alarm may be taken away.

    Half of what the least likely of the confirmed alarms got from a forest that did not know it.
    """
    part = np.arange(len(earlier)) % _PARTS
    lowest = 1.0
    for number in range(_PARTS):
        known, unknown = earlier.take(part != number), earlier.take(part == number)
        if not unknown.n_confirmed or not 0 < known.n_confirmed < len(known):
            continue
        q = _of_alarms(fit(known, seed=seed), unknown)
        lowest = min(lowest, float(q[unknown.confirmed].min()))
    low, high = _CUTS
    return min(max(_BELOW * lowest, low), high)


def _first_windows(labelled: Labelled) -> IntArray:
    counts: dict[int, int] = {}
    rows = []
    for row, alarm in enumerate(labelled.alarm.tolist()):
        counts[alarm] = counts.get(alarm, 0) + 1
        if counts[alarm] <= WINDOWS_PER_ALARM:
            rows.append(row)
    return np.array(rows, dtype=np.int64)


def _of_alarms(forest: SeriesForest, labelled: Labelled) -> FloatArray:
    """Return the highest probability of each alarm's windows: one is enough for it to stand."""
    if not len(labelled):
        return np.empty(0)
    return labelled.peaks(forest.probability(_recent(labelled)))


def _recent(labelled: Labelled) -> FloatArray:
    recent = labelled.evidence.recent
    if recent is None:
        msg = "the last hour of scores is not known; read the alarms with it"
        raise InputError(msg)
    return recent
