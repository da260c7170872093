"""From a reading to an answer: a first look at once, the window's result when it closes.

Nothing here is durable. Every number comes from the pure functions that the assets call, over the
same readings, so that what is said of a window is what is stored of it later; where it is not, that
is counted and shown, and the entity is restored from what is stored.

All models are touched by the event loop's thread only; the database is waited for in others.
"""

from __future__ import annotations

import asyncio
import logging
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from anomaly_assets.errors import InputError
from anomaly_assets.live.background import Background
from anomaly_assets.live.broadcast import Broadcast, Subscription
from anomaly_assets.live.catching_up import find_missed
from anomaly_assets.live.comparison import Comparison
from anomaly_assets.live.entity_state import Arrival
from anomaly_assets.live.explaining import Backlog, Unexplained, explain
from anomaly_assets.live.feedback import FeedbackTaker
from anomaly_assets.live.forgetting import gone_entities
from anomaly_assets.live.options import PipelineOptions
from anomaly_assets.live.restoring import Restorer
from anomaly_assets.live.results import Difference, FirstLook, LiveCounts, LiveResult
from anomaly_assets.live.rounds import (
    TICK_SECONDS,
    Rounds,
    Turns,
    compute_ahead,
    prepared_first,
)
from anomaly_assets.live.slots import Slot, Slots, reporting_entities
from anomaly_assets.streams.windows import window_of

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Iterable

    from anomaly_assets.live.entity_state import EntityState
    from anomaly_assets.live.outcomes import Outcome
    from anomaly_assets.live.readings import LiveReading
    from anomaly_assets.pipeline.deployment import Deployment

logger = logging.getLogger(__name__)

#: Every so many checks all remembered windows are looked at, not those alone that were never seen.
_FULL_CHECK: Final = 12
#: Readings of a batch after which others have their turn, scored at once and not.
_TURN_LOOKS: Final = 20
_TURN_READINGS: Final = 200


