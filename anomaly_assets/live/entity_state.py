"""One entity in memory: its models, its open windows, and what was said of the closed ones.

It knows no database and no clock, and owns nothing durable: losing it costs a restore.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict, deque
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from anomaly_assets.detection.ensemble.health_aware import HealthAwareEnsemble
from anomaly_assets.detection.explanation.evidence import HISTORY_WINDOWS, WindowEvidence
from anomaly_assets.detection.explanation.triggers import SINGLE_STREAM_ABOVE, Trigger, triggers
from anomaly_assets.detection.system import Detection, DetectionState, detect
from anomaly_assets.live.first_look import RunningValues
from anomaly_assets.live.outcomes import Outcome, Scores
from anomaly_assets.live.results import ClosedBy, FirstLook
from anomaly_assets.live.windows import ReadingBuffer
from anomaly_assets.pipeline.completeness import REPORTING
from anomaly_assets.pipeline.stateless import DORMANT_AFTER
from anomaly_assets.streams.aggregation import (
    MICROSECONDS,
    MissingReason,
    Readings,
    ReadingTimes,
    aggregate,
    lookback_windows,
)
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowBlock, WindowRange, window_of

if TYPE_CHECKING:
    from anomaly_assets.live.options import PipelineOptions
    from anomaly_assets.pipeline.deployment import Entity
    from anomaly_assets.settings import Settings
    from anomaly_assets.streams.aggregation import Aggregated
    from anomaly_assets.streams.windows import BoolArray, IntArray

_DORMANT_WINDOWS = int(DORMANT_AFTER.total_seconds()) // WINDOW_SECONDS
_WINDOW = timedelta(seconds=WINDOW_SECONDS)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Arrival(Enum):
    """Where a reading belongs."""

    OPEN = "open"
    #: It is its stream's first past the end of the open window, which may be complete now.
    PASSED = "passed"
    CLOSED = "closed"


class EntityState:
    """The models of an entity as of the end of its last closed window, and the readings since.

    Parameters
    ----------
    entity
        Who, with its catalogue.
    settings, options
        How windows are closed and what is remembered.
    state
        The models; they have learnt every window before `closed_until`.
    closed_until
        Epoch seconds.
    last_report
        Window of the last reading before `closed_until`; None if there is none.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - everything an entity consists of
        self,
        entity: Entity,
        settings: Settings,
        options: PipelineOptions,
        state: DetectionState,
        closed_until: int,
        last_report: int | None,
    ) -> None:
        self.entity = entity
        self.catalogue = entity.catalogue
        self.closed_until = closed_until
        self.outcomes: OrderedDict[int, Outcome] = OrderedDict()
        self.buffer = ReadingBuffer(len(self.catalogue.streams), options.most_readings)
        #: First closed window that readings have arrived for since; None if there is none.
        self.touched: int | None = None
        self._settings = settings
        self._options = options
        self._state = state
        self._last_report = last_report
        self._ensemble = HealthAwareEnsemble(method=settings.ensemble)
        self._running = RunningValues(self.catalogue)
        self._history = np.empty((0, len(self.catalogue.streams)))
        self._history_until = closed_until
        self._checkpoints: deque[tuple[int, int | None, bytes]] = deque(maxlen=options.checkpoints)
        self._lookback = lookback_windows(self.catalogue) * WINDOW_SECONDS
        self._index = {name: index for index, name in enumerate(self.catalogue.stream_ids)}

    def index(self, stream_id: str) -> int | None:
        """Return the position of a stream; None if the catalogue has none of that name."""
        return self._index.get(stream_id)

    def add(self, stream: int, at: datetime, value: float) -> Arrival:
        """Take a reading in."""
        microseconds = (at - _EPOCH) // timedelta(microseconds=1)
        window = microseconds // (WINDOW_SECONDS * MICROSECONDS) * WINDOW_SECONDS
        if window >= self.closed_until:
            end = (self.closed_until + WINDOW_SECONDS) * MICROSECONDS
            passed = self.buffer.latest[stream] < end <= microseconds
            self.buffer.add(stream, microseconds, value)
            return Arrival.PASSED if passed else Arrival.OPEN
        self.touch(window)
        if self._checkpoint_at(window) is not None:
            # Older ones are not in the buffer in full: the journal is read for them.
            self.buffer.add(stream, microseconds, value)
        return Arrival.CLOSED

    def reject(self, stream: int, at: datetime) -> None:
        """Note that a reading was refused: a stream that is zero when silent was not silent."""
        window = int(window_of(at).timestamp())
        self.buffer.reject(stream, window * MICROSECONDS)
        if window < self.closed_until:
            self.touch(window)

    def touch(self, window: int) -> None:
        """Have a closed window, and those after it, computed again."""
        self.touched = window if self.touched is None else min(self.touched, window)

    def first_look(self, stream: int, at: datetime, value: float) -> FirstLook:
        """Score a reading of an open window; see :mod:`anomaly_assets.live.first_look`."""
        start = window_of(at)
        compared = self._running.add(int(start.timestamp()), stream, value)
        score, expected, deviation = self._running.score(self._state.individual, stream, compared)
        limit = max(SINGLE_STREAM_ABOVE, self._settings.explanation_threshold)
        return FirstLook(
            entity_id=self.entity.entity_id,
            stream_id=self.catalogue.stream_ids[stream],
            at=at,
            value=value,
            window_start=start,
            compared=compared,
            expected=expected,
            deviation=deviation,
            score=score,
            is_anomaly=score is not None and score > limit,
        )

    def due(self, now: datetime) -> list[tuple[int, ClosedBy]]:
        """Return the ends of the windows to be closed at a time, in order, each with the reason.

        As in :mod:`anomaly_assets.pipeline.completeness`, for this entity alone: complete when
        every stream that reported within the hour has a reading past the end, given up on after
        the allowed lateness; and, other than there, closed by time, to be revised if need be.
        """
        limit = int(window_of(now).timestamp())
        if self._settings.window_end is not None:
            limit = min(limit, int(window_of(self._settings.window_end).timestamp()))
        if limit <= self.closed_until:
            return []
        complete = self._complete_until(now)
        late = int(window_of(now - self._settings.allowed_lateness).timestamp())
        time = int(window_of(now - self._options.close_after).timestamp())
        found = []
        last = min(max(complete, late, time), limit)
        for end in range(self.closed_until + WINDOW_SECONDS, last + 1, WINDOW_SECONDS):
            if end <= complete:
                found.append((end, ClosedBy.COMPLETENESS))
            elif end <= late:
                found.append((end, ClosedBy.LATENESS))
            else:
                found.append((end, ClosedBy.TIME))
        return found

    def overflowed(self, end: int) -> bool:
        """Whether the windows up to `end` can only be computed from the journal."""
        return self.buffer.overflowed(WindowRange(self.closed_until - self._lookback, end))

    def close(self, end: int, closed_by: ClosedBy) -> list[Outcome]:
        """Compute the windows up to `end` from the readings held, and learn them."""
        self._checkpoint()
        windows = WindowRange(self.closed_until, end)
        known = WindowRange(windows.start - self._lookback, end)
        made = self.compute(
            windows, self.buffer.readings(known), self.buffer.rejected(windows), closed_by
        )
        self.forget()
        return made

    def compute(
        self,
        windows: WindowRange,
        readings: Readings,
        rejected: ReadingTimes,
        closed_by: ClosedBy,
        late: ReadingTimes | None = None,
    ) -> list[Outcome]:
        """Compute the next windows from readings, those of the look-back included, and learn them.

        Windows in which the entity is dormant are passed over, as the pipeline does.
        """
        aggregated = aggregate(readings, windows, self.catalogue, late=late, rejected=rejected)
        counts = _count(readings, windows)
        refused = _count_streams(rejected, windows)
        made = []
        for start, stop in self._active(aggregated):
            part = WindowBlock(
                self.entity.entity_id, self.entity.time_zone, windows, aggregated.values
            ).part(start, stop)
            outcomes = self.learn(part, closed_by)
            for number, outcome in enumerate(outcomes, start):
                outcome.readings, outcome.rejected = int(counts[number]), int(refused[number])
            made += outcomes
        self._move(windows.end)
        return made

    def learn(self, block: WindowBlock, closed_by: ClosedBy) -> list[Outcome]:
        """Score a block of the next windows, and learn it."""
        if block.windows.start != self._history_until:
            # What lies before a dormant time is not what happened just before.
            self._history = self._history[:0]
        said = detect(self._state, block, self._ensemble)
        codes = triggers(
            said.individual.score,
            said.cross_stream.score,
            said.ensemble.score,
            threshold=self._settings.explanation_threshold,
        )
        remembered = range(max(0, len(block) - self._options.remembered_windows), len(block))
        made = [self._outcome(block, said, row, int(codes[row]), closed_by) for row in remembered]
        for outcome in made:
            self.outcomes[outcome.window] = outcome
        while len(self.outcomes) > self._options.remembered_windows:
            self.outcomes.popitem(last=False)
        self.remember(block)
        self._move(block.windows.end)
        return made

    def resume_at(self, closed_until: int, last_report: int | None) -> None:
        """Go on at a later time, the windows up to which have been learnt or were dormant."""
        self.closed_until = max(self.closed_until, closed_until)
        self._last_report = last_report

    def remember(self, block: WindowBlock) -> None:
        """Keep the values of windows that the next explanations look back on."""
        self._history = np.concatenate([self._history, block.values])[-HISTORY_WINDOWS:]
        self._history_until = block.windows.end

    def revise(self) -> list[Outcome] | None:
        """Compute the windows since the first touched one again, and return those that changed.

        Returns None if no state that old is kept, or if not all readings are: the entity has to be
        restored.
        """
        if self.touched is None:
            return []
        checkpoint = self._checkpoint_at(self.touched)
        if checkpoint is None or self.overflowed(self.closed_until):
            return None
        until, self.touched = self.closed_until, None
        as_of, self._last_report, blob = checkpoint
        # Bytes that this object made itself and never handed out.
        self._state, self._history, self._history_until = pickle.loads(blob)  # noqa: S301
        self.closed_until = as_of
        while self._checkpoints and self._checkpoints[-1][0] >= as_of:
            self._checkpoints.pop()
        before = dict(self.outcomes)
        made = []
        for end in range(as_of + WINDOW_SECONDS, until + 1, WINDOW_SECONDS):
            made += self.close(end, ClosedBy.REVISION)
        return self.replacing(before, made)

    def replacing(self, before: dict[int, Outcome], made: list[Outcome]) -> list[Outcome]:
        """Mark what outcomes replace, and return those that say another thing."""
        changed = []
        for outcome in made:
            earlier = before.get(outcome.window)
            if earlier is None:
                changed.append(outcome)
                continue
            outcome.provisional = earlier.provisional
            if earlier.says_as(outcome, self.catalogue):
                outcome.closed_by, outcome.revision = earlier.closed_by, earlier.revision
                outcome.stored = earlier.stored
            else:
                outcome.closed_by, outcome.revision = ClosedBy.REVISION, earlier.revision + 1
                changed.append(outcome)
        return changed

    def keep_checkpoint(self) -> None:
        """Keep the state as it is, so that later windows can be computed again from here."""
        self._checkpoint()
        self.forget()

    def forget(self) -> None:
        """Let go of readings that nothing will be computed from any more."""
        oldest = self._checkpoints[0][0] if self._checkpoints else self.closed_until
        self.buffer.compact(oldest, keep=oldest - self._lookback)
        self._running.forget(self.closed_until)

    def _checkpoint(self) -> None:
        if self._checkpoints and self._checkpoints[-1][0] == self.closed_until:
            return
        blob = pickle.dumps((self._state, self._history, self._history_until), protocol=5)
        self._checkpoints.append((self.closed_until, self._last_report, blob))

    def _checkpoint_at(self, window: int) -> tuple[int, int | None, bytes] | None:
        older = [checkpoint for checkpoint in self._checkpoints if checkpoint[0] <= window]
        return older[-1] if older else None

    def _complete_until(self, now: datetime) -> int:
        since = (now - REPORTING - _EPOCH) // timedelta(microseconds=1)
        until = (now + self._settings.future_tolerance - _EPOCH) // timedelta(microseconds=1)
        latest = self.buffer.latest
        reporting = latest[(latest >= since) & (latest < until)]
        current = int(window_of(now).timestamp())
        if not len(reporting):
            return current
        slowest = int(reporting.min()) // (WINDOW_SECONDS * MICROSECONDS) * WINDOW_SECONDS
        return min(slowest, current)

    def _active(self, aggregated: Aggregated) -> list[tuple[int, int]]:
        """Return first and last (exclusive) number of the windows in which it is not dormant."""
        number = np.arange(len(aggregated.windows))
        stuck = aggregated.reason == MissingReason.STUCK
        reported = (np.isfinite(aggregated.values) | stuck).any(axis=1)
        start = aggregated.windows.start
        since = -_DORMANT_WINDOWS - 1
        if self._last_report is not None:
            since = (self._last_report - start) // WINDOW_SECONDS
        latest = np.maximum.accumulate(np.where(reported, number, since))
        if reported.any():
            self._last_report = start + int(latest[-1]) * WINDOW_SECONDS
        active: BoolArray = number - latest < _DORMANT_WINDOWS
        edges = np.flatnonzero(np.diff(np.concatenate([[0], active.astype(np.int8), [0]])))
        return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))

    def _move(self, end: int) -> None:
        self.closed_until = max(self.closed_until, end)

    def _outcome(
        self, block: WindowBlock, said: Detection, row: int, code: int, closed_by: ClosedBy
    ) -> Outcome:
        individual = said.individual
        trigger = Trigger.of_code(code)
        return Outcome(
            window=block.windows.start + row * WINDOW_SECONDS,
            values=block.values[row],
            scores=Scores(
                float(said.ensemble.score[row]),
                float(said.ensemble.confidence[row]),
                float(said.cross_stream.score[row]),
                individual.score[row],
                individual.expected[row],
                individual.deviation[row],
            ),
            gap=float(said.gaps.score[row]),
            code=code,
            closed_by=closed_by,
            provisional=closed_by is ClosedBy.TIME,
            evidence=None
            if trigger is None
            else WindowEvidence.from_results(
                block,
                row,
                trigger,
                history=self._history,
                individual=individual,
                cross_stream=said.cross_stream,
                gaps=said.gaps,
                ensemble=said.ensemble,
            ),
        )


def _count(readings: Readings, windows: WindowRange) -> IntArray:
    number = readings.microseconds // (WINDOW_SECONDS * MICROSECONDS) * WINDOW_SECONDS
    number = (number - windows.start) // WINDOW_SECONDS
    inside = (number >= 0) & (number < len(windows))
    return np.bincount(number[inside], minlength=len(windows))


def _count_streams(times: ReadingTimes, windows: WindowRange) -> IntArray:
    number = times.microseconds // (WINDOW_SECONDS * MICROSECONDS) * WINDOW_SECONDS
    number = (number - windows.start) // WINDOW_SECONDS
    inside = (number >= 0) & (number < len(windows))
    pairs = np.unique(np.stack([number[inside], times.stream[inside]], axis=1), axis=0)
    return np.bincount(pairs[:, 0], minlength=len(windows))
