"""Results as the streaming pipeline would give them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from anomaly_assets.detection.explanation.record import (
    Attribution,
    Evidence,
    Explanation,
    StreamEvidence,
    anomaly_id,
)
from anomaly_assets.detection.explanation.triggers import Trigger
from anomaly_assets.detection.robust import StreamScore
from anomaly_assets.live.results import ClosedBy, LiveResult
from anomaly_assets.streams.windows import WINDOW_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence


def result(  # noqa: PLR0913 - what a result can be like
    start: datetime,
    entity: str = "ann",
    *,
    score: float | None = 0.9,
    confidence: float = 1.0,
    explained: bool = False,
    provisional: bool = False,
    revision: int = 0,
) -> LiveResult:
    """Return what is said of a window; scores above 0.7 are anomalies."""
    anomalous = score is not None and score > 0.7
    return LiveResult(
        entity_id=entity,
        window_start=start,
        window_end=start + timedelta(seconds=WINDOW_SECONDS),
        score=score,
        confidence=confidence,
        is_anomaly=anomalous,
        trigger="final_score" if anomalous else None,
        streams={
            "heart_rate": StreamScore(141.0, 72.0, 0.97, 8.1),
            "steps": StreamScore(None, 30.0, None, None),
            "light": StreamScore(3.0, 2.0, 0.1, 0.2),
        },
        cross_stream_score=0.4,
        gap_score=0.1,
        missing=("steps",),
        closed_by=ClosedBy.COMPLETENESS,
        provisional=provisional,
        revision=revision,
        explanation=explanation(start, entity) if explained else None,
    )


def explanation(start: datetime, entity: str, causes: Sequence[str] = ("steps",)) -> Explanation:
    """Return an explanation of a window."""
    seconds = int(start.timestamp())
    return Explanation(
        anomaly_id=anomaly_id(entity, seconds),
        entity_id=entity,
        time_zone="UTC",
        window_start=seconds,
        episode_start=seconds,
        episode_end=seconds + WINDOW_SECONDS,
        windows=1,
        peak_score=0.9,
        ongoing=True,
        mode="fast",
        trigger=Trigger.FINAL_SCORE,
        score=0.9,
        score_confidence=1.0,
        summary="Heart rate rose while nobody moved.",
        primary_cause="stress",
        cause_kind="sequence",
        cause_streams=tuple(causes),
        confidence=0.8,
        causal_attribution=Attribution({"steps": 0.7}, 0.3),
        temporal_sequence=(),
        evidence=Evidence(
            None,
            (
                StreamEvidence("heart_rate", "Heart rate", "bpm", 141.0, 72.0, 8.1, 0.97),
                StreamEvidence("steps", "Steps", "", None, 30.0, None, None),
            ),
            "work_hours",
        ),
        primary_probability=0.8,
        alternative_explanations=(),
        recommended_action="Ask how Ann is.",
        missing_streams=("steps",),
        methods_used=("scores",),
        degraded=(),
    )
