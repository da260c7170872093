"""A streaming pipeline that is fed as the journal is, at the times of the readings."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from anomaly_assets.evaluation.simulator import simulate
from anomaly_assets.live.options import PipelineOptions
from anomaly_assets.live.pipeline import StreamingPipeline
from anomaly_assets.storage import journal
from anomaly_assets.storage.entities import ensure_entity
from anomaly_assets.streams.aggregation import Readings
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets_tests.pipeline.people import START, run
from anomaly_assets_tests.pipeline.support import deployment_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anomaly_assets.evaluation.simulator import Fault
    from anomaly_assets.live.results import FirstLook, LiveResult
    from anomaly_assets.pipeline.deployment import Deployment
    from anomaly_assets.storage.database import Database
    from anomaly_assets.streams.windows import WindowRange

CATALOGUE = load_catalogue("default")
MINUTES = timedelta(minutes=1)


@dataclass(frozen=True, order=True)
class Sent:
    """A reading, in the order in which it is sent."""

    sent_at: datetime
    entity_id: str
    stream_id: str
    at: datetime
    value: float


def people_sending(
    people: Sequence[str], windows: WindowRange, *, faults: Sequence[Fault] = ()
) -> list[Sent]:
    """Return the readings of simulated people, each sent when it is made."""
    frame = simulate(3, people, start=windows.start_time, days=1, faults=list(faults)).readings
    frame = frame[frame["timestamp"] < windows.end_time]
    sent = []
    for at, entity_id, stream_id, value in zip(
        frame["timestamp"].dt.to_pydatetime(),
        frame["entity_id"].astype(str),
        frame["stream_id"].astype(str),
        frame["value"].tolist(),
        strict=True,
    ):
        sent.append(Sent(at, entity_id, stream_id, at, value))
    return sorted(sent)


@dataclass
class Clock:
    """A clock that is set."""

    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        """Tell the time."""
        return self.now


@dataclass
class Following:
    """A database, a clock, and a pipeline over them that can be stopped and started again."""

    database: Database
    home: Path
    options: PipelineOptions = field(default_factory=PipelineOptions)
    clock: Clock = field(default_factory=lambda: Clock(START))
    told: list[LiveResult] = field(default_factory=list)
    looks: list[FirstLook] = field(default_factory=list)
    prepared: int = 0
    pipeline: StreamingPipeline = field(init=False)

    def deployment(self) -> Deployment:
        """Return a deployment as a process of its own has it."""
        return deployment_of(self.database, self.home)

    async def start(self) -> None:
        """Begin with nothing in memory."""
        self.pipeline = StreamingPipeline(self.deployment(), options=self.options, clock=self.clock)
        await self.pipeline.start(background=False)

    async def send(self, sent: Sequence[Sent], *, until: datetime | None = None) -> None:
        """Have readings arrive in order, closing windows and resolving restores on the way."""
        for minute in _by_minute(sent):
            self.clock.now = max(self.clock.now, minute[-1].sent_at)
            fresh = append(self.database, minute)
            for reading in fresh:
                look = await self.pipeline.process_stream(
                    reading.entity_id, reading.stream_id, reading.at, reading.value
                )
                if look is not None:
                    self.looks.append(look)
            await self.tick()
        if until is not None:
            await self.wait(until)

    async def wait(self, until: datetime) -> None:
        """Let time pass."""
        while self.clock.now < until:
            self.clock.now = min(self.clock.now + 5 * MINUTES, until)
            await self.tick()

    async def tick(self) -> None:
        """Do what is due now."""
        await self.pipeline.settled()
        self.prepared += await self.pipeline.prepare()
        self.told += await self.pipeline.close_due()
        await self.pipeline.settled()

    def run(self, windows: WindowRange) -> None:
        """Take windows through the durable pipeline."""
        run(self.deployment(), windows)


def append(database: Database, sent: Sequence[Sent]) -> list[Sent]:
    """Put readings into the journal one after the other, and return those that were new."""
    fresh = []
    with database.connect() as connection:
        for entity_id in sorted({reading.entity_id for reading in sent}):
            ensure_entity(connection, entity_id)
            seen = set()
            own = []
            for reading in sent:
                key = (reading.stream_id, reading.at)
                if reading.entity_id == entity_id and key not in seen:
                    seen.add(key)
                    own.append(reading)
            known = {
                (row[0], row[1])
                for row in connection.execute(
                    "SELECT stream_id, event_time FROM readings WHERE entity_id = %s "
                    "AND event_time BETWEEN %s AND %s",
                    (entity_id, min(r.at for r in own), max(r.at for r in own)),
                )
            }
            new = [reading for reading in own if (reading.stream_id, reading.at) not in known]
            journal.append_readings(
                connection,
                entity_id,
                Readings(
                    np.array([CATALOGUE.index(r.stream_id) for r in new], dtype=np.int64),
                    np.array([round(r.at.timestamp() * 1e6) for r in new], dtype=np.int64),
                    np.array([r.value for r in new], dtype=np.float64),
                ),
                CATALOGUE,
                source="test",
                late_horizon=timedelta(hours=24),
            )
            fresh += new
    return sorted(fresh)


def _by_minute(sent: Sequence[Sent]) -> list[list[Sent]]:
    minutes: dict[datetime, list[Sent]] = {}
    for reading in sorted(sent):
        minutes.setdefault(reading.sent_at.replace(second=0, microsecond=0), []).append(reading)
    return list(minutes.values())
