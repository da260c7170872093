"""What an explanation is made from: everything the tiers say of one window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from anomaly_assets.detection.explanation.episodes import Episode
from anomaly_assets.detection.explanation.network.model import CausalNetwork
from anomaly_assets.detection.explanation.triggers import Trigger
from anomaly_assets.detection.results import (
    CrossStreamScores,
    EnsembleResults,
    GapScores,
    IndividualScores,
)
from anomaly_assets.errors import InputError
from anomaly_assets.streams.windows import (
    WINDOW_SECONDS,
    BoolArray,
    FloatArray,
    IntArray,
    WindowBlock,
)

#: Earlier windows that an explanation looks at.
HISTORY_WINDOWS = 12


@dataclass(frozen=True)
class IndividualRow:
    """Tier 1 in one window, arrays of shape ``(n_streams,)``; NaN where unknown.

    ``consecutive_missing`` (int64) is given where stream health is at hand: with it the length of a
    gap is known beyond the history.
    """

    score: FloatArray
    expected: FloatArray
    deviation: FloatArray
    consecutive_missing: IntArray | None = None


@dataclass(frozen=True)
class CrossStreamRow:
    """Tier 2 in one window: score, score of each group ``(n_groups,)``, and of each voice."""

    score: float
    group_score: FloatArray
    voices: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class GapRow:
    """Gap patterns in one window.

    Score in [0, 1], score of each group and whether its streams went missing together, both
    ``(n_groups,)``, and the surprise (nats) of each stream's availability, ``(n_streams,)``.
    """

    score: float
    group_score: FloatArray
    coordinated: BoolArray
    surprise: FloatArray


@dataclass(frozen=True)
class ArrivalRow:
    """How late readings came, by the minute in which they came, up to the end of the window.

    What came later is left out even where it is known: an explanation does not change because of
    it, and a file that was imported afterwards says nothing of the clocks of its time.

    Parameters
    ----------
    lag
        Seconds from the time that a group's readings bear to their arrival, shape
        ``(n_minutes, n_groups)``, the last row being the last minute of the window; NaN where none
        came, below 0 where they bear a time that was still to come.
    refused
        How many of them were refused for their time (int64), of the same shape.

    Raises
    ------
    InputError
        If the shapes differ.
    """

    lag: FloatArray
    refused: IntArray

    def __post_init__(self) -> None:
        """Refuse arrays that are not about the same minutes and groups."""
        if self.lag.ndim != 2 or self.lag.shape != self.refused.shape:
            msg = (
                f"arrivals: lag has shape {self.lag.shape}, refused {self.refused.shape}; give "
                "(n_minutes, n_groups) for both"
            )
            raise InputError(msg)


@dataclass(frozen=True)
class WindowEvidence:
    """Everything an explanation of one window is made from.

    Only the first five are necessary; the explanation names the others that were not available.

    Parameters
    ----------
    entity_id, time_zone
        Whose window it is and on which clock (IANA) it is told.
    window_start
        Start of the window, seconds since the epoch.
    values
        Values of the window, shape ``(n_streams,)``, NaN where missing.
    trigger
        Why it is explained.
    score, confidence
        Final score and confidence, NaN where unknown.
    history
        Values of up to twelve windows before this one, oldest first and without a break, shape
        ``(n_earlier, n_streams)``; longer histories are cut.
    individual, cross_stream, gaps
        What the tiers say of the window.
    minutes
        One-minute values up to the end of the window, shape ``(n_minutes, n_streams)``, from
        :func:`~anomaly_assets.detection.explanation.events.minute_means`.
    minutes_start
        Start of their first row, seconds since the epoch.
    episode
        The episode that the window speaks for; None for a window by itself.
    network, network_problem
        Causal network fitted on windows before this one; without one, why there is none.
    day
        Values of the windows of the last day up to and with this one, oldest first and without a
        break, shape ``(any, n_streams)``, from which lead-lag is computed.
    arrivals
        When readings came, from which wrong clocks are told.

    Raises
    ------
    InputError
        If shapes do not fit each other.
    """

    entity_id: str
    time_zone: str
    window_start: int
    values: FloatArray
    trigger: Trigger
    score: float = float("nan")
    confidence: float = float("nan")
    history: FloatArray | None = None
    individual: IndividualRow | None = None
    cross_stream: CrossStreamRow | None = None
    gaps: GapRow | None = None
    minutes: FloatArray | None = None
    minutes_start: int | None = None
    episode: Episode | None = None
    network: CausalNetwork | None = None
    network_problem: str = ""
    day: FloatArray | None = None
    arrivals: ArrivalRow | None = None

    def __post_init__(self) -> None:
        """Refuse arrays that are not about the same streams."""
        n_streams = len(self.values) if self.values.ndim == 1 else -1
        per_stream: dict[str, FloatArray | IntArray | None] = {"values": self.values}
        if self.individual is not None:
            per_stream["tier-1 score"] = self.individual.score
            per_stream["tier-1 expected"] = self.individual.expected
            per_stream["tier-1 deviation"] = self.individual.deviation
            per_stream["consecutive_missing"] = self.individual.consecutive_missing
        if self.gaps is not None:
            per_stream["gap surprise"] = self.gaps.surprise
        for what, row in per_stream.items():
            if row is not None and row.shape != (n_streams,):
                self._refuse(what, row.shape, "(n_streams,)")
        for what, matrix in (
            ("history", self.history),
            ("minutes", self.minutes),
            ("day", self.day),
        ):
            if matrix is not None and (matrix.ndim != 2 or matrix.shape[1] != n_streams):
                self._refuse(what, matrix.shape, f"(any, {n_streams})")
        if (self.minutes is None) != (self.minutes_start is None):
            msg = f"entity {self.entity_id!r}: give minutes and minutes_start together or neither"
            raise InputError(msg)

    def _refuse(self, what: str, shape: tuple[int, ...], wanted: str) -> None:
        msg = (
            f"entity {self.entity_id!r}, window {self.window_start}: {what} has shape {shape}, "
            f"expected {wanted} in catalogue order"
        )
        raise InputError(msg)

    @property
    def window_end(self) -> int:
        """End of the window, seconds since the epoch."""
        return self.window_start + WINDOW_SECONDS

    @classmethod
    def from_results(
        cls,
        block: WindowBlock,
        row: int,
        trigger: Trigger,
        *,
        history: FloatArray,
        individual: IndividualScores,
        cross_stream: CrossStreamScores,
        gaps: GapScores | None,
        ensemble: EnsembleResults,
        minutes: FloatArray | None = None,
        minutes_start: int | None = None,
        episode: Episode | None = None,
    ) -> Self:
        """Take one window out of the results of a block.

        Parameters
        ----------
        block, row, trigger
            The block that was processed, number of the window in it, why it is explained.
        history
            Values of the windows before the *block*, oldest first, shape ``(any, n_streams)``;
            without them the explanation would depend on where blocks happen to be cut.
        individual, cross_stream, gaps, ensemble, minutes, minutes_start, episode
            Results of the block; one-minute values and episode as the class takes them.
        """
        earlier = np.concatenate((history[-HISTORY_WINDOWS:], block.values[:row]))
        return cls(
            entity_id=block.entity_id,
            time_zone=block.time_zone,
            window_start=block.windows.start + row * WINDOW_SECONDS,
            values=block.values[row],
            trigger=trigger,
            score=float(ensemble.score[row]),
            confidence=float(ensemble.confidence[row]),
            history=earlier[-HISTORY_WINDOWS:],
            individual=IndividualRow(
                score=individual.score[row],
                expected=individual.expected[row],
                deviation=individual.deviation[row],
                consecutive_missing=individual.health.consecutive_missing[row],
            ),
            cross_stream=CrossStreamRow(
                score=float(cross_stream.score[row]),
                group_score=cross_stream.group_score[row],
                voices={name: float(voice[row]) for name, voice in cross_stream.voices.items()},
            ),
            gaps=None
            if gaps is None
            else GapRow(
                score=float(gaps.score[row]),
                group_score=gaps.group_score[row],
                coordinated=gaps.coordinated[row],
                surprise=gaps.surprise[row],
            ),
            minutes=minutes,
            minutes_start=minutes_start,
            episode=episode,
        )
