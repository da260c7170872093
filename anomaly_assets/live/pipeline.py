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
from functools import partial
from typing import TYPE_CHECKING, Final

import psycopg

from anomaly_assets.errors import InputError
from anomaly_assets.live.broadcast import Broadcast, Subscription
from anomaly_assets.live.comparison import Comparison
from anomaly_assets.live.decisions import newest_feedback, read_feedback
from anomaly_assets.live.entity_state import Arrival
from anomaly_assets.live.explaining import Backlog, Unexplained, explain
from anomaly_assets.live.options import PipelineOptions
from anomaly_assets.live.restore import QUARANTINED_BY, restore_entity
from anomaly_assets.live.results import Difference, FirstLook, LiveCounts, LiveResult
from anomaly_assets.live.rounds import (
    TICK_SECONDS,
    Rounds,
    Turns,
    compute_ahead,
    prepared_first,
)
from anomaly_assets.live.slots import Slot, Slots, record_quarantine, reporting_entities
from anomaly_assets.streams.windows import window_of

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Awaitable, Callable, Iterable

    from anomaly_assets.live.entity_state import EntityState
    from anomaly_assets.live.outcomes import Outcome
    from anomaly_assets.live.readings import LiveReading
    from anomaly_assets.pipeline.deployment import Deployment

logger = logging.getLogger(__name__)

#: Entities restored at the same time.
_RESTORES: Final = 2
#: Every so many checks all remembered windows are looked at, not those alone that were never seen.
_FULL_CHECK: Final = 12
#: Readings of a batch after which others have their turn, scored at once and not.
_TURN_LOOKS: Final = 20
_TURN_READINGS: Final = 200


