"""Evidence and judged alarms made by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anomaly_assets.detection.cross_stream.detector import VOICES
from anomaly_assets.detection.ensemble.health_aware import HealthAwareEnsemble
from anomaly_assets.detection.feedback.evidence import Evidence
from anomaly_assets.detection.feedback.labelled import Deciding, Labelled
from anomaly_assets.detection.results import CrossStreamScores, IndividualScores, StreamHealth
from anomaly_assets.streams.windows import FloatArray, IntArray

STREAMS = ("heart", "noise", "damp")
GROUPS = ("body", "room")
ENSEMBLE = HealthAwareEnsemble()
DECIDING = Deciding(ENSEMBLE)
#: A Monday, midnight UTC.
MONDAY = 1_772_409_600
DAY = 86_400


def evidence(
    score: FloatArray,
    starts: IntArray,
    *,
    cross_stream: FloatArray | None = None,
    voices: FloatArray | None = None,
) -> Evidence:
    """Return windows with tier-1 scores, the final ones being what the ensemble makes of them."""
    n = len(score)
    cross = np.full(n, 0.2) if cross_stream is None else cross_stream
    unknown = np.full(score.shape, np.nan)
    health = StreamHealth(unknown, unknown, np.ones(score.shape), unknown, unknown, unknown)
    final = ENSEMBLE.process(
        IndividualScores(score, unknown, unknown, health),
        CrossStreamScores(cross, np.empty((n, 0)), {}),
    ).score
    return Evidence(
        STREAMS,
        GROUPS,
        starts,
        (starts % DAY) / 3600.0,
        (starts - MONDAY) // DAY % 7,
        score,
        np.where(score > 0.5, 5.0, 0.1),
        np.ones(score.shape),
        cross,
        np.full((n, len(VOICES)), 0.1) if voices is None else voices,
        np.full((n, len(GROUPS)), 0.1),
        final,
    )


def alarms(
    what: Sequence[tuple[int, float, bool]], minutes: Sequence[int] | None = None
) -> Labelled:
    """Return judged alarms of one window each, a day apart.

    Parameters
    ----------
    what
        Stream that is odd, its score, and whether it was confirmed.
    minutes
        Minute of the day of each; noon by default.
    """
    score = np.full((len(what), len(STREAMS)), 0.1)
    for row, (stream, much, _) in enumerate(what):
        score[row, stream] = much
    of_day = np.array([720] * len(what) if minutes is None else list(minutes))
    starts = MONDAY + np.arange(len(what)) * DAY + of_day * 60
    return Labelled(
        evidence(score, starts),
        np.arange(len(what)),
        np.array([confirmed for *_, confirmed in what], dtype=np.bool_),
        starts + 300,
        tuple(range(100, 100 + len(what))),
    )
