"""Messages into rows, whatever they hold: nothing here raises because of a message."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from anomaly_assets.live.bodies import LONGEST_ROW, BodyError, json_rows
from anomaly_assets.live.readings import MalformedReading, RawReading, Row

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHOWN: Final = 500
_MOST_ROWS: Final = 1_000
_NUMBER = re.compile(rb"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$")
_PARTS_OF_A_TOPIC: Final = 2


def topic_rows(topic: str, payload: bytes, prefix: str, arrived: str = "") -> list[Row]:
    """Return the readings that a message under ``entity/stream`` holds.

    Parameters
    ----------
    topic
        Where it was published.
    payload
        ``{"timestamp": ..., "value": ...}``, an array of such objects, or a number alone.
    prefix
        What every topic begins with, without the slash behind it; may be empty.
    arrived
        Time of a number alone, which has none of its own; without it such a number is refused.

    Examples
    --------
    >>> topic_rows("ann/heart_rate", b'{"timestamp": "2026-01-01T08:00:00Z", "value": 61}', "")
    [RawReading(entity_id='ann', stream_id='heart_rate', timestamp='2026-01-01T08:00:00Z',
        value=61.0)]
    """
    names = topic.removeprefix(f"{prefix}/" if prefix else "").split("/")
    if len(names) != _PARTS_OF_A_TOPIC or (prefix and not topic.startswith(f"{prefix}/")):
        return [MalformedReading(_shown(topic), "the topic is not entity/stream")]
    entity_id, stream_id = names
    if len(payload) <= LONGEST_ROW and _NUMBER.match(payload):
        return [RawReading(entity_id, stream_id, arrived, float(payload))]
    # The topic says whose it is: a payload cannot speak for another entity.
    return [
        row._replace(entity_id=entity_id, stream_id=stream_id)
        if isinstance(row, RawReading)
        else row._replace(detail=f"{row.detail} (topic {_shown(topic)})")
        for row in document_rows(payload)
    ]


def document_rows(document: bytes) -> list[Row]:
    """Return the rows of a JSON object or an array of them, as the ingest API takes them.

    What stands behind a fault in an array is refused together as one malformed row.
    """
    rows: list[Row] = []
    try:
        rows.extend(json_rows(document, limit=_MOST_ROWS))
    except BodyError as error:
        rows.append(MalformedReading(_shown(document), str(error)))
    return rows or [MalformedReading(_shown(document), "the message is empty")]


def _shown(source: str | bytes) -> str:
    head = source[:_SHOWN]
    return head.decode("utf-8", "replace") if isinstance(head, bytes) else head


def spread(groups: Sequence[Sequence[Row]]) -> tuple[list[Row], list[int]]:
    """Return the rows of several messages one after the other, and where each message begins."""
    rows: list[Row] = []
    starts: list[int] = []
    for group in groups:
        starts.append(len(rows))
        rows.extend(group)
    return rows, starts
