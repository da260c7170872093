"""Alerts of a running deployment: results in, decisions stored, messages out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

import psycopg

from anomaly_assets.errors import AnomalyAssetsError
from anomaly_assets.live.alerts.alert import STREAMS_TOLD, Account, Alert, Message, StreamFact
from anomaly_assets.live.alerts.book import KEPT, Book
from anomaly_assets.live.alerts.delivery import Attempt, Deliverer
from anomaly_assets.live.alerts.policy import (
    Policy,
    decide,
    delivered,
    failed_attempt,
    undelivered,
)
from anomaly_assets.live.alerts.rules import Observation, Thresholds, observe, observe_batch
from anomaly_assets.live.alerts.text import Links, render
from anomaly_assets.live.alerts.withdrawals import LATE_READINGS
from anomaly_assets.live.results import ClosedBy
from anomaly_assets.storage.alerts import (
    AlertRow,
    AlertStatus,
    SnoozeRow,
    list_snoozes,
    open_and_recent_alerts,
    save_alerts,
)

if TYPE_CHECKING:
    from anomaly_assets.live.results import LiveResult
    from anomaly_assets.pipeline.deployment import Deployment, Entity

logger = logging.getLogger(__name__)

#: How long a change of the snoozes, made by another process, or the end of a wait may go unnoticed.
TICK: Final = timedelta(seconds=1)
_SNOOZES_EVERY: Final = timedelta(seconds=5)
_FORGET_EVERY: Final = timedelta(hours=1)


@dataclass
class AlertCounts:
    """What the service has counted since it started.

    Parameters
    ----------
    raised
        Alerts.
    sent, digests
        Messages that have arrived, and those of them that were digests.
    failed_attempts, undelivered
        Attempts at an address that failed, and messages that reached none.
    database_errors
        Times the database was not there; what it was needed for is tried again.
    """

    raised: int = 0
    sent: int = 0
    digests: int = 0
    failed_attempts: int = 0
    undelivered: int = 0
    database_errors: int = 0


class AlertService:
    """Tells people what is noticed, as often as they want to hear.

    What is decided is stored before it is sent, and told as sent after it has arrived: killed in
    between, the next start sends the message again. Of several instances each tells of the entities
    that it scores.

    Parameters
    ----------
    deployment
        Whose database and settings are used.
    deliverer
        Where messages go; by default to the addresses of the settings.
    policy, thresholds
        By default those of the settings.
    clock
        The present moment.
    owns
        Whether this instance scores an entity; default: it scores all. The empty name stands for
        the deployment as a whole.
    """

    def __init__(  # noqa: PLR0913 - what it works with, each with a default
        self,
        deployment: Deployment,
        *,
        deliverer: Deliverer | None = None,
        policy: Policy | None = None,
        thresholds: Thresholds | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(tz=UTC),
        owns: Callable[[str], bool] = lambda _: True,
    ) -> None:
        settings = deployment.settings
        self.counts = AlertCounts()
        self._deployment = deployment
        self._policy = policy or Policy.of(settings)
        self._thresholds = thresholds or Thresholds.of(settings)
        self._links = Links(
            settings.live_public_url and settings.live_public_url.rstrip("/"),
            pages=settings.dashboard and find_spec("jinja2") is not None,
        )
        self._deliverer = deliverer or Deliverer(
            url.get_secret_value() for url in settings.alert_targets()
        )
        self._clock = clock
        self._owns = owns
        self._book = Book()
        self._entities: dict[str, Entity] = {}
        self._snoozes: list[SnoozeRow] = []
        self._snoozes_at: datetime | None = None
        self._forgot_at = clock()
        self._unsaved: dict[str, Alert] = {}
        self._outbox: list[Message] = []
        self._travelling: set[asyncio.Task[None]] = set()
        self._storing = asyncio.Lock()
        self._news = asyncio.Event()
        self._unknown_entity = True
        #: Entities that were forgotten, and of which nothing new was heard.
        self._dropped: set[str] = set()

    async def start(self) -> None:
        """Read what is known, and send again what a kill has cut short.

        Raises
        ------
        StorageError
            If the database cannot be reached.
        """
        rows = await asyncio.to_thread(self._read)
        self._book = Book(map(Alert.of_row, rows))
        self._outbox = self._book.on_the_way()
        await self.step()

    async def reload(self) -> None:
        """Go on with the alerts of the entities that are scored here since a moment ago.

        Those of entities that another instance scores now are left to that one.

        Raises
        ------
        StorageError
            If the database cannot be reached.
        """
        rows = await asyncio.to_thread(self._read)
        kept = [one for one in self._book if one.key in self._unsaved or self._owns(one.entity_id)]
        new = [Alert.of_row(row) for row in rows if self._book.find(row.alert_key) is None]
        self._book = Book([*kept, *new])
        self._outbox += Book(new).on_the_way()
        self._unknown_entity = True
        self._news.set()

    async def run(self, results: AsyncIterator[LiveResult]) -> None:
        """Take in results until they end, deciding as they come and as time passes."""
        deciding = asyncio.create_task(self._keep_deciding())
        try:
            async for result in results:
                try:
                    self.take(result)
                except Exception:
                    # One entity's fault leaves the others' alerts alone.
                    logger.exception("no alerts from a result of %r", result.entity_id)
        finally:
            deciding.cancel()
            await asyncio.gather(deciding, return_exceptions=True)

    async def stop(self, seconds: float = 10.0) -> None:
        """Wait for what is on its way, for at most so long; the rest goes at the next start."""
        tasks = list(self._travelling)
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._store()

    def take(self, result: LiveResult) -> None:
        """Take in a result; what follows from it is sent by the next step."""
        self._dropped.discard(result.entity_id)
        entity = self._entities.get(result.entity_id)
        if entity is None:
            # Its first windows are no anomalies; by then its clock is known.
            self._unknown_entity = True
            self._news.set()
        seen = observation(result, entity)
        self._note(observe(self._book, seen, self._thresholds, self._clock()))

    def drop(self, entity_id: str) -> None:
        """Let go of all alerts about an entity that was forgotten; messages not sent yet are not.

        What is on its way still arrives, and is not recorded.
        """
        self._dropped.add(entity_id)
        self._entities.pop(entity_id, None)
        self._book.drop(entity_id)
        self._unsaved = {k: one for k, one in self._unsaved.items() if one.entity_id != entity_id}
        self._outbox = [
            message
            for message in self._outbox
            if all(alert.entity_id != entity_id for alert in message.alerts)
        ]

    def batch_took(self, seconds: float) -> None:
        """Take in how long a batch took."""
        self._note(observe_batch(self._book, seconds, self._thresholds, self._clock()))

    async def step(self) -> None:
        """Decide what is sent now, store it, and only then send it."""
        async with self._storing:
            now = self._clock()
            try:
                await self._refresh(now)
                decision = decide(self._book, self._snoozes, self._policy, now)
                self._note(decision.changed)
                self._outbox += decision.messages
                await self._save()
            except (AnomalyAssetsError, psycopg.Error) as error:
                # Nothing is sent that a restart would not know of; the next step tries again.
                self._count_away(error)
                return
            for message in self._outbox:
                task = asyncio.create_task(self._send(message))
                self._travelling.add(task)
                task.add_done_callback(self._travelling.discard)
            self._outbox = []

    async def _store(self) -> None:
        """Store what has changed, without deciding anything."""
        async with self._storing:
            try:
                await self._save()
            except (AnomalyAssetsError, psycopg.Error) as error:
                self._count_away(error)

    def _count_away(self, error: Exception) -> None:
        self.counts.database_errors += 1
        logger.warning("alerts wait for the database: %s", error)

    async def _keep_deciding(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), TICK.total_seconds())
            self._news.clear()
            try:
                await self.step()
            except Exception:
                logger.exception("alerts could not be decided on; they are tried again")

    async def _send(self, message: Message) -> None:
        def noted(attempt: Attempt) -> None:
            if attempt.error is not None:
                self.counts.failed_attempts += 1
                why = f"{attempt.address}, attempt {attempt.number}: {attempt.error}"
                self._note(failed_attempt(self._current(message), why))

        try:
            text = render(message, self._links)
            attempts = await self._deliverer.deliver(text, noted)
        except Exception:
            # One message's fault stops no other; it comes again in a digest.
            logger.exception("%s could not be sent", message.message_id)
            attempts = []
        now = self._clock()
        if any(attempt.error is None for attempt in attempts):
            self.counts.sent += 1
            self.counts.digests += message.digest
            self._note(delivered(self._current(message), now))
        else:
            self.counts.undelivered += 1
            logger.error("%s reached nobody; its alerts go into a digest", message.message_id)
            self._note(undelivered(self._current(message), now))
        await self._store()

    def _current(self, message: Message) -> Message:
        """Return a message with its alerts as they stand now: windows may have joined them."""
        alerts = (self._book.find(alert.key) or alert for alert in message.alerts)
        return Message(message.message_id, tuple(alerts), message.digest)

    def _note(self, changed: Iterable[Alert]) -> None:
        """Take changed alerts into the book, and remember to store them."""
        alerts = [one for one in changed if one.entity_id not in self._dropped]
        self.counts.raised += sum(self._book.find(alert.key) is None for alert in alerts)
        self._book.apply(alerts)
        self._unsaved.update({alert.key: alert for alert in alerts})
        if alerts:
            self._news.set()

    async def _save(self) -> None:
        unsaved = dict(self._unsaved)
        if not unsaved:
            return
        await asyncio.to_thread(self._write, list(unsaved.values()))
        for key, alert in unsaved.items():
            # It may have changed again meanwhile.
            if self._unsaved.get(key) is alert:
                del self._unsaved[key]

    async def _refresh(self, now: datetime) -> None:
        """Read anew what others may have changed, where a decision may hang on it."""
        if now - self._forgot_at > _FORGET_EVERY:
            self._forgot_at = now
            self._book.forget(now)
            self._unknown_entity = True
        if self._unknown_entity:
            await self._refresh_entities()
        waiting = self._book.open(AlertStatus.PENDING) or self._book.open(AlertStatus.HELD)
        if waiting and (self._snoozes_at is None or now - self._snoozes_at > _SNOOZES_EVERY):
            self._snoozes = await asyncio.to_thread(self._read_snoozes, now)
            self._snoozes_at = now

    async def _refresh_entities(self) -> None:
        entities = await asyncio.to_thread(self._deployment.entities)
        self._entities = {entity.entity_id: entity for entity in entities}
        self._unknown_entity = False

    def _write(self, alerts: list[Alert]) -> None:
        with self._deployment.database.connect() as connection:
            save_alerts(connection, [alert.row() for alert in alerts])

    def _read(self) -> list[AlertRow]:
        with self._deployment.database.connect() as connection:
            rows = open_and_recent_alerts(connection, self._clock() - KEPT)
        return [row for row in rows if self._owns(row.entity_id)]

    def _read_snoozes(self, now: datetime) -> list[SnoozeRow]:
        with self._deployment.database.connect() as connection:
            return list_snoozes(connection, at=now)


def observation(result: LiveResult, entity: Entity | None) -> Observation:
    """Return what alerts need to know of a result; of an unknown entity, on the clock of UTC."""
    why = result.explanation
    return Observation(
        entity_id=result.entity_id,
        time_zone="UTC" if entity is None else entity.time_zone,
        window_start=int(result.window_start.timestamp()),
        is_anomaly=result.is_anomaly,
        score=result.score,
        available=result.confidence,
        provisional=result.provisional,
        account=_standing_out(result, entity) if why is None else Account.of(why),
        explained=why is not None,
        missing=_facts(result, entity, result.missing[:STREAMS_TOLD]),
        why_not=_why_not(result),
    )


def _why_not(result: LiveResult) -> str:
    """Say why a window is no anomaly any more, if an earlier result of it was one."""
    if result.suppressed_by is not None:
        return f"the rule {result.suppressed_by!r}, made of people's judgement, covers it"
    if result.closed_by is ClosedBy.FEEDBACK:
        return "what people have judged speaks against it"
    if result.closed_by is ClosedBy.STORED:
        return "computed anew, from all readings and by the present models, it is none"
    return LATE_READINGS


def _facts(
    result: LiveResult, entity: Entity | None, names: Iterable[str]
) -> tuple[StreamFact, ...]:
    """Return value and expectation of some streams of a window."""
    streams = () if entity is None else entity.catalogue.streams
    units = {stream.id: stream.unit for stream in streams}
    return tuple(
        StreamFact(name, units.get(name, ""), one.value, one.expected)
        for name in names
        if (one := result.streams.get(name)) is not None
    )


def _standing_out(result: LiveResult, entity: Entity | None) -> Account | None:
    """Tell the streams with the highest scores, for want of an explanation."""
    if not result.is_anomaly:
        return None
    scored = [(one.score, name) for name, one in result.streams.items() if one.score is not None]
    highest = [name for _, name in sorted(scored, reverse=True)[:STREAMS_TOLD]]
    score = "unknown" if result.score is None else f"{result.score:.2f}"
    sentence = f"Anomalous, score {score}; its explanation was not ready in time."
    return Account(sentence, _facts(result, entity, highest))
