"""What the tiers say of a block of windows, and how they hand it to each other.

All arrays are float64 unless said otherwise; ``n_windows`` is the length of the block, streams and
groups are in catalogue order. *Unknown* is NaN, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass

from anomaly_assets.streams.windows import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class StreamHealth:
    """Health of every stream after each window, arrays of shape ``(n_windows, n_streams)``.

    Parameters
    ----------
    availability
        Share of observed windows in the stream's rolling window, in [0, 1]; 0 before the first
        reading.
    consecutive_missing
        Missing windows in a row up to and including this one (int64).
    score
        ``availability * (1 - min(consecutive_missing / max_consecutive_missing, 1))``, in [0, 1].
    predictable
        Whether tier 1 may score the stream in this window (bool).
    accuracy
        Exponentially weighted share of forecasts whose nominal 95 % interval held the value,
        in [0, 1]; NaN before the first forecast.
    needs_retraining
        Accuracy below its limit, or too many missing windows since the last observation (bool).
    """

    availability: FloatArray
    consecutive_missing: IntArray
    score: FloatArray
    predictable: BoolArray
    accuracy: FloatArray
    needs_retraining: BoolArray


@dataclass(frozen=True)
class IndividualScores:
    """Tier 1, arrays of shape ``(n_windows, n_streams)``.

    Parameters
    ----------
    score
        Anomaly score in [0, 1], NaN where the stream is missing or unhealthy.
    expected
        Forecast made before the value was seen, in the stream's unit; NaN where there was none.
    deviation
        Signed studentised residual (value minus expected, over its scale); NaN where there is none.
    health
        Health of the streams after each window.
    """

    score: FloatArray
    expected: FloatArray
    deviation: FloatArray
    health: StreamHealth


@dataclass(frozen=True)
class GapScores:
    """Gap pattern learning.

    Parameters
    ----------
    score
        How unusual the absences (and presences) of the window are, in [0, 1], shape
        ``(n_windows,)``.
    group_score
        The same for each group, shape ``(n_windows, n_groups)``.
    group_available
        Share of each group's known streams that were observed, shape ``(n_windows, n_groups)``; NaN
        where no stream of the group was ever seen.
    surprise
        Surprise (nats, minus its expectation) of each stream's availability bit,
        shape ``(n_windows, n_streams)``.
    coordinated
        Whether a group's streams went missing together (bool), shape ``(n_windows, n_groups)``.
    pattern_frequency
        Faded relative frequency in [0, 1] of this window's availability pattern in its context
        before this window, shape ``(n_windows,)``.
    is_anomalous
        Whether the window's gaps are flagged (bool), shape ``(n_windows,)``.
    """

    score: FloatArray
    group_score: FloatArray
    group_available: FloatArray
    surprise: FloatArray
    coordinated: BoolArray
    pattern_frequency: FloatArray
    is_anomalous: BoolArray


@dataclass(frozen=True)
class CrossStreamScores:
    """Tier 2.

    Parameters
    ----------
    score
        All voices combined, in [0, 1], shape ``(n_windows,)``; NaN before anything was ever
        observed.
    group_score
        Each group's detector, shape ``(n_windows, n_groups)``; NaN where no stream of the group was
        ever observed.
    voices
        Score of every voice by name (``half_space_trees``, ``groups``, ``gaps``, ...), each of
        shape ``(n_windows,)``.
    evidence
        How much each stream has to do with what is unusual, in whatever unit: larger means more,
        at least 0, NaN where it is missing; shape ``(n_windows, n_streams)``. None where only the
        stored scores are known.
    """

    score: FloatArray
    group_score: FloatArray
    voices: dict[str, FloatArray]
    evidence: FloatArray | None = None


@dataclass(frozen=True)
class EnsembleResults:
    """Tier 3, arrays of shape ``(n_windows,)``.

    Parameters
    ----------
    score
        Final score in [0, 1]; NaN only before anything was ever observed.
    confidence
        Share of streams available, in [0, 1]; 0.3 where only tier 2 spoke.
    """

    score: FloatArray
    confidence: FloatArray
