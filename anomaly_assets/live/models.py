"""What an entity's models have learnt, window after window, and the way back."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from anomaly_assets.detection.ensemble.health_aware import HealthAwareEnsemble
from anomaly_assets.detection.explanation.episodes import MAX_QUIET_WINDOWS
from anomaly_assets.detection.explanation.evidence import HISTORY_WINDOWS, WindowEvidence
from anomaly_assets.detection.explanation.triggers import Trigger, triggers
from anomaly_assets.detection.packing import PackedState, WayBack
from anomaly_assets.detection.system import detect
from anomaly_assets.live.decisions import Decider, decided_codes, newest_scores
from anomaly_assets.live.outcomes import Outcome, Scores
from anomaly_assets.live.results import ClosedBy
from anomaly_assets.pipeline.stateless import DORMANT_AFTER
from anomaly_assets.streams.aggregation import MICROSECONDS, MissingReason, aggregate
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowBlock, WindowRange

if TYPE_CHECKING:
    from anomaly_assets.detection.explanation.triggers import CodeArray
    from anomaly_assets.detection.system import Detection, DetectionState
    from anomaly_assets.pipeline.deployment import Entity
    from anomaly_assets.settings import Settings
    from anomaly_assets.streams.aggregation import Aggregated, Readings, ReadingTimes
    from anomaly_assets.streams.windows import BoolArray, FloatArray, IntArray

_DORMANT_WINDOWS = int(DORMANT_AFTER.total_seconds()) // WINDOW_SECONDS
#: Anomalous windows whose starts lie further apart than this are of two episodes.
_APART = (MAX_QUIET_WINDOWS + 1) * WINDOW_SECONDS


@dataclass(frozen=True)
class RunningEpisode:
    """The newest episode, which the next anomalous window may belong to.

    Parameters
    ----------
    start, last
        Starts of its first and of its last anomalous window, epoch seconds.
    """

    start: int
    last: int

    def followed_by(self, window: int) -> RunningEpisode:
        """Return the episode that a later anomalous window belongs to."""
        start = window if window - self.last > _APART else self.start
        return RunningEpisode(start, window)


@dataclass(kw_only=True)
class Known:
    """What is known of an entity at the end of a window, its models apart.

    Parameters
    ----------
    until
        The end, epoch seconds.
    last_report
        Window of the last reading before `until`; None if there is none.
    history, history_until
        Values of the last windows, shape ``(n, n_streams)``, and where they end.
    episode
        The newest episode; None if there was none of late.
    scores
        Every score of the last windows, which end with `history`; None before there are any.
    """

    until: int
    last_report: int | None
    history: FloatArray
    history_until: int
    episode: RunningEpisode | None = None
    scores: FloatArray | None = None


@dataclass(kw_only=True)
class Learnt(Known):
    """The same with the models.

    Parameters
    ----------
    state
        They have learnt every window before `until`.
    """

    state: DetectionState

    @classmethod
    def of(cls, known: Known, state: DetectionState) -> Self:
        """Put both together."""
        return cls(
            until=known.until,
            last_report=known.last_report,
            history=known.history,
            history_until=known.history_until,
            episode=known.episode,
            scores=known.scores,
            state=state,
        )

    def known(self) -> Known:
        """Return everything but the models, as it is now."""
        return Known(
            until=self.until,
            last_report=self.last_report,
            history=self.history,
            history_until=self.history_until,
            episode=self.episode,
            scores=self.scores,
        )

    def remember(self, block: WindowBlock) -> None:
        """Keep the values of windows that the next explanations look back on."""
        self.history = np.concatenate([self.history, block.values])[-HISTORY_WINDOWS:]
        self.history_until = block.windows.end

    def active(self, aggregated: Aggregated) -> list[tuple[int, int]]:
        """Return first and last (exclusive) number of the windows in which it is not dormant."""
        number = np.arange(len(aggregated.windows))
        stuck = aggregated.reason == MissingReason.STUCK
        reported = (np.isfinite(aggregated.values) | stuck).any(axis=1)
        start = aggregated.windows.start
        since = -_DORMANT_WINDOWS - 1
        if self.last_report is not None:
            since = (self.last_report - start) // WINDOW_SECONDS
        latest = np.maximum.accumulate(np.where(reported, number, since))
        if reported.any():
            self.last_report = start + int(latest[-1]) * WINDOW_SECONDS
        active: BoolArray = number - latest < _DORMANT_WINDOWS
        edges = np.flatnonzero(np.diff(np.concatenate([[0], active.astype(np.int8), [0]])))
        return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


class Scorer:
    """Takes what is learnt of an entity from window to window.

    Parameters
    ----------
    entity
        Whose windows.
    settings
        How scores are combined, and from where on windows are explained.
    remembered
        Of how many of the last windows of a block outcomes are made.
    """

    def __init__(self, entity: Entity, settings: Settings, remembered: int) -> None:
        self._entity = entity
        self._threshold = settings.explanation_threshold
        self._ensemble = HealthAwareEnsemble(method=settings.ensemble)
        self._remembered = remembered
        self.decider = Decider(entity, settings)

    def compute(  # noqa: PLR0913, PLR0917 - what windows are made of
        self,
        learnt: Learnt,
        windows: WindowRange,
        readings: Readings,
        rejected: ReadingTimes,
        closed_by: ClosedBy,
        late: ReadingTimes | None = None,
    ) -> list[Outcome]:
        """Compute the next windows from readings, those of the look-back included, and learn them.

        Windows in which the entity is dormant are passed over, as the pipeline does.
        """
        entity = self._entity
        aggregated = aggregate(readings, windows, entity.catalogue, late=late, rejected=rejected)
        counts = _count(readings, windows)
        refused = _count_streams(rejected, windows)
        made = []
        for start, stop in learnt.active(aggregated):
            part = WindowBlock(entity.entity_id, entity.time_zone, windows, aggregated.values).part(
                start, stop
            )
            for outcome in self.learn(learnt, part, closed_by):
                number = (outcome.window - windows.start) // WINDOW_SECONDS
                outcome.readings, outcome.rejected = int(counts[number]), int(refused[number])
                made.append(outcome)
        learnt.until = max(learnt.until, windows.end)
        return made

    def learn(self, learnt: Learnt, block: WindowBlock, closed_by: ClosedBy) -> list[Outcome]:
        """Score a block of the next windows, and learn it."""
        if block.windows.start != learnt.history_until:
            # What lies before a dormant time is not what happened just before.
            learnt.history = learnt.history[:0]
            learnt.scores = None
        said = detect(learnt.state, block, self._ensemble)
        codes = triggers(
            said.individual.score,
            said.cross_stream.score,
            said.ensemble.score,
            threshold=self._threshold,
        )
        n_channels = (
            len(self._entity.catalogue.streams) + 1 + said.cross_stream.group_score.shape[1]
        )
        before = np.empty((0, n_channels)) if learnt.scores is None else learnt.scores
        rows, calling = self.decider.calling(block, said, before)
        decisions = self.decider.decide(calling)
        codes = decided_codes(codes, block.windows.starts().tolist(), decisions)
        episodes = _episodes(learnt, block.windows, codes)
        first = max(0, len(block) - self._remembered)
        alone = {r: calling.take(np.array([i])) for i, r in enumerate(rows) if r >= first}
        made = []
        for row in range(first, len(block)):
            outcome = _outcome(block, said, row, int(codes[row]), learnt.history)
            outcome.closed_by, outcome.provisional = closed_by, closed_by is ClosedBy.TIME
            outcome.episode_start = episodes.get(outcome.window)
            outcome.calling = alone.get(row)
            outcome.decision = decisions.get(outcome.window)
            made.append(outcome)
        learnt.remember(block)
        learnt.scores = newest_scores(before, said)
        learnt.until = max(learnt.until, block.windows.end)
        return made


@dataclass(frozen=True)
class Step:
    """The way back to how things were before a window was learnt.

    Parameters
    ----------
    before
        What was known then.
    way
        The way back of the models.
    """

    before: Known
    way: WayBack


class Past:
    """The last steps, so that windows can be computed again.

    Parameters
    ----------
    most
        Steps kept.
    """

    def __init__(self, most: int) -> None:
        self._steps: deque[Step] = deque(maxlen=most)

    def add(self, step: Step) -> None:
        """Keep one more."""
        self._steps.append(step)

    def oldest(self) -> int | None:
        """Return the time that can be gone back to, epoch seconds; None if there is none."""
        return self._steps[0].before.until if self._steps else None

    def reaches(self, window: int) -> bool:
        """Whether there is a way back to before a window."""
        return bool(self._steps) and self._steps[0].before.until <= window

    def back(self, learnt: Learnt, window: int) -> Learnt:
        """Return what was learnt when a window had not been yet; later steps are forgotten."""
        packed = PackedState.of(learnt.state)
        while True:
            step = self._steps.pop()
            packed = step.way.go(packed)
            if step.before.until <= window:
                return Learnt.of(step.before, packed.state())


def _episodes(learnt: Learnt, windows: WindowRange, codes: CodeArray) -> dict[int, int]:
    """Return the start of the episode of each anomalous window, and move on."""
    found = {}
    for row in np.flatnonzero(codes).tolist():
        window = windows.start + row * WINDOW_SECONDS
        known = learnt.episode or RunningEpisode(window, window)
        learnt.episode = known.followed_by(window)
        found[window] = learnt.episode.start
    return found


def _outcome(
    block: WindowBlock, said: Detection, row: int, code: int, history: FloatArray
) -> Outcome:
    individual = said.individual
    trigger = Trigger.of_code(code)
    return Outcome(
        window=block.windows.start + row * WINDOW_SECONDS,
        # Rows of their own: one of a day's block would hold all of it.
        values=block.values[row].copy(),
        scores=Scores(
            float(said.ensemble.score[row]),
            float(said.ensemble.confidence[row]),
            float(said.cross_stream.score[row]),
            individual.score[row].copy(),
            individual.expected[row].copy(),
            individual.deviation[row].copy(),
        ),
        gap=float(said.gaps.score[row]),
        code=code,
        closed_by=ClosedBy.STORED,
        provisional=False,
        evidence=None
        if trigger is None
        else WindowEvidence.from_results(
            block,
            row,
            trigger,
            history=history,
            individual=individual,
            cross_stream=said.cross_stream,
            gaps=said.gaps,
            ensemble=said.ensemble,
        ),
    )


def _count(readings: Readings, windows: WindowRange) -> IntArray:
    number = readings.microseconds // (WINDOW_SECONDS * MICROSECONDS)
    number -= windows.start // WINDOW_SECONDS
    inside = (number >= 0) & (number < len(windows))
    return np.bincount(number[inside], minlength=len(windows))


def _count_streams(times: ReadingTimes, windows: WindowRange) -> IntArray:
    if not len(times.stream):
        return np.zeros(len(windows), dtype=np.int64)
    number = times.microseconds // (WINDOW_SECONDS * MICROSECONDS)
    number -= windows.start // WINDOW_SECONDS
    inside = (number >= 0) & (number < len(windows))
    pairs = np.unique(np.stack([number[inside], times.stream[inside]], axis=1), axis=0)
    return np.bincount(pairs[:, 0], minlength=len(windows))
