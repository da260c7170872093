"""One entity in memory: its models, its open windows, and what was said of the closed ones.

It knows no database and no clock, and owns nothing durable: losing it costs a restore.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from anomaly_assets.detection.explanation.triggers import SINGLE_STREAM_ABOVE
from anomaly_assets.detection.packing import PackedState, WayBack
from anomaly_assets.live.first_look import RunningValues
from anomaly_assets.live.models import Learnt, Past, Scorer, Step
from anomaly_assets.live.results import ClosedBy, FirstLook
from anomaly_assets.live.windows import ReadingBuffer
from anomaly_assets.pipeline.completeness import REPORTING
from anomaly_assets.streams.aggregation import MICROSECONDS, lookback_windows
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowRange, window_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anomaly_assets.detection.system import DetectionState
    from anomaly_assets.live.models import RunningEpisode
    from anomaly_assets.live.options import PipelineOptions
    from anomaly_assets.live.outcomes import Outcome
    from anomaly_assets.pipeline.deployment import Entity
    from anomaly_assets.pipeline.in_force import FeedbackHistory
    from anomaly_assets.settings import Settings
    from anomaly_assets.streams.aggregation import Readings, ReadingTimes
    from anomaly_assets.streams.windows import FloatArray, WindowBlock

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Arrival(Enum):
    """Where a reading belongs."""

    OPEN = "open"
    #: It is its stream's first past the end of the open window, which may be complete now.
    PASSED = "passed"
    CLOSED = "closed"


@dataclass(frozen=True)
class _Ahead:
    """A window computed before it closes."""

    end: int
    learnt: Learnt
    made: list[Outcome]
    step: Step


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
        self.outcomes: OrderedDict[int, Outcome] = OrderedDict()
        self.buffer = ReadingBuffer(len(self.catalogue.streams), options.most_readings)
        #: What an earlier state said of windows that are still open in this one, by window.
        self.earlier: dict[int, Outcome] = {}
        #: First closed window that readings have arrived for since; None if there is none.
        self.touched: int | None = None
        #: The last action on the models that the state knows of.
        self.last_change = 0
        self._settings = settings
        self._options = options
        self._learnt = Learnt(
            state=state,
            until=closed_until,
            last_report=last_report,
            history=np.empty((0, len(self.catalogue.streams))),
            history_until=closed_until,
        )
        self._scorer = Scorer(entity, settings, options.remembered_windows)
        self._past = Past(options.checkpoints)
        self._running = RunningValues(self.catalogue)
        #: The open window computed before it closes, and the end it was tried for so many times.
        self._ahead: _Ahead | None = None
        self._tried = (0, 0)
        self._lookback = lookback_windows(self.catalogue) * WINDOW_SECONDS
        self._index = {name: index for index, name in enumerate(self.catalogue.stream_ids)}

    @property
    def closed_until(self) -> int:
        """End of the last closed window, epoch seconds."""
        return self._learnt.until

    def index(self, stream_id: str) -> int | None:
        """Return the position of a stream; None if the catalogue has none of that name."""
        return self._index.get(stream_id)

    def add(self, stream: int, at: datetime, value: float) -> Arrival:
        """Take a reading in."""
        microseconds = (at - _EPOCH) // timedelta(microseconds=1)
        window = microseconds // (WINDOW_SECONDS * MICROSECONDS) * WINDOW_SECONDS
        self._outdate(window)
        if window >= self.closed_until:
            end = (self.closed_until + WINDOW_SECONDS) * MICROSECONDS
            passed = self.buffer.latest[stream] < end <= microseconds
            self.buffer.add(stream, microseconds, value)
            return Arrival.PASSED if passed else Arrival.OPEN
        self.touch(window)
        if self._past.reaches(window):
            # Older ones are not in the buffer in full: the journal is read for them.
            self.buffer.add(stream, microseconds, value)
        return Arrival.CLOSED

    def reject(self, stream: int, at: datetime) -> None:
        """Note that a reading was refused: a stream that is zero when silent was not silent."""
        window = int(window_of(at).timestamp())
        self._outdate(window)
        self.buffer.reject(stream, window * MICROSECONDS)
        if window < self.closed_until:
            self.touch(window)

    def touch(self, window: int) -> None:
        """Have a closed window, and those after it, computed again."""
        self._ahead = None
        self.touched = window if self.touched is None else min(self.touched, window)

    def _outdate(self, window: int) -> None:
        if self._ahead is not None and window < self._ahead.end:
            self._ahead = None

    def follow(self, stream: int, at: datetime, value: float) -> float:
        """Add a reading to what its open window has come to, which is returned."""
        return self._running.add(int(window_of(at).timestamp()), stream, value)

    def first_look(self, stream: int, at: datetime, value: float) -> FirstLook:
        """Score a reading of an open window; see :mod:`anomaly_assets.live.first_look`."""
        start = window_of(at)
        compared = self.follow(stream, at, value)
        score, expected, deviation = self._running.score(
            self._learnt.state.individual, stream, compared
        )
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

    @property
    def held_since(self) -> int:
        """Start of the first window whose readings are all in the buffer, epoch seconds."""
        oldest = self._past.oldest()
        return self.closed_until if oldest is None else oldest

    @property
    def prepared(self) -> bool:
        """Whether the open window's result is there already."""
        return self._ahead is not None

    def prepare(self, now: datetime) -> bool:
        """Compute the open window ahead, if it is about to be closed by time.

        Its result is then there when the window closes, unless readings for it arrive meanwhile;
        nothing shows before. In that case it is tried again in half of the time.

        Parameters
        ----------
        now
            The time.

        Returns
        -------
        bool
            Whether it was computed now.
        """
        end = self.closed_until + WINDOW_SECONDS
        left = end + self._options.close_after.total_seconds() - now.timestamp()
        tried, times = self._tried
        limit = self._options.prepare_before.total_seconds() / (2**times if tried == end else 1)
        if not 0.0 < left <= limit or now.timestamp() < end or self._ahead is not None:
            return False
        ends_before = self._settings.window_end
        if ends_before is not None and end > ends_before.timestamp():
            return False
        if self.touched is not None or self.overflowed(end):
            return False
        self._tried = (end, times + 1 if tried == end else 1)
        packed = PackedState.of(self._learnt.state)
        learnt = Learnt.of(self._learnt.known(), packed.state())
        made, step = self._compute(learnt, packed, end, ClosedBy.TIME)
        self._ahead = _Ahead(end, learnt, made, step)
        return True

    def close(self, end: int, closed_by: ClosedBy) -> list[Outcome]:
        """Compute the windows up to `end` from the readings held, and learn them.

        Returned are those that say something new.
        """
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead.end == end:
            self._learnt, made, step = ahead.learnt, ahead.made, ahead.step
            for outcome in made:
                outcome.closed_by = closed_by
                outcome.provisional = closed_by is ClosedBy.TIME
        else:
            packed = PackedState.of(self._learnt.state)
            made, step = self._compute(self._learnt, packed, end, closed_by)
        self._past.add(step)
        self._record(made)
        self.forget()
        before = {o.window: self.earlier.pop(o.window) for o in made if o.window in self.earlier}
        return self.replacing(before, made) if before else made

    def _compute(
        self, learnt: Learnt, packed: PackedState, end: int, closed_by: ClosedBy
    ) -> tuple[list[Outcome], Step]:
        before = learnt.known()
        windows = WindowRange(before.until, end)
        readings = self.buffer.readings(WindowRange(before.until - self._lookback, end))
        rejected = self.buffer.rejected(windows)
        made = self._scorer.compute(learnt, windows, readings, rejected, closed_by)
        way = WayBack.between(packed, PackedState.of(learnt.state))
        return made, Step(before, way)

    def compute(
        self,
        windows: WindowRange,
        readings: Readings,
        rejected: ReadingTimes,
        closed_by: ClosedBy,
        late: ReadingTimes | None = None,
    ) -> list[Outcome]:
        """Compute the next windows from given readings, those of the look-back included.

        There is no way back to before them.
        """
        made = self._scorer.compute(self._learnt, windows, readings, rejected, closed_by, late)
        return self._record(made)

    def learn(self, block: WindowBlock, closed_by: ClosedBy) -> list[Outcome]:
        """Score a block of the next windows, and learn it; there is no way back to before it."""
        return self._record(self._scorer.learn(self._learnt, block, closed_by))

    def resume_at(self, closed_until: int, last_report: int | None) -> None:
        """Go on at a later time, the windows up to which have been learnt or were dormant."""
        self._learnt.until = max(self.closed_until, closed_until)
        self._learnt.last_report = last_report

    def recall(
        self,
        block: WindowBlock | None,
        episode: RunningEpisode | None,
        scores: FloatArray | None = None,
    ) -> None:
        """Know what came before the first window that is learnt."""
        if block is not None:
            self._learnt.remember(block)
        self._learnt.episode = episode
        self._learnt.scores = scores

    @property
    def feedback(self) -> FeedbackHistory:
        """The versions of feedback that are known here."""
        return self._scorer.decider.history

    def take_feedback(self, history: FeedbackHistory) -> list[Outcome]:
        """Decide by other versions from now on; return outcomes of which that changes something."""
        self._scorer.decider.history = history
        self._ahead = None
        changed = self._scorer.decider.decide_again(self.outcomes.values())
        for outcome in changed:
            self.outcomes[outcome.window] = outcome
        return changed

    def revise(self) -> list[Outcome] | None:
        """Compute the windows since the first touched one again, and return those that changed.

        Returns None if no state that old is kept, or if not all readings are: the entity has to be
        restored.
        """
        if self.touched is None:
            return []
        if not self._past.reaches(self.touched) or self.overflowed(self.closed_until):
            return None
        until = self.closed_until
        self._learnt = self._past.back(self._learnt, self.touched)
        self.touched = None
        before = dict(self.outcomes)
        made = []
        for end in range(self.closed_until + WINDOW_SECONDS, until + 1, WINDOW_SECONDS):
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
                only_decided = earlier.scored_as(outcome, self.catalogue)
                outcome.closed_by = ClosedBy.FEEDBACK if only_decided else ClosedBy.REVISION
                outcome.revision = earlier.revision + 1
                changed.append(outcome)
        return changed

    def remember(self, said: Iterable[Outcome]) -> None:
        """Keep what an earlier state said of windows that this one has not computed itself.

        They may be stored otherwise than they were said, and were not compared yet.
        """
        own = {o.window: o for o in said if o.window < self.closed_until} | self.outcomes
        kept = sorted(own)[-self._options.remembered_windows :]
        self.outcomes = OrderedDict((window, own[window]) for window in kept)

    def forget(self) -> None:
        """Let go of readings that nothing will be computed from any more."""
        oldest = self.held_since
        self.buffer.compact(oldest, keep=oldest - self._lookback)
        self._running.forget(self.closed_until)

    def _record(self, made: list[Outcome]) -> list[Outcome]:
        for outcome in made:
            self.outcomes[outcome.window] = outcome
        while len(self.outcomes) > self._options.remembered_windows:
            self.outcomes.popitem(last=False)
        return made

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
