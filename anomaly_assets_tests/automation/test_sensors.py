"""The sensors ask for one run over all complete windows, in order, on a real instance."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import dagster as dg
import psycopg
import pytest

from anomaly_assets.assets.partitions import window_of_key
from anomaly_assets.automation import sensors
from anomaly_assets.automation.runs import run_windows
from anomaly_assets.pipeline.deployment import Deployment
from anomaly_assets.pipeline.stateless import aggregate_windows
from anomaly_assets.pipeline.tiers import CrossStreamTier
from anomaly_assets.pipeline.whole import process
from anomaly_assets.settings import settings
from anomaly_assets.storage.windows import entity_lock
from anomaly_assets.streams.windows import WindowRange, window_of
from anomaly_assets_tests.automation.support import Live, recorded
from anomaly_assets_tests.pipeline.support import fingerprint

if TYPE_CHECKING:
    from anomaly_assets.storage.database import Database

FIVE_MINUTES = timedelta(minutes=5)


def test_two_hours_of_downtime_are_one_run_of_all_windows(live: Live) -> None:
    """After two hours without a daemon the sensor asks for 24 windows in one run, none skipped."""
    stopped = window_of(live.now) - timedelta(hours=2, minutes=10)
    live.ingest(live.start, live.now)
    assert run_windows(live.job, live.instance, WindowRange.between(live.start, stopped)).succeeded

    request = live.evaluate(sensors.complete_windows)

    assert isinstance(request, dg.RunRequest)
    first = window_of_key(request.tags[sensors.RANGE_START])
    last = window_of_key(request.tags[sensors.RANGE_END])
    assert first == stopped
    # The lateness of ten minutes may have ended meanwhile for one window more.
    assert last + FIVE_MINUTES - first in {timedelta(minutes=5 * n) for n in (24, 25, 26)}
    assert live.run(request)
    keys = recorded(live, "explanations")
    moments = [window_of_key(key) for key in keys]
    assert moments[0] == live.start
    assert {b - a for a, b in pairwise(moments)} == {FIVE_MINUTES}
    assert moments[-1] == last
    assert "not complete" in str(live.evaluate(sensors.complete_windows))


def test_nothing_is_asked_for_without_readings(live: Live) -> None:
    """A new deployment asks for no run."""
    assert "no reading" in str(live.evaluate(sensors.complete_windows))


def test_a_failed_run_is_retried_without_a_double_effect(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that fails half-way is asked for again, and leaves the rows of an undisturbed one."""
    live.ingest(live.start, live.now)
    request = live.evaluate(sensors.complete_windows)
    assert isinstance(request, dg.RunRequest)

    def broken(*_: object) -> int:
        msg = "the database went away"
        raise psycopg.OperationalError(msg)

    with monkeypatch.context() as patched:
        patched.setattr(CrossStreamTier, "write", broken)
        assert not live.run(request)
    assert recorded(live, "raw_readings")
    assert not recorded(live, "ensemble_results")

    again = live.evaluate(sensors.complete_windows)
    assert isinstance(again, dg.RunRequest)
    last = window_of_key(again.tags[sensors.RANGE_END])
    assert live.run(again)
    found = fingerprint(live.database)
    windows = WindowRange.between(live.start, last + FIVE_MINUTES)
    _forget_results(live.database)
    assert [*process(Deployment(settings(), live.database), windows)]
    assert fingerprint(live.database) == found


