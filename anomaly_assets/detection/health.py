"""How healthy a stream is: availability, gaps, accuracy, and whether it can be predicted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from anomaly_assets.detection.compiled import compiled
from anomaly_assets.detection.results import StreamHealth
from anomaly_assets.streams.catalogue import Catalogue, HealthLimits, Stream, StreamType
from anomaly_assets.streams.windows import (
    WINDOWS_PER_DAY,
    WINDOWS_PER_HOUR,
    BoolArray,
    FloatArray,
    IntArray,
)

#: A sporadic stream may be silent for this many times as long as another.
SPORADIC_FACTOR = 3
ACCURACY_RATE = 0.02
#: Accuracy is not judged before this many forecasts.
FORECASTS_BEFORE_JUDGED = 50
#: Forecasts whose p-value is below this were outside their nominal 95 % interval.
OUTSIDE_P = 0.05


class GapClass(StrEnum):
    """A gap by its length."""

    NONE = "none"
    POINT_MISSING = "point_missing"
    SHORT_GAP = "short_gap"
    MEDIUM_GAP = "medium_gap"
    LONG_OUTAGE = "long_outage"
    PERMANENT_FAILURE = "permanent_failure"
    DEAD = "dead"


#: A gap is of the next class once it is longer than each of these, in windows.
_LIMITS = np.array([0, 1, 4 * WINDOWS_PER_HOUR, WINDOWS_PER_DAY, 7 * WINDOWS_PER_DAY])
#: From this length on the stream is dead.
_DEAD_FROM = 30 * WINDOWS_PER_DAY
_CLASSES = np.array(list(GapClass), dtype=object)


def classify_gap(
    consecutive_missing: int | IntArray, stream_type: StreamType | npt.NDArray[np.object_]
) -> npt.NDArray[np.object_]:
    """Name gaps by their length.

    Parameters
    ----------
    consecutive_missing
        Missing windows in a row, any shape.
    stream_type
        Type of the stream, or types in an object array broadcastable to `consecutive_missing`; for
        sporadic streams every limit is three times longer.

    Returns
    -------
    numpy.ndarray
        Object array of :class:`GapClass`. A gap of 30 days and more is ``dead``, the last stage of
        ``permanent_failure``.

    Examples
    --------
    >>> classify_gap(np.array([0, 1, 48, 49]), StreamType.CONTINUOUS_SMOOTH).tolist()
    [<GapClass.NONE: 'none'>, <GapClass.POINT_MISSING: 'point_missing'>, \
<GapClass.SHORT_GAP: 'short_gap'>, <GapClass.MEDIUM_GAP: 'medium_gap'>]
    """
    sporadic = np.asarray(np.equal(stream_type, StreamType.SPORADIC), dtype=bool)
    factor = np.where(sporadic, SPORADIC_FACTOR, 1)
    gap = np.asarray(consecutive_missing)
    longer = gap[..., np.newaxis] > _LIMITS * factor[..., np.newaxis]
    stage = longer.sum(axis=-1) + (gap >= _DEAD_FROM * factor)
    classes: npt.NDArray[np.object_] = np.asarray(_CLASSES[stage], dtype=object)
    return classes


def effective_limits(stream: Stream) -> HealthLimits:
    """Return the health limits of a stream.

    A sporadic stream is not unhealthy for being sporadic: every limit that its catalogue entry
    leaves at the general default becomes three times as long, and no availability is asked of it.
    """
    limits = stream.health
    if stream.type is not StreamType.SPORADIC:
        return limits
    general = HealthLimits()
    adapted: dict[str, float] = {}
    for name in ("max_consecutive_missing", "retrain_after_missing"):
        if getattr(limits, name) == getattr(general, name):
            adapted[name] = SPORADIC_FACTOR * getattr(general, name)
    if limits.min_availability == general.min_availability:
        adapted["min_availability"] = 0.0
    return limits.model_copy(update=adapted)


@dataclass(frozen=True)
class Presence:
    """Which streams were there in a block, arrays of shape ``(n_windows, n_streams)``.

    Parameters
    ----------
    observed
        Whether the stream was observed (bool).
    availability
        Share of observed windows after each window, in [0, 1].
    consecutive_missing
        Missing windows in a row up to and including this one (int64).
    gap_windows
        Windows since the last observation before this window, 1 if it was the one before (int64).
    predictable
        Whether the stream may be scored in the window (bool).
    age
        Windows since the first reading, that one included (int64).
    recent
        The observations of as many windows as the longest availability window, up to the end of the
        block, shape ``(longest, n_streams)`` (bool).
    """

    observed: BoolArray
    availability: FloatArray
    consecutive_missing: IntArray
    gap_windows: IntArray
    predictable: BoolArray
    age: IntArray
    recent: BoolArray


class StreamHealthTracker:
    """Health of every stream, window by window.

    Availability is taken over a rolling window, so that a stream recovers, and over the windows
    since the first reading as long as these are fewer. A stream is predictable in a window if,
    before it, it was missing for no longer than its limit and its availability was high enough; the
    first reading ever always is. A stream that was never seen has availability 0.

    Parameters
    ----------
    catalogue
        Streams and their limits, see :func:`effective_limits`.
    """

    version = 1

    def __init__(self, catalogue: Catalogue) -> None:
        limits = [effective_limits(stream) for stream in catalogue.streams]
        n_streams = len(limits)
        self.window = np.array([x.availability_window for x in limits], dtype=np.int64)
        self.min_availability = np.array([x.min_availability for x in limits])
        self.max_missing = np.array([x.max_consecutive_missing for x in limits], dtype=np.int64)
        self.retrain_after = np.array([x.retrain_after_missing for x in limits], dtype=np.int64)
        self.min_accuracy = np.array([x.min_accuracy for x in limits])
        self.recent = np.zeros((int(self.window.max()), n_streams), dtype=bool)
        self.observed_recently = np.zeros(n_streams, dtype=np.int64)
        self.age = np.zeros(n_streams, dtype=np.int64)
        self.consecutive_missing = np.zeros(n_streams, dtype=np.int64)
        self.accuracy = np.zeros(n_streams)
        self.forecasts = np.zeros(n_streams, dtype=np.int64)

    def presence(self, observed: BoolArray) -> Presence:
        """Work out who is there in a block, without learning it.

        Parameters
        ----------
        observed
            Whether each stream was observed, shape ``(n_windows, n_streams)``.
        """
        observed = np.ascontiguousarray(observed)
        n_windows = len(observed)
        availability = np.empty(observed.shape)
        missing, gaps, age = (np.empty(observed.shape, dtype=np.int64) for _ in range(3))
        predictable = np.empty(observed.shape, dtype=bool)
        _follow(
            observed,
            (self.window, self.min_availability, self.max_missing),
            (self.recent, self.observed_recently, self.age, self.consecutive_missing),
            (availability, missing, gaps, predictable, age),
        )
        return Presence(
            observed=observed,
            availability=availability,
            consecutive_missing=missing,
            gap_windows=gaps,
            predictable=predictable,
            age=age,
            recent=np.concatenate([self.recent, observed])[n_windows:],
        )

    def learn(self, presence: Presence, forecast_p: FloatArray) -> StreamHealth:
        """Learn a block and return the health after each of its windows.

        Parameters
        ----------
        presence
            What :meth:`presence` said of the block.
        forecast_p
            p-value of each reading under its forecast, NaN where there was no forecast or no
            reading, shape ``(n_windows, n_streams)``.
        """
        p = np.ascontiguousarray(forecast_p)
        missing = presence.consecutive_missing
        score, accuracy = np.empty(p.shape), np.empty(p.shape)
        needs_retraining = np.empty(p.shape, dtype=bool)
        _judge(
            p,
            presence.availability,
            missing,
            (self.max_missing, self.retrain_after, self.min_accuracy),
            (self.accuracy, self.forecasts),
            (score, accuracy, needs_retraining),
        )
        if len(p):
            self.recent = presence.recent.copy()
            in_window = np.minimum(presence.age[-1], self.window)
            self.observed_recently = np.rint(presence.availability[-1] * in_window).astype(np.int64)
            self.age = presence.age[-1].copy()
            self.consecutive_missing = missing[-1].copy()
        return StreamHealth(
            availability=presence.availability,
            consecutive_missing=missing,
            score=score,
            predictable=presence.predictable,
            accuracy=accuracy,
            needs_retraining=needs_retraining,
        )


@compiled
def _follow(
    observed: BoolArray,
    limits: tuple[IntArray, FloatArray, IntArray],
    state: tuple[BoolArray, IntArray, IntArray, IntArray],
    results: tuple[FloatArray, IntArray, IntArray, BoolArray, IntArray],
) -> None:
    """Write the presence of every stream after each window into `results`."""
    window, min_availability, max_missing = limits
    recent, observed_recently, age_before, missing_before = state
    availability, missing, gaps, predictable, age = results
    longest = len(recent)
    count, old, gone = observed_recently.copy(), age_before.copy(), missing_before.copy()
    for t in range(observed.shape[0]):
        for i in range(observed.shape[1]):
            here = observed[t, i]
            share = count[i] / max(min(old[i], window[i]), 1)
            usual = gone[i] <= max_missing[i] and share >= min_availability[i]
            predictable[t, i] = here if old[i] == 0 else usual
            gaps[t, i] = gone[i] + 1
            # Integer sums are exact, so that a block may be cut anywhere.
            leaving = t + longest - window[i]
            count[i] += here
            count[i] -= recent[leaving, i] if leaving < longest else observed[leaving - longest, i]
            old[i] += here or old[i] > 0
            gone[i] = 0 if here else gone[i] + 1
            age[t, i] = old[i]
            missing[t, i] = gone[i]
            availability[t, i] = count[i] / max(min(old[i], window[i]), 1)


@compiled
def _judge(
    forecast_p: FloatArray,
    availability: FloatArray,
    missing: IntArray,
    limits: tuple[IntArray, IntArray, FloatArray],
    state: tuple[FloatArray, IntArray],
    results: tuple[FloatArray, FloatArray, BoolArray],
) -> None:
    """Learn how good forecasts are, and write the health after each window into `results`."""
    max_missing, retrain_after, min_accuracy = limits
    current, forecasts = state
    score, accuracy, needs_retraining = results
    for t in range(forecast_p.shape[0]):
        for i in range(forecast_p.shape[1]):
            if math.isfinite(forecast_p[t, i]):
                forecasts[i] += 1
                hit = 1.0 if forecast_p[t, i] >= OUTSIDE_P else 0.0
                current[i] += (hit - current[i]) * max(1.0 / forecasts[i], ACCURACY_RATE)
            accuracy[t, i] = current[i] if forecasts[i] > 0 else math.nan
            judged = forecasts[i] >= FORECASTS_BEFORE_JUDGED
            inaccurate = judged and current[i] < min_accuracy[i]
            needs_retraining[t, i] = inaccurate or missing[t, i] > retrain_after[i]
            lost = min(missing[t, i] / max_missing[i], 1.0)
            score[t, i] = availability[t, i] * (1.0 - lost)
