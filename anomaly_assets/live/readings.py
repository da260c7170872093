"""Readings on their way into the journal, and what became of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

#: A row's reason when its entity cannot be watched at the moment (its catalogue is unusable).
ENTITY_UNAVAILABLE = "entity_unavailable"


@dataclass(frozen=True, slots=True)
class LiveReading:
    """One measurement.

    Parameters
    ----------
    entity_id, stream_id
        Whose, and of which stream.
    at
        Event time, aware.
    value
        The measurement.
    """

    entity_id: str
    stream_id: str
    at: datetime
    value: float


class RawReading(NamedTuple):
    """One measurement as it was sent, not looked at yet.

    Parameters
    ----------
    entity_id, stream_id, timestamp
        As sent; empty where there was none.
    value
        A number, the text that stood in its place, or None.
    """

    entity_id: str
    stream_id: str
    timestamp: str
    value: float | str | None


class MalformedReading(NamedTuple):
    """A row that is no reading at all.

    Parameters
    ----------
    text
        The row as it was sent, possibly cut.
    detail
        What is wrong with it.
    """

    text: str
    detail: str


Row = RawReading | MalformedReading


@dataclass(frozen=True, slots=True)
class RowResult:
    """What became of one row.

    Parameters
    ----------
    accepted
        Whether the reading is durable in the journal: newly, or since before.
    duplicate
        Whether it was there before, or earlier in the same batch; the first value stays.
    reason
        Why it was refused; None if it was not.
    detail
        The same for people.
    """

    accepted: bool
    duplicate: bool = False
    reason: str | None = None
    detail: str = ""


ACCEPTED = RowResult(accepted=True)
DUPLICATE = RowResult(accepted=True, duplicate=True)


class RefusedReading(NamedTuple):
    """A refused reading that tells something of its window: that its stream was not silent.

    Parameters
    ----------
    entity_id, stream_id
        Whose, and of which stream.
    at
        Event time, aware.
    """

    entity_id: str
    stream_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of a batch.

    Parameters
    ----------
    results
        A result for each row, in order.
    fresh
        The readings that were new, in order.
    refused
        The refused ones whose window and stream are known.
    """

    results: list[RowResult]
    fresh: list[LiveReading]
    refused: list[RefusedReading]


def raw(reading: LiveReading) -> RawReading:
    """Return a reading as it would be sent."""
    return RawReading(
        reading.entity_id, reading.stream_id, reading.at.isoformat(), float(reading.value)
    )
