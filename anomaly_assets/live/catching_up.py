"""What the journal holds of entities in memory, and nobody has told of.

Somebody else may have stored it, and the notification be lost with a connection. The journal's
counts are held against those in memory, and only where they differ the readings are looked at. A
reading that is on its way is found, too; taken in twice it counts once.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from anomaly_assets.live.rounds import Turns
from anomaly_assets.live.verification import outdated
from anomaly_assets.storage import journal
from anomaly_assets.storage.identifiers import RejectionReason
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowRange

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from anomaly_assets.live.entity_state import EntityState
    from anomaly_assets.live.outcomes import Outcome
    from anomaly_assets.live.slots import Slot
    from anomaly_assets.storage.database import Connection, Database
    from anomaly_assets.storage.journal import JournalReadings

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_COUNTED: Final = """
SELECT r.entity_id,
       extract(epoch FROM date_bin('5 minutes', r.event_time, '1970-01-01T00:00:00Z'))::bigint,
       {what}
FROM unnest(%(entities)s::text[], %(since)s::bigint[]) AS w (entity_id, since)
JOIN {table} AS r ON r.entity_id = w.entity_id AND r.event_time >= to_timestamp(w.since)
WHERE {which} GROUP BY 1, 2
"""
_READINGS: Final = _COUNTED.format(what="count(*)", table="readings", which="NOT r.late")
_REJECTED: Final = _COUNTED.format(
    what="count(DISTINCT r.stream_id)", table="rejected_readings", which="r.reason <> %(future)s"
)

#: Number of readings and of streams with refused ones.
_Counts = tuple[int, int]


@dataclass(frozen=True)
class Missed:
    """What an entity's state has missed.

    Parameters
    ----------
    entity_id
        Whose.
    live
        The state.
    found
        The journal's readings of the windows in which some are missing; None where `outdated`.
    outdated
        Whether windows that only the journal still has in full were made of other readings.
    """

    entity_id: str
    live: EntityState
    found: JournalReadings | None = None
    outdated: bool = False

    def lacking(self) -> Iterator[tuple[str, datetime, float | None]]:
        """Yield stream, time and value (None: refused) of what the state lacks by now."""
        if self.found is None:
            return
        names = self.live.catalogue.stream_ids
        for stream, at, value in self.live.buffer.lacking(self.found.readings, self.found.rejected):
            yield names[stream], _EPOCH + timedelta(microseconds=at), value


@dataclass(frozen=True)
class _Held:
    """What is in memory of an entity: by window, since when in full, and what was said before."""

    live: EntityState
    since: int
    counts: dict[int, _Counts | None]
    said: list[Outcome]

    @classmethod
    def of(cls, live: EntityState) -> _Held:
        since = live.held_since
        before = min(since, math.inf if live.touched is None else live.touched)
        said = [
            one
            for one in live.outcomes.values()
            if one.window < before and one.stored is None and one.readings is not None
        ]
        return cls(live, since, live.buffer.counts(since), said)


async def find_missed(database: Database, slots: list[Slot]) -> list[Missed]:
    """Return what the states of these entities have missed.

    Parameters
    ----------
    database
        Where the journal is.
    slots
        The entities; those that are being restored are left out, they read the journal anyhow.
    """
    turns = Turns()
    held: dict[str, _Held] = {}
    for slot in slots:
        if slot.live is not None and slot.restoring is None:
            held[slot.entity_id] = _Held.of(slot.live)
            await turns.give()
    return await asyncio.to_thread(_compare, database, held) if held else []


def _compare(database: Database, held: Mapping[str, _Held]) -> list[Missed]:
    missed = []
    with database.connect() as connection:
        stored = _count(connection, held)
        for entity_id, own in held.items():
            counts = stored.get(entity_id, {})
            if any(counts.get(o.window, (0, 0)) != (o.readings, o.rejected) for o in own.said):
                missed += _if_outdated(database, entity_id, own)
            windows = [window for window in counts if _lacks(own, window, counts[window])]
            if windows:
                span = WindowRange(min(windows), max(windows) + WINDOW_SECONDS)
                catalogue = own.live.catalogue
                found = journal.read_readings(connection, entity_id, span, catalogue)
                missed.append(Missed(entity_id, own.live, found))
    return missed


def _lacks(own: _Held, window: int, stored: _Counts) -> bool:
    if window < own.since:
        return False
    held = own.counts.get(window, (0, 0))
    return held is not None and (stored[0] > held[0] or stored[1] > held[1])


def _if_outdated(database: Database, entity_id: str, own: _Held) -> list[Missed]:
    # Counted once more among the streams of its catalogue.
    if not outdated(database, entity_id, own.said, own.live.catalogue):
        return []
    return [Missed(entity_id, own.live, outdated=True)]


def _count(connection: Connection, held: Mapping[str, _Held]) -> dict[str, dict[int, _Counts]]:
    parameters = {
        "entities": list(held),
        "since": [min([own.since, *(o.window for o in own.said)]) for own in held.values()],
        "future": RejectionReason.FUTURE_TIME,
    }
    found: dict[str, dict[int, _Counts]] = {}
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        for entity_id, window, count in connection.execute(_READINGS, parameters):
            found.setdefault(entity_id, {})[window] = (count, 0)
        for entity_id, window, count in connection.execute(_REJECTED, parameters):
            counts = found.setdefault(entity_id, {})
            counts[window] = (counts.get(window, (0, 0))[0], count)
    return found
