"""Once readings have gone, scores stay, and what is made of stored windows still works."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from anomaly_assets.errors import RetentionError
from anomaly_assets.pipeline.dropped import readable_from, require_readings
from anomaly_assets.pipeline.replay import stretches_with_readings
from anomaly_assets.pipeline.retention import plan_retention, retain_readings
from anomaly_assets.streams.aggregation import lookback_windows
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowRange
from anomaly_assets_tests.pipeline.people import (
    START,
    WINDOWS,
    append,
    execute,
    load_people,
    query,
    reading,
    run,
)
from anomaly_assets_tests.pipeline.support import deployment_of, fingerprint

if TYPE_CHECKING:
    from pathlib import Path

    from anomaly_assets.pipeline.deployment import Deployment
    from anomaly_assets.storage.database import Database

#: Six months and a bit after January has ended.
LATER = datetime(2026, 8, 2, tzinfo=UTC)
JANUARY_ENDS = datetime(2026, 2, 1, tzinfo=UTC)
FEBRUARY = WindowRange.between(JANUARY_ENDS, JANUARY_ENDS + timedelta(hours=3))


@pytest.fixture
def scored(database: Database, tmp_path: Path) -> Deployment:
    """Return a deployment with three hours of January of ann and bob, taken to the month's end."""
    load_people(database, ["ann", "bob"])
    deployment = deployment_of(database, tmp_path)
    run(deployment)
    execute(database, "UPDATE entities SET aggregated_until = '2026-02-03'")
    return deployment


def test_old_readings_go_and_scores_stay(scored: Deployment) -> None:
    """The report says how many; hourly values stand for all of them; results are the same."""
    database = scored.database
    before = fingerprint(database)
    ((readings,),) = query(database, "SELECT count(*) FROM readings")
    (outlook,) = plan_retention(scored, LATER)
    assert (outlook.readings, outlook.waiting) == (readings, ())
    assert query(database, "SELECT count(*) FROM readings") == [(readings,)]

    report = retain_readings(scored, LATER)

    assert (report.server, report.readings, report.waiting) == ("native", readings, ())
    assert query(database, "SELECT count(*) FROM readings") == [(0,)]
    assert query(database, "SELECT sum(readings) FROM readings_hourly") == [(readings,)]
    assert fingerprint(database) == before
    assert retain_readings(scored, LATER).dropped == ()


def test_scores_and_states_are_rebuilt_from_stored_windows(scored: Deployment) -> None:
    """Without a snapshot, without scores: the same rows to the last bit, explanations as made."""
    database = scored.database
    before = fingerprint(database)
    retain_readings(scored, LATER)
    execute(database, "DELETE FROM model_snapshots")
    for table in ("anomaly_scores", "stream_health", "gap_patterns"):
        execute(database, f"DELETE FROM {table}")  # noqa: S608 - constants
    fresh = deployment_of(database, scored.settings.home)
    run(fresh)
    assert not fresh.failures
    assert fingerprint(database) == before


def test_what_follows_is_scored_as_if_nothing_had_gone(
    scored: Deployment, database: Database, tmp_path: Path
) -> None:
    """Windows after the dropped month, behind a time without readings, are as they were."""
    load_people(database, ["ann", "bob"], FEBRUARY)
    run(deployment_of(database, tmp_path), FEBRUARY)
    expected = fingerprint(database)
    assert expected["anomaly_scores"][0] > 0
    retain_readings(scored, LATER)
    ((left,),) = query(database, "SELECT count(*) FROM readings")
    assert left > 0
    # The first hours of February look back to January; from there on, all is made of readings.
    entity = scored.entity("ann")
    with database.connect() as connection:
        since = readable_from(connection, entity)
    lookback = lookback_windows(entity.catalogue) * WINDOW_SECONDS
    assert since == JANUARY_ENDS.timestamp() + lookback
    execute(database, "DELETE FROM time_series_data WHERE timestamp >= to_timestamp(%s)", since)
    fresh = deployment_of(database, tmp_path)
    run(fresh, FEBRUARY)
    assert not fresh.failures
    found = fingerprint(database)
    del expected["causal_explanations"], found["causal_explanations"]
    assert found == expected


def test_windows_that_cannot_be_made_again_are_said_so(scored: Deployment) -> None:
    """Stored windows that are lost with their readings fail their entity, with the limit."""
    retain_readings(scored, LATER)
    execute(scored.database, "DELETE FROM time_series_data WHERE entity_id = 'ann'")
    run(scored)
    assert set(scored.failures) == {"ann"}
    assert "RetentionError" in scored.failures["ann"]
    assert "2026-01-05" in scored.failures["ann"]
    assert "ANOMALY_ASSETS_RAW_MONTHS" in scored.failures["ann"]


def test_a_replay_from_a_dropped_time_is_refused(scored: Deployment) -> None:
    """The message says from when on it can be done, and what does the rest."""
    require_readings(scored, START)
    retain_readings(scored, LATER)
    with pytest.raises(RetentionError, match=r"'ann'.*--from 2026-02-01T.*backfill"):
        require_readings(scored, START)
    require_readings(scored, JANUARY_ENDS + timedelta(days=1))


def test_dropped_days_are_still_days_with_windows(scored: Deployment) -> None:
    """A backfill over a dropped month does not pass it over."""
    whole = WindowRange(WINDOWS.start, WINDOWS.end + 60 * 86_400)
    before = stretches_with_readings(scored, whole)
    retain_readings(scored, LATER)
    assert stretches_with_readings(scored, whole) == before != []


def test_late_readings_of_a_dropped_time_ask_for_no_replay_for_ever(scored: Deployment) -> None:
    """A mark in the first windows after it, which cannot be made anew, ends with the next run."""
    retain_readings(scored, LATER)
    database = scored.database
    execute(
        database,
        "INSERT INTO late_windows (entity_id, \"window\", readings) VALUES ('ann', %s, 1)",
        JANUARY_ENDS,
    )
    run(scored, WindowRange.between(JANUARY_ENDS, JANUARY_ENDS + timedelta(hours=1)))
    assert not scored.failures
    assert query(database, "SELECT * FROM late_windows") == []


def test_what_is_not_processed_stays_and_the_reason_is_told(
    database: Database, tmp_path: Path
) -> None:
    """Old recordings that were only just taken in lose nothing before they are scored."""
    load_people(database, ["ann"])
    deployment = deployment_of(database, tmp_path)
    report = retain_readings(deployment, LATER)
    assert report.dropped == ()
    assert [one.waiting for one in report.waiting] == [("ann",)]
    assert "backfill" in report.waiting[0].reason


@pytest.mark.parametrize(
    "changed",
    [{"raw_months": 0}, {"raw_months": 7}, {"window_end": START + timedelta(days=2)}],
)
def test_settings_say_what_is_old(scored: Deployment, changed: dict[str, object]) -> None:
    """Zero months is for ever, and old recordings are counted from where they end."""
    settings = scored.settings.model_copy(update=changed)
    assert retain_readings(replace(scored, settings=settings), LATER).dropped == ()
    assert retain_readings(scored, LATER).readings > 0


def test_readings_of_another_entity_are_still_taken(scored: Deployment) -> None:
    """The limit is each entity's own: somebody else's history of that time can be imported."""
    retain_readings(scored, LATER)
    append(scored.database, "cyd", reading("steps", START))
    run(deployment_of(scored.database, scored.settings.home))
    assert query(
        scored.database,
        "SELECT count(*) > 0 FROM time_series_data WHERE entity_id = 'cyd' AND NOT is_missing",
    ) == [(True,)]
