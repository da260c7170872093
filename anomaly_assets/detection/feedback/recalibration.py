"""Threshold and weights from judged alarms: cautious, within limits, and never at any price.

What is chosen never takes a confirmed anomaly away, and keeps its distance from the weakest one:
the anomalies to come are not those that were judged. Few labels move little, and one that
contradicts the others moves nothing by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from anomaly_assets.detection.explanation.triggers import FINAL_ABOVE
from anomaly_assets.detection.feedback.decision import decide, discounted
from anomaly_assets.errors import InputError

if TYPE_CHECKING:
    from anomaly_assets.detection.feedback.adjustment import Adjustment
    from anomaly_assets.detection.feedback.labelled import Deciding, Labelled
    from anomaly_assets.streams.windows import FloatArray

#: Judged false alarms that count as much as the assumption that nothing is wrong.
SHRINKAGE: Final = 3.0
#: A source is trusted less only for so many false alarms that rest on it.
LEAST_FALSE: Final = 3
#: For each confirmed anomaly that a change weakens, so many false alarms must be removed by it.
FALSE_FOR_CONFIRMED: Final = 3
#: What is weakened must stay so far above the threshold.
MARGIN: Final = 0.03
#: Changes of a score below this are none.
_NOTICEABLE: Final = 1e-3


@dataclass(frozen=True)
class Limits:
    """Between what a person lets feedback move things.

    Parameters
    ----------
    threshold
        Lowest and highest threshold of alarms; the lowest is at least the usual one.
    weight
        Lowest and highest weight of a source, in (0, 1].
    least_labels
        Judged alarms without which nothing moves.

    Raises
    ------
    InputError
        If a range is empty or out of bounds.
    """

    threshold: tuple[float, float] = (FINAL_ABOVE, 0.9)
    weight: tuple[float, float] = (0.25, 1.0)
    least_labels: int = 10

    def __post_init__(self) -> None:
        """Refuse ranges without sense."""
        lowest, highest = self.weight
        begin, end = self.threshold
        if not (0.0 < lowest <= highest <= 1.0 and FINAL_ABOVE <= begin <= end < 1.0):
            msg = (
                f"feedback may move the threshold within {self.threshold} and weights within "
                f"{self.weight}: give {FINAL_ABOVE} <= low <= high < 1, and 0 < low <= high <= 1"
            )
            raise InputError(msg)
        if self.least_labels < 1:
            msg = f"least_labels is {self.least_labels}; feedback needs at least 1"
            raise InputError(msg)


def recalibrate(
    labelled: Labelled, current: Adjustment, limits: Limits, deciding: Deciding
) -> Adjustment:
    """Choose threshold and weights anew; the rules stay as they are.

    Parameters
    ----------
    labelled
        Every judged alarm.
    current
        What is in force; of it only the rules count.
    limits
        What a person allows.
    deciding
        How decisions are made.

    Returns
    -------
    Adjustment
        Without threshold and weights where there is no reason to move them.
    """
    chosen = replace(current, threshold=None, trust={})
    if len(labelled) < limits.least_labels:
        return chosen
    chosen = replace(chosen, trust=_trust(labelled, chosen, limits, deciding))
    return replace(chosen, threshold=_threshold(labelled, chosen, limits, deciding))


def _trust(
    labelled: Labelled, rules: Adjustment, limits: Limits, deciding: Deciding
) -> dict[str, float]:
    lowest, highest = limits.weight
    trust: dict[str, float] = {}
    # What a rule suppresses is no reason to trust a source less.
    open_ones = labelled.take(deciding.raised(labelled, rules))
    # Streams alone: a voice of tier 2 that is trusted less is a kind of anomaly that is missed.
    sources = labelled.evidence.streams
    while True:
        found: list[tuple[int, str]] = []
        for source in sources:
            if source not in trust:
                rests = _rest_on(open_ones, trust, source, lowest, deciding)
                if rests >= LEAST_FALSE:
                    found.append((-rests, source))
        added = False
        for negative, source in sorted(found):
            share = -negative / (-negative + SHRINKAGE)
            weight = highest - (highest - lowest) * share
            if weight < 1.0 and _bearable(open_ones, trust, source, weight, deciding):
                trust[source] = round(weight, 4)
                added = True
                break
        if not added:
            return trust


def _rest_on(
    labelled: Labelled, trust: dict[str, float], source: str, weight: float, deciding: Deciding
) -> int:
    """Return how many false alarms would be gone if a source was trusted less."""
    peaks = _peaks(labelled, trust, deciding)
    without = _peaks(labelled, {**trust, source: weight}, deciding)
    gone = (peaks > FINAL_ABOVE) & (without <= FINAL_ABOVE) & ~labelled.confirmed
    return int(gone.sum())


def _bearable(
    labelled: Labelled, trust: dict[str, float], source: str, weight: float, deciding: Deciding
) -> bool:
    """Whether a weight removes false alarms and leaves confirmed anomalies well above the limit."""
    before = _peaks(labelled, trust, deciding)
    after = _peaks(labelled, {**trust, source: weight}, deciding)
    weakened = labelled.confirmed & (after < before - _NOTICEABLE)
    removed = ~labelled.confirmed & (before > FINAL_ABOVE) & (after <= FINAL_ABOVE)
    return bool(
        removed.any()
        and (after[weakened] > FINAL_ABOVE + MARGIN).all()
        and removed.sum() >= FALSE_FOR_CONFIRMED * weakened.sum()
    )


def _threshold(
    labelled: Labelled, chosen: Adjustment, limits: Limits, deciding: Deciding
) -> float | None:
    """Return the threshold, if one above the usual limit is safe and of use."""
    decided = decide(
        labelled.evidence, chosen, threshold=deciding.threshold, ensemble=deciding.ensemble
    )
    peaks = labelled.peaks(np.where(decided.alarm, decided.score, -np.inf))
    raised = peaks > decided.threshold
    known = np.sort(peaks[labelled.confirmed & raised])
    false = peaks[~labelled.confirmed & raised]
    if len(known) < limits.least_labels:
        return None
    # The weakest to come is weaker than the weakest so far: as far again as the weak ones spread.
    spread = known[math.ceil(math.sqrt(len(known))) - 1] - known[0]
    low, high = limits.threshold
    safe = min(high, float(known[0] - max(spread, MARGIN)))
    removed = int((false <= safe).sum())
    if safe <= low or removed < LEAST_FALSE:
        return low if low > FINAL_ABOVE and bool((known > low).all()) else None
    return round(low + (safe - low) * removed / (removed + SHRINKAGE), 4)


def _peaks(labelled: Labelled, trust: dict[str, float], deciding: Deciding) -> FloatArray:
    return labelled.peaks(discounted(labelled.evidence, trust, deciding.ensemble)[1])
