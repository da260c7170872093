"""A window is complete once every reporting stream is past it, or the allowed lateness is over."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from anomaly_assets.pipeline.completeness import (
    complete_until,
    earliest_late_window,
    first_window,
)
from anomaly_assets.storage.journal import close_windows
from anomaly_assets_tests.pipeline.people import append, reading
from anomaly_assets_tests.pipeline.support import deployment_of

if TYPE_CHECKING:
    from pathlib import Path

    from anomaly_assets.pipeline.deployment import Deployment
    from anomaly_assets.storage.database import Database

NOW = datetime(2026, 3, 2, 12, 7, tzinfo=UTC)


def at(clock: str) -> datetime:
    """Return a time of the day."""
    hour, minute = map(int, clock.split(":"))
    return NOW.replace(hour=hour, minute=minute)


@pytest.fixture
def deployment(database: Database, tmp_path: Path) -> Deployment:
    """Return a deployment without readings; ten minutes of lateness are allowed."""
    return deployment_of(database, tmp_path)


def test_without_a_reading_nothing_is_complete(deployment: Deployment) -> None:
    """A new deployment has no first and no complete window, and nothing is late."""
    assert complete_until(deployment, NOW) is None
    assert first_window(deployment) is None
    assert earliest_late_window(deployment) is None


@pytest.mark.parametrize(
    ("last_readings", "complete"),
    [
        pytest.param({"heart_rate": "12:06", "steps": "12:05"}, "12:05", id="all past the end"),
        pytest.param({"heart_rate": "12:06", "steps": "12:04"}, "12:00", id="one is waited for"),
        pytest.param({"heart_rate": "12:06", "steps": "11:56"}, "11:55", id="one is just in time"),
        pytest.param({"heart_rate": "12:06", "steps": "11:30"}, "11:55", id="one is given up on"),
        pytest.param({"heart_rate": "11:20", "steps": "11:30"}, "11:55", id="all are given up on"),
        pytest.param({"heart_rate": "12:06", "steps": "11:06"}, "12:05", id="one stopped long ago"),
        pytest.param({"heart_rate": "10:00", "steps": "09:00"}, "12:05", id="all stopped long ago"),
        pytest.param({"heart_rate": "12:11", "steps": "12:10"}, "12:05", id="a clock ahead"),
    ],
)
def test_the_slowest_reporting_stream_decides(
    deployment: Deployment, last_readings: dict[str, str], complete: str
) -> None:
    """A stream that reported within the hour is waited for, up to the allowed lateness."""
    for stream, clock in last_readings.items():
        append(deployment.database, "ann", reading(stream, at(clock)))
    assert complete_until(deployment, NOW) == at(complete)
    assert first_window(deployment) == min(map(at, last_readings.values())).replace(
        minute=min(map(at, last_readings.values())).minute // 5 * 5
    )


def test_the_slowest_entity_decides(deployment: Deployment) -> None:
    """A window is asked for once it is complete for everybody."""
    append(deployment.database, "ann", reading("heart_rate", at("12:06")))
    assert complete_until(deployment, NOW) == at("12:05")
    append(deployment.database, "bob", reading("heart_rate", at("12:01")))
    assert complete_until(deployment, NOW) == at("12:00")


def test_the_last_window_of_the_settings_ends_it(deployment: Deployment) -> None:
    """A deployment of old recordings has no complete window after its end."""
    append(deployment.database, "ann", reading("heart_rate", at("12:06")))
    ended = deployment.settings.model_copy(update={"window_end": at("11:02")})
    assert complete_until(replace(deployment, settings=ended), NOW) == at("11:00")


def test_a_late_reading_within_the_horizon_asks_for_a_replay(deployment: Deployment) -> None:
    """The first changed window is known; a reading from beyond the horizon changes none."""
    database = deployment.database
    append(database, "ann", reading("heart_rate", at("12:06") - timedelta(days=3)))
    with database.connect() as connection, connection.transaction():
        close_windows(connection, "ann", at("12:05"))
    append(database, "ann", reading("steps", at("10:00") - timedelta(days=2)))
    assert earliest_late_window(deployment) is None
    append(database, "ann", reading("steps", at("10:13")))
    append(database, "ann", reading("steps", at("11:00")))
    assert earliest_late_window(deployment) == at("10:10")