def test_after_three_failures_the_sensor_stops_and_says_so(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A range that failed three times is not tried a fourth time, and the reason is readable."""
    live.ingest(live.start, live.now)

    def broken(*_: object) -> int:
        msg = "broken for good"
        raise psycopg.OperationalError(msg)

    monkeypatch.setattr("anomaly_assets.pipeline.tiers.IndividualTier.write", broken)
    for _ in range(3):
        # The range's first window decides: what asks for more windows later is the same failure.
        request = live.evaluate(sensors.complete_windows)
        assert isinstance(request, dg.RunRequest)
        assert not live.run(request)
    assert "3 runs in a row failed" in str(live.evaluate(sensors.complete_windows))


def test_late_readings_cause_a_replay(live: Live) -> None:
    """Readings for processed windows mark them; the sensor replays from the first to the end."""
    gap = live.start + timedelta(hours=2), live.start + timedelta(hours=2, minutes=15)
    live.ingest(live.start, gap[0])
    live.ingest(gap[1], live.now)
    request = live.evaluate(sensors.complete_windows)
    assert isinstance(request, dg.RunRequest)
    assert live.run(request)
    last = window_of_key(request.tags[sensors.RANGE_END])
    assert "no late readings" in str(live.evaluate(sensors.late_readings))

    report = live.ingest(*gap)
    assert report.late == report.accepted > 0
    replay = live.evaluate(sensors.late_readings)

    assert isinstance(replay, dg.RunRequest)
    assert window_of_key(replay.tags[sensors.RANGE_START]) == gap[0]
    assert window_of_key(replay.tags[sensors.RANGE_END]) == last
    assert live.run(replay)
    assert "no late readings" in str(live.evaluate(sensors.late_readings))
    found = fingerprint(live.database)
    _forget_results(live.database)
    windows = WindowRange.between(live.start, last + FIVE_MINUTES)
    assert [*process(Deployment(settings(), live.database), windows)]
    assert fingerprint(live.database) == found


def test_a_replay_that_was_killed_is_asked_for_again(live: Live) -> None:
    """Late readings are aggregated, the scores not: the sensor asks until the last asset ran."""
    gap = live.start + timedelta(hours=2), live.start + timedelta(hours=2, minutes=15)
    live.ingest(live.start, gap[0])
    live.ingest(gap[1], live.now)
    request = live.evaluate(sensors.complete_windows)
    assert isinstance(request, dg.RunRequest)
    assert live.run(request)
    live.ingest(*gap)
    deployment = Deployment(settings(), live.database)
    last = window_of_key(request.tags[sensors.RANGE_END])
    windows = WindowRange.between(gap[0], last + FIVE_MINUTES)
    assert [*aggregate_windows(deployment, deployment.entities(), windows)]

    replay = live.evaluate(sensors.late_readings)

    assert isinstance(replay, dg.RunRequest)
    assert window_of_key(replay.tags[sensors.RANGE_START]) == gap[0]
    assert live.run(replay)
    assert "no late readings" in str(live.evaluate(sensors.late_readings))


def test_of_two_writers_one_waits(live: Live) -> None:
    """While one writer holds an entity's state, a second one waits and then finishes."""
    live.ingest(live.start, live.now)
    deployment = Deployment(settings(), live.database)
    windows = WindowRange.between(live.start, live.start + timedelta(hours=1))
    with live.database.connect() as connection, live.database.connect() as observer:
        with entity_lock(connection, "ann", "tier1_models"):
            second = threading.Thread(target=lambda: list(process(deployment, windows)))
            second.start()
            deadline = time.monotonic() + 60
            while _waiting(observer) == 0:
                assert time.monotonic() < deadline, "the second writer never came to wait"
                assert second.is_alive()
            assert _rows(observer, "time_series_data") > 0
            assert _rows(observer, "anomaly_scores") == 0
        second.join(60)
        assert not second.is_alive()
        assert _rows(observer, "anomaly_scores") > 0
    assert deployment.failures == {}


def _waiting(connection: psycopg.Connection[tuple[int]]) -> int:
    row = connection.execute(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    ).fetchone()
    return row[0] if row else 0


def _rows(connection: psycopg.Connection[tuple[int]], table: str) -> int:
    row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - a constant
    return row[0] if row else 0


def _forget_results(database: Database) -> None:
    with database.connect() as connection:
        connection.execute(
            "TRUNCATE time_series_data, anomaly_scores, stream_health, gap_patterns, "
            "causal_explanations, model_snapshots"
        )
