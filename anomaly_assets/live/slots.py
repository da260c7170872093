"""The place of each entity in the pipeline, whether it is there yet or not."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from anomaly_assets.live.restore import QUARANTINED_BY
from anomaly_assets.pipeline.stateless import DORMANT_AFTER
from anomaly_assets.storage.entities import find_entity, list_entities, quarantine
from anomaly_assets.streams.windows import WINDOW_SECONDS

if TYPE_CHECKING:
    import asyncio

    from anomaly_assets.live.entity_state import EntityState
    from anomaly_assets.live.outcomes import Outcome
    from anomaly_assets.live.restore import RestoredEntity
    from anomaly_assets.storage.database import Database

#: An entity that reported within this time is not given up for another one.
_BUSY = timedelta(hours=1)
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class Slot:
    """One entity's place.

    Parameters
    ----------
    entity_id
        Whose.
    live
        Its state; None while it is being restored for the first time, or quarantined.
    restoring
        The restore under way.
    pending
        Stream, time and value (None: refused) of what arrived meanwhile.
    overrun
        Whether more arrived than is held.
    reported_at
        Time of its newest reading.
    touched_at
        When the first reading for a closed window arrived since the last revision.
    retry_at
        Not to be restored before.
    created_at
        When the entity was made whose state is here.
    """

    entity_id: str
    live: EntityState | None = None
    restoring: asyncio.Task[None] | None = None
    pending: list[tuple[str, datetime, float | None]] = field(default_factory=list)
    overrun: bool = False
    reported_at: datetime = _NEVER
    touched_at: datetime | None = None
    retry_at: datetime | None = None
    created_at: datetime | None = None

    def hold(self, stream_id: str, at: datetime, value: float | None, most: int) -> None:
        """Keep what arrives while the entity is being restored."""
        if len(self.pending) >= most:
            self.overrun = True
        else:
            self.pending.append((stream_id, at, value))

    def note_touch(self, now: datetime) -> None:
        """Note since when readings for closed windows are gathered."""
        touched = self.live is not None and self.live.touched is not None
        if touched and self.touched_at is None:
            self.touched_at = now

    def take_over(self, found: RestoredEntity, now: datetime) -> list[Outcome]:
        """Go on with a restored state; return what it says anew, or otherwise than was said."""
        live, made = found.live, found.unstored
        if self.live is not None:
            earlier = dict(self.live.outcomes)
            # Windows that were closed by time, and are young enough to be open again.
            live.earlier = {
                window: outcome
                for window, outcome in (self.live.earlier | earlier).items()
                if window >= live.closed_until
            }
            new = {outcome.window for outcome in made}
            made = [
                outcome
                for outcome in live.replacing(earlier, list(live.outcomes.values()))
                if outcome.window in earlier or outcome.window in new
            ]
            live.remember(earlier.values())
        self.created_at = found.created_at
        self._take_in(live, now)
        return made

    def _take_in(self, live: EntityState, now: datetime) -> None:
        for stream_id, at, value in self.pending:
            index = live.index(stream_id)
            if index is not None and value is None:
                live.reject(index, at)
            elif index is not None and value is not None:
                live.add(index, at, value)
        self.pending.clear()
        self.live, self.retry_at = live, None
        if self.overrun:
            # Some of what arrived is in the journal only: restored once more.
            live.touch(live.closed_until - WINDOW_SECONDS)
        self.touched_at = None if live.touched is None else now


class Slots:
    """The places there are, `most` of them.

    Parameters
    ----------
    most
        Entities kept in memory.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._slots: dict[str, Slot] = {}

    def __len__(self) -> int:
        """Return how many are taken."""
        return len(self._slots)

    def all(self) -> list[Slot]:
        """Return them all."""
        return list(self._slots.values())

    def get(self, entity_id: str) -> Slot | None:
        """Return an entity's place, or None."""
        return self._slots.get(entity_id)

    def open(self, entity_id: str, now: datetime) -> Slot | None:
        """Make a place for an entity; None if all are taken by entities that are reporting."""
        if len(self._slots) >= self._most:
            idle = [slot for slot in self._slots.values() if slot.restoring is None]
            oldest = min(idle, key=lambda slot: slot.reported_at, default=None)
            if oldest is None or oldest.reported_at > now - _BUSY:
                return None
            self.close(oldest.entity_id)
        slot = self._slots[entity_id] = Slot(entity_id)
        return slot

    def close(self, entity_id: str) -> None:
        """Give an entity's place up."""
        self._slots.pop(entity_id, None)


def reporting_entities(database: Database, now: datetime) -> list[tuple[str, datetime]]:
    """Return the entities that are not dormant and when they last reported, newest first."""
    with database.connect() as connection:
        rows = list_entities(connection)
    found = [
        (row.entity_id, row.last_reading_at)
        for row in rows
        if row.last_reading_at is not None and row.last_reading_at > now - DORMANT_AFTER
    ]
    return sorted(found, key=lambda pair: (pair[1], pair[0]), reverse=True)


def record_quarantine(database: Database, entity_id: str, reason: str | None) -> None:
    """Store that an entity is quarantined, or is not any more, unless somebody else has a say."""
    with database.connect() as connection:
        row = find_entity(connection, entity_id)
        if row is None:
            return
        known = row.quarantined_reason
        if (known is None or known.startswith(QUARANTINED_BY)) and known != reason:
            quarantine(connection, entity_id, reason)
