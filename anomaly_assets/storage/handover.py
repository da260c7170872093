"""Readings that one instance has stored and another one scores: how the other one is told.

The telling is PostgreSQL's own: ``NOTIFY`` in the transaction that stores the readings, so that it
goes out if and only if they are stored. It names who and when, not the readings; these are read
from the journal, which stamps those of one commit with one moment.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from anomaly_assets.storage.identifiers import RejectionReason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from anomaly_assets.storage.database import Connection

CHANNEL: Final = "anomaly_assets_readings"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: A payload has less than 8,000 bytes.
_MOST_BYTES: Final = 7_000
_FIELDS: Final = 5


class StoredReading(NamedTuple):
    """A reading of the journal.

    Parameters
    ----------
    entity_id, stream_id
        Whose, and of which stream.
    at
        Event time, aware.
    value
        The measurement; None of one that was refused.
    """

    entity_id: str
    stream_id: str
    at: datetime
    value: float | None


@dataclass(frozen=True)
class Handover:
    """Readings of one commit, as others are told of them.

    Parameters
    ----------
    received_at
        The moment that the journal has stamped them with.
    first, last
        Event times of the earliest and of the latest of them.
    refused
        Whether some were refused.
    entities
        Whose they are.
    """

    received_at: datetime
    first: datetime
    last: datetime
    refused: bool
    entities: tuple[str, ...]

    def encode(self) -> str:
        """Return it as the payload of a notification."""
        times = [(at - _EPOCH) // _MICROSECOND for at in (self.received_at, self.first, self.last)]
        return _json([*times, self.refused, list(self.entities)])

    @classmethod
    def decode(cls, payload: str) -> Self | None:
        """Read it back; None if it is anything else, such as of another version.

        Examples
        --------
        >>> Handover.decode("hello") is None
        True
        """
        try:
            found = json.loads(payload)
            received_at, first, last, refused, entities = found
            stamp, start, end = (
                _EPOCH + timedelta(microseconds=at) for at in (received_at, first, last)
            )
        except (ValueError, TypeError, OverflowError):
            return None
        if not (isinstance(refused, bool) and isinstance(entities, list) and len(found) == _FIELDS):
            return None
        return cls(stamp, start, end, refused, tuple(map(str, entities)))


_MICROSECOND: Final = timedelta(microseconds=1)


def handovers(
    received_at: datetime,
    stored: Mapping[str, Iterable[datetime]],
    refused: Mapping[str, Iterable[datetime]],
) -> list[Handover]:
    """Return what others are to be told of a commit, in parts that fit into a notification.

    Parameters
    ----------
    received_at
        The moment that the journal has stamped it with.
    stored, refused
        Event times of stored and of refused readings, by entity.
    """
    spans: dict[str, tuple[datetime, datetime]] = {}
    for name in sorted({*stored, *refused}):
        times = [*stored.get(name, ()), *refused.get(name, ())]
        if times:
            spans[name] = (min(times), max(times))
    made = []
    for part in _parts(list(spans)):
        first = min(spans[name][0] for name in part)
        last = max(spans[name][1] for name in part)
        turned_away = any(name in refused for name in part)
        made.append(Handover(received_at, first, last, turned_away, tuple(part)))
    return made


def notify(connection: Connection, told: Sequence[Handover]) -> None:
    """Tell everybody who listens, once the transaction of the caller is durable."""
    if told:
        connection.execute(
            "SELECT pg_notify(%s, payload) FROM unnest(%s::text[]) AS payload",
            (CHANNEL, [one.encode() for one in told]),
        )


def read_handed_over(
    connection: Connection, told: Sequence[Handover], entities: Sequence[str]
) -> list[StoredReading]:
    """Return the readings that notifications were about, in the order of their event times.

    Parameters
    ----------
    connection
        A connection to the database.
    told
        The notifications.
    entities
        Whose readings are wanted.
    """
    if not told or not entities:
        return []
    parameters: dict[str, Any] = {
        "entities": list(entities),
        "received": [one.received_at for one in told],
        "first": min(one.first for one in told),
        "last": max(one.last for one in told),
        "future": RejectionReason.FUTURE_TIME,
    }
    rows = connection.execute(
        "SELECT entity_id, stream_id, event_time, value FROM readings "
        "WHERE entity_id = ANY(%(entities)s) AND event_time BETWEEN %(first)s AND %(last)s "
        "AND received_at = ANY(%(received)s) AND NOT late ORDER BY event_time",
        parameters,
    ).fetchall()
    if any(one.refused for one in told):
        rows += connection.execute(
            "SELECT DISTINCT entity_id, stream_id, event_time, NULL::float8 FROM rejected_readings "
            "WHERE entity_id = ANY(%(entities)s) AND event_time BETWEEN %(first)s AND %(last)s "
            # A wrong clock says nothing about the window it names.
            "AND reason <> %(future)s",
            parameters,
        ).fetchall()
    return [StoredReading(*row) for row in rows]


def _parts(names: list[str]) -> Iterable[list[str]]:
    part: list[str] = []
    size = 0
    for name in names:
        needs = len(_json(name).encode()) + 1
        if part and size + needs > _MOST_BYTES:
            yield part
            part, size = [], 0
        part.append(name)
        size += needs
    if part:
        yield part


def _json(document: object) -> str:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)
