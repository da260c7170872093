"""Readings as they are sent, one a second, and sinks that misbehave."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from anomaly_assets.live.limits import NotStoredError
from anomaly_assets.live.readings import RawReading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anomaly_assets.live.readings import Row, RowResult
    from anomaly_assets.live.sources.source import Sink

START = datetime(2026, 1, 1, tzinfo=UTC)


def moment(number: int) -> str:
    """Return the time of a reading."""
    return (START + timedelta(seconds=number)).isoformat()


def value(number: int) -> float:
    """Return the value of a reading, another one for each of the first thousands."""
    return 60.0 + number / 100


def message(number: int, entity: str = "ann") -> tuple[str, str]:
    """Return topic and payload of a reading."""
    payload = json.dumps({"timestamp": moment(number), "value": value(number)})
    return f"{entity}/heart_rate", payload


def expected(numbers: Sequence[int], entity: str = "ann") -> list[tuple[str, str, float]]:
    """Return how the journal shows readings."""
    return [(entity, "heart_rate", value(number)) for number in numbers]


class Recorder:
    """A sink that passes rows on, or fails as it is told."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.rows: list[Row] = []
        self.attempts = 0
        self.away = False
        self.failing_entity: str | None = None

    async def __call__(self, rows: Sequence[Row]) -> Sequence[RowResult]:
        """Pass rows on, or fail."""
        self.attempts += 1
        sick = any(isinstance(r, RawReading) and r.entity_id == self.failing_entity for r in rows)
        if self.away or sick:
            msg = "away"
            raise NotStoredError(msg, 0.01)
        results = await self._sink(rows)
        self.rows += rows
        return results
