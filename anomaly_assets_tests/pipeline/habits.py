"""Somebody with a habit: every morning it gets damp, and now and then the heart races by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from anomaly_assets.pipeline.labels import judge
from anomaly_assets.storage import journal
from anomaly_assets.storage.entities import ensure_entity
from anomaly_assets.storage.identifiers import Verdict
from anomaly_assets.storage.labels import Opinion
from anomaly_assets.streams.aggregation import Readings
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets.streams.windows import WindowRange
from anomaly_assets_tests.pipeline.courses import write_catalogue
from anomaly_assets_tests.pipeline.people import run
from anomaly_assets_tests.pipeline.support import deployment_of

if TYPE_CHECKING:
    from pathlib import Path

    from anomaly_assets.pipeline.deployment import Deployment
    from anomaly_assets.storage.database import Database
    from anomaly_assets.storage.labels import Label

#: A Monday.
START = datetime(2026, 3, 2, tzinfo=UTC)
DAYS = 6
WINDOWS = WindowRange.between(START, START + timedelta(days=DAYS))
#: Minutes of the day; the stream that jumps then, for a window; each time higher than the last.
DAMP = (7 * 60 + 30, 0)
#: Day, minute of the day, stream.
RACING = ((1, 15 * 60, 2), (3, 21 * 60, 2), (4, 11 * 60, 2))
DAMP_DAYS = (1, 2, 3, 4, 5)


def readings() -> Readings:
    """Return a reading a minute of every stream."""
    minutes = DAYS * 24 * 60
    values = np.random.default_rng(8).normal(50.0, 1.0, (minutes, 5))
    for number, day in enumerate(DAMP_DAYS):
        begin = day * 1440 + DAMP[0]
        values[begin : begin + 5, DAMP[1]] += 15.0 * 2.5**number
    for number, (day, minute, stream) in enumerate(RACING):
        begin = day * 1440 + minute
        values[begin : begin + 5, stream] += 30.0 * 4.0**number
    microseconds = (int(START.timestamp()) + 60 * np.arange(minutes)) * 1_000_000
    return Readings(np.tile(np.arange(5), minutes), np.repeat(microseconds, 5), values.ravel())


def process_days(database: Database, home: Path) -> Deployment:
    """Process the days of somebody called ann, and return the deployment."""
    catalogue = write_catalogue(home)
    with database.connect() as connection:
        ensure_entity(connection, "ann", catalogue=str(catalogue))
        journal.append_readings(
            connection,
            "ann",
            readings(),
            load_catalogue(catalogue),
            source="test",
            late_horizon=timedelta(hours=24),
        )
    deployment = deployment_of(database, home)
    run(deployment, WINDOWS)
    assert not deployment.failures
    return deployment


def damp(day: int) -> datetime:
    """Return when it got damp on a day."""
    return START + timedelta(days=day, minutes=DAMP[0])


def racing(number: int) -> datetime:
    """Return when the heart raced."""
    day, minute, _ = RACING[number]
    return START + timedelta(days=day, minutes=minute)


def say(deployment: Deployment, at: datetime, verdict: Verdict) -> Label:
    """Judge the episode that begins at a time."""
    return judge(deployment, deployment.entity("ann"), Opinion(verdict, "Ann"), at)


def judge_everything(deployment: Deployment) -> None:
    """Say that getting damp is a false alarm, and a racing heart an anomaly."""
    for day in DAMP_DAYS:
        say(deployment, damp(day), Verdict.FALSE_ALARM)
    for number in range(len(RACING)):
        say(deployment, racing(number), Verdict.CONFIRMED)
