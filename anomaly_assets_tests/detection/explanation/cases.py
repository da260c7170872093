"""A small catalogue and windows of it, shared by the tests of explanations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from anomaly_assets.detection.explanation.evidence import (
    CrossStreamRow,
    GapRow,
    IndividualRow,
    WindowEvidence,
)
from anomaly_assets.detection.explanation.triggers import Trigger
from anomaly_assets.streams.catalogue import Catalogue
from anomaly_assets.streams.windows import FloatArray

#: 5 January 2026 (a Monday), 10:35 in Berlin.
WINDOW = 1_767_605_700

CATALOGUE = Catalogue.model_validate(
    {
        "name": "person",
        "time_zone": "Europe/Berlin",
        "groups": [{"id": "motion"}, {"id": "location"}, {"id": "biometric"}, {"id": "phone_use"}],
        "streams": [
            {
                "id": "accel_magnitude",
                "type": "continuous_noisy",
                "group": "motion",
                "unit": "m/s2",
                "description": "Accelerometer activity",
                "increase_event": "accel_increase",
                "decrease_event": "low_accel",
            },
            {
                "id": "gps_speed",
                "type": "sporadic",
                "group": "location",
                "unit": "m/s",
                "increase_event": "gps_movement",
            },
            {
                "id": "heart_rate",
                "type": "continuous_smooth",
                "group": "biometric",
                "unit": "bpm",
                "increase_event": "heart_rate_spike",
            },
            {"id": "skin_temperature", "type": "continuous_smooth", "group": "biometric"},
            {"id": "screen_on", "type": "discrete_events", "group": "phone_use"},
            {"id": "app_launches", "type": "discrete_events", "group": "phone_use"},
        ],
        "templates": [
            {
                "name": "exercise",
                "title": "Exercise",
                "steps": [
                    {"event": "low_accel", "weight": 0.3},
                    {"event": "accel_increase", "offset_minutes": 5},
                    {"event": "gps_movement", "offset_minutes": 7},
                    {"event": "heart_rate_spike", "offset_minutes": 9},
                ],
                "recommended_action": "Nothing: exercise explains it.",
            },
            {
                "name": "stress",
                "title": "Stress without movement",
                "steps": [
                    {"event": "normal_state", "weight": 0.5},
                    {"event": "heart_rate_spike", "offset_minutes": 5, "weight": 1.5},
                    {"event": "no_movement_change", "offset_minutes": 5},
                ],
                "forbidden": ["accel_increase", "gps_movement"],
                "recommended_action": "Suggest a break.",
            },
        ],
    }
)
N_STREAMS = len(CATALOGUE.streams)
USUAL = np.array([10.0, 1.0, 72.0, 33.0, 4.0, 6.0])
SCALE = np.array([1.0, 0.3, 3.0, 0.2, 1.0, 1.0])


def position(stream: str) -> int:
    """Position of a stream of the catalogue."""
    return CATALOGUE.index(stream)


def calm_minutes(n_minutes: int = 35) -> FloatArray:
    """One-minute values that end with the window and in which nothing happens."""
    wobble = np.sin(np.arange(n_minutes * N_STREAMS).reshape(n_minutes, N_STREAMS) * 1.7)
    minutes: FloatArray = USUAL + 0.3 * SCALE * wobble
    return minutes


def calm(**changes: Any) -> WindowEvidence:
    """Evidence of an ordinary window, with changes."""
    rows = np.sin(np.arange(12 * N_STREAMS).reshape(12, N_STREAMS))
    evidence = WindowEvidence(
        entity_id="ada",
        time_zone="Europe/Berlin",
        window_start=WINDOW,
        values=USUAL + 0.3 * SCALE,
        trigger=Trigger.FORCED,
        score=0.2,
        confidence=1.0,
        history=USUAL + 0.3 * SCALE * rows,
        individual=IndividualRow(
            score=np.full(N_STREAMS, 0.1), expected=USUAL, deviation=np.full(N_STREAMS, 0.3)
        ),
        cross_stream=CrossStreamRow(0.2, np.full(4, 0.2), {"relationships": 0.1}),
        gaps=GapRow(0.1, np.full(4, 0.1), np.zeros(4, dtype=bool), np.full(N_STREAMS, -0.1)),
        minutes=calm_minutes(),
        minutes_start=WINDOW - 30 * 60,
    )
    return replace(evidence, **changes)


def deviating(
    *streams: str, by: float = 8.0, score: float = 0.95, **changes: Any
) -> WindowEvidence:
    """Evidence of a window in which some streams lie `by` scales from their forecast."""
    evidence = calm()
    at = [position(stream) for stream in streams]
    values, scores, deviation = (
        evidence.values.copy(),
        np.full(N_STREAMS, 0.1),
        np.full(N_STREAMS, 0.3),
    )
    values[at] = USUAL[at] + by * SCALE[at]
    scores[at], deviation[at] = score, by
    row = IndividualRow(scores, USUAL, deviation)
    return calm(
        **{
            "values": values,
            "individual": row,
            "score": 0.9,
            "trigger": Trigger.FINAL_SCORE,
            **changes,
        }
    )


def without(evidence: WindowEvidence, *streams: str, history: bool = False) -> WindowEvidence:
    """Take streams out of the window and its minutes, and out of the history if asked to."""
    at = [position(stream) for stream in streams]
    values = evidence.values.copy()
    values[at] = np.nan
    changes: dict[str, Any] = {"values": values}
    if evidence.minutes is not None:
        minutes = evidence.minutes.copy()
        minutes[:, at] = np.nan
        changes["minutes"] = minutes
    if evidence.individual is not None:
        unknown = [evidence.individual.score.copy(), evidence.individual.expected.copy()]
        deviation = evidence.individual.deviation.copy()
        for array in (*unknown, deviation):
            array[at] = np.nan
        changes["individual"] = IndividualRow(unknown[0], unknown[1], deviation)
    if history and evidence.history is not None:
        earlier = evidence.history.copy()
        earlier[:, at] = np.nan
        changes["history"] = earlier
    return replace(evidence, **changes)


def exercise() -> WindowEvidence:
    """Evidence of somebody who starts to run: acceleration, then speed, then heart rate."""
    minutes = calm_minutes()
    minutes[27:, position("accel_magnitude")] = 20.0
    minutes[28:, position("gps_speed")] = 4.0
    minutes[30:, position("heart_rate")] = 148.0
    evidence = deviating("accel_magnitude", "gps_speed", by=7.0, score=0.8, minutes=minutes)
    assert evidence.individual is not None
    heart = position("heart_rate")
    values, scores = evidence.values.copy(), evidence.individual.score.copy()
    deviation = evidence.individual.deviation.copy()
    values[heart], scores[heart], deviation[heart] = 148.0, 0.97, 25.0
    return replace(evidence, values=values, individual=IndividualRow(scores, USUAL, deviation))