class StreamingPipeline:
    """The live path of one deployment.

    It is told of every reading after the journal has it: of those that come here, and of those that
    other instances say they have stored. What nobody tells of shows with :meth:`catch_up`, or once
    its window is stored, and is then taken over from there.

    Parameters
    ----------
    deployment
        Settings and database.
    options
        Its behaviour and the bounds of its memory.
    clock
        Tells the time, aware.
    owns
        Whether an entity is scored here now, and not by another instance; default: all are.
    """

    def __init__(
        self,
        deployment: Deployment,
        *,
        options: PipelineOptions | None = None,
        clock: Callable[[], datetime] | None = None,
        owns: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self.options = options or PipelineOptions()
        self.counts = LiveCounts()
        #: Told of each entity that was deleted while it was in memory.
        self.on_forgotten: list[Callable[[str], None]] = []
        self._deployment = deployment
        self._clock = clock or (lambda: datetime.now(tz=UTC))
        self._slots = Slots(self.options.most_entities)
        self._broadcast = Broadcast(self.options.most_unread)
        self._backlog = Backlog(self.options.most_explanations)
        self._rounds = Rounds(self._slots, self._clock, self.options.close_after)
        self._checks = 0
        self._owns = owns
        self._restorer = Restorer(
            deployment, self.options, self._clock, self._slots, self.counts, self._tell, owns
        )
        self._background = Background(self._restorer.database_away)
        self._comparison = Comparison(deployment, self.counts, self._tell, self._restorer.restore)
        self._feedback = FeedbackTaker(deployment, self._slots, self._tell)
        self._restorer.comparison = self._comparison
        self._restorer.forget = self._forget

    @property
    def quarantined(self) -> dict[str, str]:
        """Reason by entity that is not processed."""
        return self._restorer.quarantined

    @property
    def differences(self) -> int:
        """Windows stored with other scores than were said, for no known reason: must be 0."""
        return self.counts.differences

    @property
    def recent_differences(self) -> deque[Difference]:
        """The latest of them, score by score."""
        return self._comparison.recent

    @property
    def entities(self) -> int:
        """Number of entities in memory."""
        return len(self._slots)

    @property
    def subscribers(self) -> int:
        """Number of subscribers."""
        return len(self._broadcast)

    @property
    def waiting_explanations(self) -> int:
        """Number of windows that wait for their explanation."""
        return len(self._backlog)

    async def start(self, *, background: bool = True) -> None:
        """Restore the entities that report, and begin to close windows.

        Parameters
        ----------
        background
            Whether windows are closed, checked and explained as time goes by; otherwise that is up
            to :meth:`close_due`, :meth:`check` and :meth:`explain_waiting`.

        Raises
        ------
        DatabaseUnreachableError
            If the database is away.
        """
        await self._open_reporting()
        await self.settled()
        if background:
            self._background.start(
                (self._close_round, self._prepare_round, self._check_round, self._explain_round)
            )

    async def stop(self) -> None:
        """End everything that is under way, and every subscription."""
        await self._restorer.stop()
        await self._background.stop()
        self._broadcast.close()

    async def settled(self) -> None:
        """Wait until no entity is being restored."""
        await self._restorer.settled()

    def subscribe(self) -> Subscription:
        """Listen to results from now on: ``async for result in pipeline.subscribe()``."""
        return self._broadcast.subscribe()

    def latest(self, entity_id: str) -> LiveResult | None:
        """Return the newest result of an entity, or None."""
        slot = self._slots.get(entity_id)
        if slot is None or slot.live is None or not slot.live.outcomes:
            return None
        outcome = next(reversed(slot.live.outcomes.values()))
        return outcome.result(entity_id, slot.live.catalogue)

    async def process_stream(
        self, entity: str, stream: str, timestamp: datetime, value: float, *, look: bool = True
    ) -> FirstLook | None:
        """Take in a reading that the journal has accepted as new, and score it at once.

        Parameters
        ----------
        entity, stream, timestamp, value
            The reading.
        look
            Whether it is scored at once; without, its window is, when it closes.

        Returns
        -------
        FirstLook or None
            None where no answer can be given now: the window was closed already (it is computed
            again), the stream is none of the catalogue's, the reading lies in the future, or the
            entity is being restored, quarantined or another instance's.

        Raises
        ------
        InputError
            If the time has no zone or the value is not finite.
        """
        if timestamp.tzinfo is None or not math.isfinite(value):
            msg = (
                f"entity {entity!r}, stream {stream!r}: {value!r} at {timestamp!r}; give a finite "
                "number and an aware time, as the journal does"
            )
            raise InputError(msg)
        if not self._owns(entity):
            return None
        now = self._clock()
        slot = self._place(entity, now)
        if slot is None or timestamp >= now + self._deployment.settings.future_tolerance:
            self.counts.refused += 1
            return None
        if slot.restoring is not None:
            slot.hold(stream, timestamp, value, self.options.most_pending)
        live = slot.live
        if live is None:
            self.counts.readings += 1
            return None
        index = live.index(stream)
        if index is None:
            self.counts.refused += 1
            return None
        self.counts.readings += 1
        slot.reported_at = max(slot.reported_at, timestamp)
        try:
            return self._look(slot, live, index, timestamp, value, now, look=look)
        except Exception as error:  # noqa: BLE001 - one entity's models must not stop the others
            await self._restorer.quarantine(slot, error)
            return None

    async def process_batch(
        self, readings: Iterable[LiveReading], *, look: bool = True
    ) -> list[FirstLook | None]:
        """Take in readings that the journal has accepted as new; see :meth:`process_stream`.

        Other tasks get their turn in between, so that a large batch holds nobody up.
        """
        found = []
        for number, reading in enumerate(readings, 1):
            found.append(
                await self.process_stream(
                    reading.entity_id, reading.stream_id, reading.at, reading.value, look=look
                )
            )
            if number % (_TURN_LOOKS if look else _TURN_READINGS) == 0:
                await asyncio.sleep(0)
        return found

    def note_rejected(self, entity: str, stream: str, timestamp: datetime) -> None:
        """Learn that the journal has recorded a reading as rejected.

        A stream that counts as zero while it is silent does not in the window of a refused reading.
        Those refused for a time in the future are not to be noted.
        """
        slot = self._slots.get(entity)
        if slot is None:
            return
        if slot.restoring is not None:
            slot.hold(stream, timestamp, None, self.options.most_pending)
        if slot.live is not None:
            index = slot.live.index(stream)
            if index is not None:
                slot.live.reject(index, timestamp)
                slot.note_touch(self._clock())

    async def close_due(self, now: datetime | None = None) -> list[LiveResult]:
        """Revise what late readings have changed, and close every window that is due.

        Parameters
        ----------
        now
            The time; the clock's by default.

        Returns
        -------
        list of LiveResult
            What subscribers were told.
        """
        return await self._close(self._slots.all(), now or self._clock())

    async def prepare(self) -> int:
        """Compute windows ahead that are about to close by time; returns how many.

        Their results wait, unless readings for them arrive after all, so that many entities'
        windows can be told at the same moment.
        """
        return await compute_ahead(
            self._slots, self._clock, self.options, self._restorer.quarantine
        )

    async def _close(self, slots: list[Slot], moment: datetime) -> list[LiveResult]:
        told = []
        turns = Turns()
        for slot in prepared_first(slots):
            waiting = slot.restoring is not None or (slot.retry_at and moment < slot.retry_at)
            if waiting or not self._owns(slot.entity_id):
                continue
            if slot.live is None:
                self._restorer.restore(slot)
                continue
            try:
                made = self._advance(slot, slot.live, moment)
            except Exception as error:  # noqa: BLE001 - one entity's fault must not stop the others
                await self._restorer.quarantine(slot, error)
                continue
            told += made
            await turns.give()
        return told

    async def check(self, *, everything: bool = False) -> list[Difference]:
        """Hold what was said against what has been stored since.

        Parameters
        ----------
        everything
            Whether windows are looked at that were found as said before: they may have been
            computed again since.

        Returns
        -------
        list of Difference
            What must not happen. Differences that readings account for, which this process was not
            told of, are counted as `outdated`.
        """
        await self._drop_forgotten()
        await self.take_feedback()
        return await self._comparison.verify(self._slots.all(), everything=everything)

    async def take_feedback(self) -> int:
        """Decide by the newest feedback; return of how many windows something else is said now."""
        return await self._feedback.take()

    async def _drop_forgotten(self) -> None:
        known = {s.entity_id: s.created_at for s in self._slots.all() if s.live is not None}
        for entity_id in await asyncio.to_thread(gone_entities, self._deployment.database, known):
            slot = self._slots.get(entity_id)
            if slot is not None and slot.created_at == known[entity_id]:
                self._forget(slot)

    def _forget(self, slot: Slot) -> None:
        entity_id = slot.entity_id
        if self._slots.get(entity_id) is slot:
            self._slots.close(entity_id)
        slot.live = None
        slot.pending.clear()
        self._restorer.quarantined.pop(entity_id, None)
        self._backlog.drop(entity_id)
        self._comparison.drop(entity_id)
        for told in self.on_forgotten:
            told(entity_id)

    async def catch_up(self) -> int:
        """Take in what the journal has and nobody has told of; returns how many readings.

        Entities that report and have no place yet are restored, as after a shard was taken over.
        """
        await self._open_reporting()
        before = self.counts.caught_up
        for missed in await find_missed(self._deployment.database, self._owned()):
            slot = self._slots.get(missed.entity_id)
            if slot is None or slot.live is not missed.live:
                # Restored meanwhile, from the journal.
                continue
            if missed.outdated:
                self._restorer.restore(slot)
                continue
            for stream, at, value in missed.lacking():
                self.counts.caught_up += 1
                if value is None:
                    self.note_rejected(missed.entity_id, stream, at)
                else:
                    await self.process_stream(missed.entity_id, stream, at, value, look=False)
        return self.counts.caught_up - before

    def release(self, gone: Callable[[str], bool]) -> None:
        """Let go of entities that another instance scores now; `gone` tells which."""
        for slot in self._slots.all():
            if gone(slot.entity_id):
                if slot.restoring is not None:
                    slot.restoring.cancel()
                self._slots.close(slot.entity_id)
                self._restorer.quarantined.pop(slot.entity_id, None)

    async def explain_waiting(self) -> int:
        """Explain the windows that wait for it now; returns how many subscribers were told of."""
        told = 0
        for what in self._backlog.take():
            told += await self._explain(what)
        return told

    def _owned(self) -> list[Slot]:
        return [slot for slot in self._slots.all() if self._owns(slot.entity_id)]

    async def _open_reporting(self) -> None:
        """Restore the entities that report and have no place yet, as far as there is room."""
        now = self._clock()
        found = await asyncio.to_thread(reporting_entities, self._deployment.database, now)
        own = [one for one in found if self._owns(one[0])]
        new = [one for one in own if self._slots.get(one[0]) is None]
        room = max(0, self.options.most_entities - len(self._slots))
        if len(new) > room:
            logger.warning(
                "%d entities report, the live path keeps %d in memory: raise most_entities",
                len(own),
                self.options.most_entities,
            )
        for entity_id, reported_at in new[:room]:
            slot = self._slots.open(entity_id, now)
            if slot is not None:
                slot.reported_at = reported_at
                self._restorer.restore(slot)

    def _place(self, entity_id: str, now: datetime) -> Slot | None:
        slot = self._slots.get(entity_id)
        if slot is None and not self._restorer.stopped:
            slot = self._slots.open(entity_id, now)
            if slot is not None:
                self._restorer.restore(slot)
        if slot is not None and slot.live is None and slot.restoring is None:
            return None
        return slot

    def _look(  # noqa: PLR0913, PLR0917 - a reading and where it belongs
        self,
        slot: Slot,
        live: EntityState,
        index: int,
        at: datetime,
        value: float,
        now: datetime,
        *,
        look: bool,
    ) -> FirstLook | None:
        arrival = live.add(index, at, value)
        if arrival is Arrival.CLOSED:
            self.counts.late += 1
            slot.note_touch(now)
            return None
        if arrival is Arrival.PASSED:
            self._rounds.wake(slot)
        if not look:
            live.follow(index, at, value)
            return None
        self.counts.first_looks += 1
        return live.first_look(index, at, value)

    def _advance(self, slot: Slot, live: EntityState, now: datetime) -> list[LiveResult]:
        made: list[Outcome] = []
        gathered = slot.touched_at is None or now - slot.touched_at >= self.options.revise_after
        if live.touched is not None and gathered:
            revised = live.revise()
            if revised is None:
                self._restorer.restore(slot)
                return []
            slot.touched_at = None
            self.counts.revised += len(revised)
            made += revised
        due = live.due(now)
        if due and live.overflowed(due[-1][0]):
            # Only the journal has all of its readings, and it is read once they are all there.
            late = window_of(now - self._deployment.settings.allowed_lateness).timestamp()
            if due[0][0] <= late:
                self._restorer.restore(slot)
            return self._tell(live, made)
        for end, closed_by in due:
            closed = live.close(end, closed_by)
            self.counts.windows += len(closed)
            made += closed
        return self._tell(live, made)

    def _tell(self, live: EntityState, made: list[Outcome]) -> list[LiveResult]:
        entity = live.entity
        told = [outcome.result(entity.entity_id, live.catalogue) for outcome in made]
        self.counts.subscribers_dropped += self._broadcast.publish(told)
        above = self.options.explain_above
        for outcome in made:
            if outcome.evidence is not None and (above is None or outcome.evidence.score > above):
                what = Unexplained(entity, outcome.window, outcome.revision, outcome.evidence)
                self.counts.explanations_dropped += self._backlog.put(what)
        return told

    async def _explain(self, what: Unexplained) -> bool:
        try:
            explanation = await asyncio.to_thread(explain, self._deployment, what)
        except Exception:
            self.counts.explanations_failed += 1
            who = what.entity.entity_id
            logger.exception("entity %r: no explanation", who, extra={"entity": who})
            return False
        self.counts.explained += 1
        slot = self._slots.get(what.entity.entity_id)
        live = None if slot is None else slot.live
        outcome = None if live is None else live.outcomes.get(what.window)
        if live is None or outcome is None or outcome.revision != what.revision:
            return False
        told = outcome.result(what.entity.entity_id, live.catalogue, explanation)
        self.counts.subscribers_dropped += self._broadcast.publish([told])
        return True

    async def _close_round(self) -> None:
        slots = await self._rounds.upcoming()
        await self._close(slots, self._clock())

    async def _prepare_round(self) -> None:
        await asyncio.sleep(TICK_SECONDS)
        await self.prepare()

    async def _check_round(self) -> None:
        await asyncio.sleep(self.options.check_every.total_seconds())
        self._checks += 1
        await self.check(everything=self._checks % _FULL_CHECK == 0)

    async def _explain_round(self) -> None:
        await self._backlog.wait(self.options.explain_every)
        await self.explain_waiting()
