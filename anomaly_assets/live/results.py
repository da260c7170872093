"""What the streaming pipeline says: at first look, of a window, and of itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anomaly_assets.detection.explanation.record import Explanation
    from anomaly_assets.detection.robust import StreamScore


class ClosedBy(StrEnum):
    """Why a window was computed when it was."""

    COMPLETENESS = "completeness"
    TIME = "time"
    LATENESS = "lateness"
    REVISION = "revision"
    FEEDBACK = "feedback"
    STORED = "stored"


@dataclass(frozen=True, slots=True)
class FirstLook:
    """What the current models say of a single reading.

    Parameters
    ----------
    entity_id, stream_id, at, value
        The reading.
    window_start
        Start of its window, UTC.
    compared
        What was held against the forecast: the reading itself for streams that are averaged or
        whose last value counts; the total, count or maximum of the window so far for the others.
    expected, deviation
        Forecast of the window's value, and signed distance from it in scales of the stream's own
        errors; None before the stream has a past.
    score
        In [0, 1]; None where the stream cannot be scored.
    is_anomaly
        Whether the score alone would call for an explanation.
    """

    entity_id: str
    stream_id: str
    at: datetime
    value: float
    window_start: datetime
    compared: float
    expected: float | None
    deviation: float | None
    score: float | None
    is_anomaly: bool


@dataclass(frozen=True, slots=True)
class LiveResult:
    """What tiers 1 to 3 say of one window, and with the explanation why.

    The same window may come more than once: with a higher `revision` when readings arrived for it
    after it was closed, and once more when its explanation follows.

    Parameters
    ----------
    entity_id
        Whose window.
    window_start, window_end
        Its bounds, UTC.
    score
        Final score in [0, 1]; None before anything was ever observed.
    confidence
        Share of the streams observed, in [0, 1].
    is_anomaly
        Whether the final score lies above 0.7, and what people said of earlier windows does not
        speak against an alarm.
    trigger
        Why the window is explained; None if it is not.
    streams
        Tier 1, by stream.
    cross_stream_score, gap_score
        Tier 2, and how unusual the absences are.
    missing
        Streams without a value.
    closed_by
        Why it was computed now.
    provisional
        Whether some stream that reports may still have readings for it.
    revision
        0 for the first result of the window, one more for each that replaces it.
    episode_start
        Start of the episode that the window belongs to, UTC: of the run of anomalous windows with
        at most a quarter of an hour between two of them, as Dagster joins them too. None where
        `trigger` is.
    explanation
        Present when this is the message that brings it.
    suppressed_by
        Name of the rule that keeps it from raising an alarm; None: none does.
    decided_score
        Score that was decided by; the final score where no feedback was in force.
    option
        Which option of the ensemble has spoken: A, or B (the meta-learner).
    """

    entity_id: str
    window_start: datetime
    window_end: datetime
    score: float | None
    confidence: float
    is_anomaly: bool
    trigger: str | None
    streams: dict[str, StreamScore]
    cross_stream_score: float | None
    gap_score: float | None
    missing: tuple[str, ...]
    closed_by: ClosedBy
    provisional: bool
    revision: int = 0
    episode_start: datetime | None = None
    explanation: Explanation | None = None
    suppressed_by: str | None = None
    decided_score: float | None = None
    option: str = "A"


@dataclass(frozen=True, slots=True)
class Difference:
    """A window of which the live path had said something else than is stored.

    Parameters
    ----------
    entity_id, window_start
        Whose window.
    what
        Which score, such as ``final``, ``cross_stream`` or ``heart_rate``.
    live, stored
        Its two values; None where unknown.
    """

    entity_id: str
    window_start: datetime
    what: str
    live: float | None
    stored: float | None


@dataclass
class LiveCounts:
    """What the pipeline has counted since it started.

    Parameters
    ----------
    readings, first_looks
        Readings taken in, and those of them that were scored at once.
    refused
        Readings that were not taken in: unknown streams, too far in the future, of an entity that
        is quarantined or not kept in memory.
    late
        Readings for windows that were closed already.
    windows, revised
        Windows closed, and results replaced by later ones.
    restored, snapshots_refused
        Entities restored from the database, and snapshots that failed verification then.
    verified, outdated, differences
        Windows found stored as they were said; stored otherwise because readings had arrived that
        the live path was not told of; stored otherwise for no such reason, which must not happen.
    explained, explanations_failed, explanations_dropped
        Explanations made, failed, and given up because too many were waiting.
    subscribers_dropped
        Subscribers that did not keep up.
    database_errors
        Times the database was not there; what it was needed for is tried again.
    caught_up
        Readings found in the journal that nobody had told of yet.
    """

    readings: int = 0
    first_looks: int = 0
    refused: int = 0
    late: int = 0
    windows: int = 0
    revised: int = 0
    restored: int = 0
    snapshots_refused: int = 0
    verified: int = 0
    outdated: int = 0
    differences: int = 0
    explained: int = 0
    explanations_failed: int = 0
    explanations_dropped: int = 0
    subscribers_dropped: int = 0
    database_errors: int = 0
    caught_up: int = 0