class StreamingPipeline:
    """The live path of one deployment.

    It has to be told of every reading after the journal has it, in this process: what others put
    into the journal shows only once it is stored, and is then taken over from there.

    Parameters
    ----------
    deployment
        Settings and database.
    options
        Its behaviour and the bounds of its memory.
    clock
        Tells the time, aware.
    """

    def __init__(
        self,
        deployment: Deployment,
        *,
        options: PipelineOptions | None = None,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self.options = options or PipelineOptions()
        self.counts = LiveCounts()
        #: Reason by entity that is not processed.
        self.quarantined: dict[str, str] = {}
        self._deployment = deployment
        self._clock = clock or (lambda: datetime.now(tz=UTC))
        self._slots = Slots(self.options.most_entities)
        self._broadcast = Broadcast(self.options.most_unread)
        self._backlog = Backlog(self.options.most_explanations)
        self._restores = asyncio.Semaphore(_RESTORES)
        self._rounds = Rounds(self._slots, self._clock, self.options.close_after)
        self._tasks: list[asyncio.Task[None]] = []
        self._checks = 0
        self._feedback_seen = 0
        self._comparison = Comparison(deployment, self.counts, self._tell, self._restore)
        self._stopped = False

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
        now = self._clock()
        found = await asyncio.to_thread(reporting_entities, self._deployment.database, now)
        most = self.options.most_entities
        if len(found) > most:
            logger.warning(
                "%d entities report, the live path keeps %d in memory: raise most_entities",
                len(found),
                most,
            )
        for entity_id, reported_at in found[:most]:
            slot = self._slots.open(entity_id, now)
            if slot is not None:
                slot.reported_at = reported_at
                self._restore(slot)
        await self.settled()
        if background:
            self._tasks = [
                asyncio.create_task(self._close_forever()),
                asyncio.create_task(self._prepare_forever()),
                asyncio.create_task(self._check_forever()),
                asyncio.create_task(self._explain_forever()),
            ]

    async def stop(self) -> None:
        """End everything that is under way, and every subscription."""
        self._stopped = True
        tasks = self._tasks + [s.restoring for s in self._slots.all() if s.restoring is not None]
        self._tasks = []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._broadcast.close()

    async def settled(self) -> None:
        """Wait until no entity is being restored."""
        while under_way := [s.restoring for s in self._slots.all() if s.restoring is not None]:
            await asyncio.wait(under_way)
            await asyncio.sleep(0)

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
            entity is being restored or quarantined.

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
            await self._quarantine(slot, error)
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
        return await compute_ahead(self._slots, self._clock, self.options, self._quarantine)

    async def _close(self, slots: list[Slot], moment: datetime) -> list[LiveResult]:
        told = []
        turns = Turns()
        for slot in prepared_first(slots):
            if slot.restoring is not None or (slot.retry_at and moment < slot.retry_at):
                continue
            if slot.live is None:
                self._restore(slot)
                continue
            try:
                made = self._advance(slot, slot.live, moment)
            except Exception as error:  # noqa: BLE001 - one entity's fault must not stop the others
                await self._quarantine(slot, error)
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
        await self.take_feedback()
        return await self._comparison.verify(self._slots.all(), everything=everything)

    async def take_feedback(self) -> int:
        """Decide by the newest feedback; return of how many windows something else is said now."""
        newest = await asyncio.to_thread(newest_feedback, self._deployment)
        if newest == self._feedback_seen:
            return 0
        told = 0
        for slot in self._slots.all():
            live = slot.live
            if live is None or slot.restoring is not None:
                continue
            history = await asyncio.to_thread(read_feedback, self._deployment, live.entity)
            if slot.live is live and history.versions != live.feedback.versions:
                told += len(self._tell(live, live.take_feedback(history)))
        self._feedback_seen = newest
        return told

    async def explain_waiting(self) -> int:
        """Explain the windows that wait for it now; returns how many subscribers were told of."""
        told = 0
        for what in self._backlog.take():
            told += await self._explain(what)
        return told

    def _place(self, entity_id: str, now: datetime) -> Slot | None:
        slot = self._slots.get(entity_id)
        if slot is None and not self._stopped:
            slot = self._slots.open(entity_id, now)
            if slot is not None:
                self._restore(slot)
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
                self._restore(slot)
                return []
            slot.touched_at = None
            self.counts.revised += len(revised)
            made += revised
        due = live.due(now)
        if due and live.overflowed(due[-1][0]):
            # Only the journal has all of its readings, and it is read once they are all there.
            late = window_of(now - self._deployment.settings.allowed_lateness).timestamp()
            if due[0][0] <= late:
                self._restore(slot)
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

    def _restore(self, slot: Slot) -> None:
        if slot.restoring is None and not self._stopped:
            slot.restoring = asyncio.create_task(self._restore_now(slot))

    async def _restore_now(self, slot: Slot) -> None:
        try:
            async with self._restores:
                if slot.live is not None:
                    # What it said goes on record before it is replaced.
                    await self._comparison.verify([slot], everything=False)
                slot.overrun = False
                found = await asyncio.to_thread(
                    restore_entity,
                    self._deployment,
                    slot.entity_id,
                    self.options,
                    self._clock(),
                )
            if found is None:
                self._slots.close(slot.entity_id)
                return
            self.counts.restored += 1
            self.counts.snapshots_refused += len(found.refused)
            made = slot.take_over(found, self._clock())
            revised = sum(outcome.revision > 0 for outcome in made)
            self.counts.revised += revised
            self.counts.windows += len(made) - revised
            self._tell(found.live, made)
            if found.released or slot.entity_id in self.quarantined:
                self.quarantined.pop(slot.entity_id, None)
                await asyncio.to_thread(
                    record_quarantine, self._deployment.database, slot.entity_id, None
                )
        except psycopg.OperationalError as error:
            self._database_away(error)
            slot.retry_at = self._clock() + self.options.check_every
        except Exception as error:  # noqa: BLE001 - one entity's fault must not stop the others
            await self._quarantine(slot, error)
        finally:
            slot.restoring = None

    async def _quarantine(self, slot: Slot, error: Exception) -> None:
        reason = f"{QUARANTINED_BY}{type(error).__name__}: {error}"
        slot.live = None
        slot.pending.clear()
        slot.retry_at = self._clock() + self.options.retry_every
        if self.quarantined.get(slot.entity_id) != reason:
            logger.error("entity %r is quarantined: %s", slot.entity_id, reason, exc_info=error)
        self.quarantined[slot.entity_id] = reason
        try:
            await asyncio.to_thread(
                record_quarantine, self._deployment.database, slot.entity_id, reason
            )
        except psycopg.OperationalError as away:
            self._database_away(away)

    async def _explain(self, what: Unexplained) -> bool:
        try:
            explanation = await asyncio.to_thread(explain, self._deployment, what)
        except Exception:
            self.counts.explanations_failed += 1
            logger.exception("entity %r: no explanation", what.entity.entity_id)
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

    async def _close_forever(self) -> None:
        while True:
            slots = await self._rounds.upcoming()
            await self._survive(partial(self._close, slots, self._clock()))

    async def _prepare_forever(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            await self._survive(self.prepare)

    async def _check_forever(self) -> None:
        while True:
            await asyncio.sleep(self.options.check_every.total_seconds())
            self._checks += 1
            everything = self._checks % _FULL_CHECK == 0
            await self._survive(partial(self.check, everything=everything))

    async def _explain_forever(self) -> None:
        while True:
            await self._backlog.wait(self.options.explain_every)
            await self._survive(self.explain_waiting)

    async def _survive(self, step: Callable[[], Awaitable[object]]) -> None:
        """Run one round of something that has to go on, whatever becomes of it."""
        try:
            await step()
        except psycopg.OperationalError as error:
            self._database_away(error)
        except Exception:
            logger.exception("the live path goes on after an error of its own")

    def _database_away(self, error: Exception) -> None:
        self.counts.database_errors += 1
        logger.warning("the live path waits for the database: %s", error)
