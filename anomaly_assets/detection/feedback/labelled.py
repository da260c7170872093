"""Alarms that people have judged, and what a change would have done to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from anomaly_assets.detection.explanation.triggers import FINAL_ABOVE
from anomaly_assets.detection.feedback.decision import decide
from anomaly_assets.detection.feedback.evidence import Evidence
from anomaly_assets.errors import InputError
from anomaly_assets.streams.windows import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from anomaly_assets.detection.ensemble.health_aware import HealthAwareEnsemble
    from anomaly_assets.detection.feedback.adjustment import Adjustment
    from anomaly_assets.detection.feedback.forest import SeriesForest

#: Share of the judged alarms, the earlier ones, that a change is tried out on before it is measured
#: on the later ones.
EARLIER: float = 0.7


@dataclass(frozen=True)
class Labelled:
    """Judged alarms of one entity or of several with the same streams, in order of time.

    Parameters
    ----------
    evidence
        Their windows with a final score that raises an alarm without feedback.
    alarm
        Position of each window's alarm among the arrays below, shape ``(len(evidence),)``.
    confirmed
        Whether it was an anomaly, shape ``(n_alarms,)``; the others were false or to be expected.
    ends
        End of the labelled range, epoch seconds, same shape, not decreasing.
    label_ids
        Number of the label of each alarm.

    Raises
    ------
    InputError
        If the arrays do not belong together, or the alarms are not in order.
    """

    evidence: Evidence
    alarm: IntArray
    confirmed: BoolArray
    ends: IntArray
    label_ids: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse what does not belong together."""
        n = len(self.confirmed)
        fits = (
            len(self.alarm) == len(self.evidence)
            and len(self.ends) == len(self.label_ids) == n
            and bool((np.diff(self.ends) >= 0).all())
            and np.array_equal(np.unique(self.alarm), np.arange(n))
            and bool((self.evidence.final > FINAL_ABOVE).all())
        )
        if not fits:
            msg = (
                f"{n} judged alarms with {len(self.evidence)} windows: give each at least one "
                f"window above {FINAL_ABOVE}, and all of them in order of their end"
            )
            raise InputError(msg)

    @classmethod
    def together(cls, parts: Sequence[Labelled]) -> Labelled:
        """Put the alarms of several entities with the same streams into one order of time."""
        order, place = cls.order(parts)
        first = np.cumsum([0, *(len(part) for part in parts[:-1])])
        alarm = np.concatenate(
            [place[part.alarm + at] for part, at in zip(parts, first.tolist(), strict=True)]
        )
        rows = np.argsort(alarm, kind="stable")
        labels = [one for part in parts for one in part.label_ids]
        return cls(
            Evidence.joined([part.evidence for part in parts]).take(rows),
            alarm[rows],
            np.concatenate([part.confirmed for part in parts])[order],
            np.concatenate([part.ends for part in parts])[order],
            tuple(labels[one] for one in order.tolist()),
        )

    @staticmethod
    def order(parts: Sequence[Labelled]) -> tuple[IntArray, IntArray]:
        """Return which alarm comes when, all parts after one another, and where each one goes."""
        order = np.argsort(np.concatenate([part.ends for part in parts]), kind="stable")
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        return order, place

    def __len__(self) -> int:
        """Return the number of alarms."""
        return len(self.confirmed)

    @property
    def n_confirmed(self) -> int:
        """Number of confirmed anomalies among them."""
        return int(self.confirmed.sum())

    @property
    def n_false(self) -> int:
        """Number of the others."""
        return len(self) - self.n_confirmed

    def take(self, chosen: BoolArray) -> Labelled:
        """Return some of the alarms, shape of `chosen` ``(n_alarms,)``."""
        rows = chosen[self.alarm]
        number = np.cumsum(chosen) - 1
        kept = np.flatnonzero(chosen).tolist()
        return Labelled(
            self.evidence.take(rows),
            number[self.alarm[rows]],
            self.confirmed[chosen],
            self.ends[chosen],
            tuple(self.label_ids[one] for one in kept),
        )

    def split(self, share: float = EARLIER) -> tuple[Labelled, Labelled]:
        """Return the earlier share of the alarms, and the later rest."""
        earlier = np.arange(len(self)) < round(share * len(self))
        return self.take(earlier), self.take(~earlier)

    def peaks(self, scores: FloatArray) -> FloatArray:
        """Return the highest of the windows' scores of each alarm, shape ``(n_alarms,)``."""
        found = np.full(len(self), -np.inf)
        np.maximum.at(found, self.alarm, scores)
        return found

    def any_of(self, windows: BoolArray) -> BoolArray:
        """Return which alarms have at least one of some windows."""
        return np.asarray(np.bincount(self.alarm, windows, minlength=len(self)) > 0)


@dataclass(frozen=True)
class Effect:
    """What a change does to judged alarms, counted by the decisions with and without it.

    Parameters
    ----------
    false_before, false_after
        False alarms (and expected happenings) that are raised.
    confirmed_before, confirmed_after
        Confirmed anomalies that are raised.
    """

    false_before: int = 0
    false_after: int = 0
    confirmed_before: int = 0
    confirmed_after: int = 0

    @property
    def confirmed_lost(self) -> int:
        """Confirmed anomalies that the change takes away."""
        return self.confirmed_before - self.confirmed_after

    @property
    def false_removed(self) -> int:
        """False alarms that the change takes away."""
        return self.false_before - self.false_after

    @property
    def sentence(self) -> str:
        """The effect for people.

        Examples
        --------
        >>> Effect(20, 6, 9, 9).sentence
        'would have removed 14 of 20 false alarms, kept 9 of 9 confirmed'
        """
        return (
            f"would have removed {self.false_removed} of {self.false_before} false alarms, "
            f"kept {self.confirmed_after} of {self.confirmed_before} confirmed"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the counts, and the sentence."""
        return {**asdict(self), "sentence": self.sentence}


@dataclass(frozen=True)
class Deciding:
    """How decisions are made apart from what feedback has changed.

    Parameters
    ----------
    ensemble
        How the tiers are combined.
    threshold
        Final score from which on windows are explained.
    """

    ensemble: HealthAwareEnsemble
    threshold: float = FINAL_ABOVE

    def raised(
        self, labelled: Labelled, adjustment: Adjustment, forest: SeriesForest | None = None
    ) -> BoolArray:
        """Return which judged alarms are raised under an adjustment, shape ``(n_alarms,)``."""
        decided = decide(
            labelled.evidence,
            adjustment,
            threshold=self.threshold,
            ensemble=self.ensemble,
            forest=forest,
        )
        return labelled.any_of(decided.alarm)

    def effect(
        self,
        labelled: Labelled,
        before: Adjustment,
        after: Adjustment,
        forest: SeriesForest | None = None,
        *,
        forest_before: SeriesForest | None = None,
    ) -> Effect:
        """Return what going from one adjustment to another does to judged alarms."""
        was = self.raised(labelled, before, forest_before)
        now = self.raised(labelled, after, forest)
        yes = labelled.confirmed
        counts = ((was & ~yes), (now & ~yes), (was & yes), (now & yes))
        return Effect(*(int(one.sum()) for one in counts))
