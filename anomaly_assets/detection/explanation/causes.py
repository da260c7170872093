"""What may lie behind an anomaly: known courses of events, faults of the data, odd behaviour.

Every finder looks at one kind of cause and states, for each candidate, log-odds against "something
nobody thought of". Turned into probabilities they compete with each other.
"""

from __future__ import annotations

import numpy as np

from anomaly_assets.detection.explanation.absences import absences, presences
from anomaly_assets.detection.explanation.cause import (
    RECOMMENDED_ACTIONS,
    Cause,
    CauseKind,
    cause_of,
)
from anomaly_assets.detection.explanation.clocks import with_wrong_clocks
from anomaly_assets.detection.explanation.deviations import (
    broken_edges,
    changed_state,
    relationship_break,
    single_deviations,
    stuck_sensors,
    widespread_change,
)
from anomaly_assets.detection.explanation.facts import ANOMALOUS, WindowFacts
from anomaly_assets.detection.explanation.sequences import matched_sequences

__all__ = ["RECOMMENDED_ACTIONS", "Cause", "CauseKind", "possible_causes"]


def possible_causes(facts: WindowFacts) -> list[Cause]:
    """Return every candidate, most probable first; never empty."""
    found = [
        *matched_sequences(facts),
        *with_wrong_clocks(facts, absences(facts)),
        *presences(facts),
        *stuck_sensors(facts),
        *single_deviations(facts),
        *widespread_change(facts),
        *changed_state(facts),
        *broken_edges(facts),
        *relationship_break(facts),
    ]
    if not found:
        found = [cause_of(CauseKind.UNKNOWN, "unknown cause", 0.5, _unknown_sentence(facts))]
    return sorted(found, key=lambda cause: -cause.log_odds)


def _unknown_sentence(facts: WindowFacts) -> str:
    at = facts.clock.time(facts.evidence.window_start)
    score = facts.evidence.score
    if not np.isfinite(score):
        return f"at {at} {facts.context} nothing stood out, and no score is known."
    if score < ANOMALOUS:
        return f"at {at} {facts.context} nothing stood out (score {score:.2f})."
    return (
        f"at {at} {facts.context} the window as a whole was unusual (score {score:.2f}), but no "
        "single stream accounts for it."
    )
