"""The asset checks pass on what the pipeline writes, and fail on rows that were tampered with."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from anomaly_assets.assets.checks import (
    anomaly_rate,
    batch_time,
    networks_fresh,
    scores_valid,
    streams_available,
    windows_complete,
)
from anomaly_assets.storage.identifiers import Method
from anomaly_assets.storage.networks import write_network
from anomaly_assets.streams.windows import WindowRange
from anomaly_assets_tests.pipeline.people import START, WINDOWS, execute, load_people, query, run
from anomaly_assets_tests.pipeline.support import deployment_of
from anomaly_assets_tests.storage.networks import small_network

if TYPE_CHECKING:
    from pathlib import Path

    from anomaly_assets.pipeline.deployment import Deployment
    from anomaly_assets.storage.database import Database

SCORED = [
    ("tier1_scores", Method.INDIVIDUAL),
    ("cross_stream_scores", Method.CROSS_STREAM),
    ("ensemble_results", Method.ENSEMBLE),
]


@pytest.fixture
def deployment(database: Database, tmp_path: Path) -> Deployment:
    """Return a deployment with two people and three processed hours of each."""
    load_people(database, ["ann", "bob"])
    deployment = deployment_of(database, tmp_path)
    run(deployment)
    assert not deployment.failures
    return deployment


def numbers(result: dg.AssetCheckResult) -> dict[str, object]:
    """Return a check's metadata as plain values."""
    return {name: getattr(value, "value", value) for name, value in result.metadata.items()}


def test_checks_pass_on_what_the_pipeline_writes(deployment: Deployment) -> None:
    """Untouched rows pass every check, and the checks say what they looked at."""
    complete = windows_complete(deployment, WINDOWS)
    assert complete.passed
    assert numbers(complete) == {"entities": 2, "incomplete": []}
    for asset, method in SCORED:
        result = scores_valid(deployment, WINDOWS, asset, method)
        assert result.passed
        found = numbers(result)
        (rows,) = query(
            deployment.database,
            "SELECT count(anomaly_score), count(*) FROM anomaly_scores WHERE method = %s",
            method,
        )
        assert (found["scores"], found["unknown"]) == (rows[0], rows[1] - rows[0])
        assert rows[1] > 0
        assert result.asset_key == dg.AssetKey(asset)


def test_a_lost_row_makes_its_window_incomplete(deployment: Deployment) -> None:
    """A window that lacks one stream's row is found and its entity named; the range counts."""
    deleted = execute(
        deployment.database,
        "DELETE FROM time_series_data WHERE entity_id = 'bob' AND stream_id = 'heart_rate' "
        "AND timestamp = %s",
        START,
    )
    assert deleted == 1
    result = windows_complete(deployment, WINDOWS)
    assert not result.passed
    assert numbers(result)["incomplete"] == ["bob: 35 to 36 rows a window"]
    later = WindowRange(WINDOWS.start + 300, WINDOWS.end)
    assert windows_complete(deployment, later).passed


def test_a_score_of_a_missing_stream_is_refused(deployment: Deployment) -> None:
    """A missing stream is unknown: a score for one, and only that, fails the check."""
    tampered = execute(
        deployment.database,
        "UPDATE anomaly_scores AS s SET anomaly_score = 0.5 FROM (SELECT entity_id, timestamp, "
        "stream_id FROM time_series_data WHERE is_missing ORDER BY 1, 2, 3 LIMIT 1) AS t "
        "WHERE s.entity_id = t.entity_id AND s.timestamp = t.timestamp "
        "AND s.stream_id = t.stream_id AND s.method = 'river_individual'",
    )
    assert tampered == 1
    result = scores_valid(deployment, WINDOWS, "tier1_scores", Method.INDIVIDUAL)
    assert not result.passed
    assert numbers(result)["scored_while_missing"] == 1
    assert scores_valid(deployment, WINDOWS, "ensemble_results", Method.ENSEMBLE).passed


@pytest.mark.parametrize(
    ("scored", "impossible"), list(zip(SCORED, (-0.1, 1.5, float("nan")), strict=True))
)
def test_a_score_beyond_its_range_is_refused(
    deployment: Deployment, scored: tuple[str, str], impossible: float
) -> None:
    """Should the table's own constraint ever be gone, the check still finds what it kept out."""
    asset, method = scored
    database = deployment.database
    ((constraint,),) = query(
        database,
        "SELECT conname FROM pg_constraint WHERE conrelid = 'anomaly_scores'::regclass "
        "AND pg_get_constraintdef(oid) LIKE '%%anomaly_score%%'",
    )
    execute(database, f'ALTER TABLE anomaly_scores DROP CONSTRAINT "{constraint}"')
    tampered = execute(
        database,
        "UPDATE anomaly_scores SET anomaly_score = %s WHERE entity_id = 'ann' AND method = %s "
        "AND timestamp = %s",
        impossible,
        method,
        START,
    )
    result = scores_valid(deployment, WINDOWS, asset, method)
    assert not result.passed
    assert numbers(result)["out_of_range"] == tampered > 0


def test_a_high_rate_of_anomalies_is_an_alert(deployment: Deployment) -> None:
    """More than a tenth of somebody's hour warns, at whatever minute the hour begins."""
    database = deployment.database
    score = (
        "UPDATE anomaly_scores SET anomaly_score = %s WHERE method = 'ensemble' "
        "AND entity_id LIKE %s AND timestamp >= %s AND timestamp < %s"
    )
    start, end = WINDOWS.start_time, WINDOWS.end_time
    execute(database, score, 0.1, "%", start, end)
    assert numbers(anomaly_rate(deployment, WINDOWS))["anomaly_rate"] == 0.0
    # One of twelve is below a tenth, two are above it, if no more than 55 minutes apart.
    for minutes, worst in ((60, 1 / 12), (55, 2 / 12)):
        execute(database, score, 0.1, "%", start, end)
        for offset in (10, 10 + minutes):
            at = START + timedelta(minutes=offset)
            execute(database, score, 0.9, "ann", at, at + timedelta(minutes=5))
        result = anomaly_rate(deployment, WINDOWS)
        found = numbers(result)
        assert result.passed is (worst < 0.1)
        assert result.severity is dg.AssetCheckSeverity.WARN
        assert found["anomaly_rate"] == pytest.approx(2 / 72)
        assert found["highest_hourly_rate"] == pytest.approx(worst)
        assert found["limit"] == 0.1
    above = numbers(anomaly_rate(deployment, WINDOWS))["above"]
    assert above == {"ann": pytest.approx(2 / 12, abs=1e-4)}
    # The first of both lies before this range; the hour that ends in it counts all the same.
    later = WindowRange(WINDOWS.start + 3600, WINDOWS.end)
    assert not anomaly_rate(deployment, later).passed
    lenient = {"alert_anomaly_rate": 0.2}
    deployment.settings = deployment.settings.model_copy(update=lenient)
    assert anomaly_rate(deployment, WINDOWS).passed


def test_too_few_streams_are_an_alert(deployment: Deployment) -> None:
    """The last window of each entity counts, whatever was missing before it."""
    database = deployment.database
    last = WINDOWS.end_time - timedelta(minutes=5)
    missing = (
        "UPDATE time_series_data SET value = NULL, is_missing = true, missing_reason = 'absent' "
        "WHERE entity_id = 'bob' AND timestamp = %s AND stream_id IN (SELECT stream_id FROM "
        "time_series_data WHERE entity_id = 'bob' AND timestamp = %s ORDER BY 1 LIMIT %s)"
    )
    present = "UPDATE time_series_data SET value = 1, is_missing = false, missing_reason = NULL"
    execute(database, present)
    execute(database, missing, START, START, 30)
    assert streams_available(deployment, WINDOWS).passed
    for count, passes in ((10, True), (11, False)):
        execute(database, present)
        execute(database, missing, last, last, count)
        result = streams_available(deployment, WINDOWS)
        assert result.passed is passes
        assert result.severity is dg.AssetCheckSeverity.WARN
        assert numbers(result)["lowest_share"] == pytest.approx(1 - count / 36)
    below = numbers(streams_available(deployment, WINDOWS))["below"]
    assert below == {"bob": pytest.approx(25 / 36, abs=1e-4)}


def test_a_slow_run_is_an_alert(deployment: Deployment) -> None:
    """More than ten seconds warn; a range may take as long for each of its windows."""
    one = WindowRange(WINDOWS.start, WINDOWS.start + 300)
    for windows, seconds, passes in ((one, 10.0, True), (one, 10.5, False), (WINDOWS, 99.0, True)):
        result = batch_time(deployment, windows, 1000.0, 1000.0 + seconds)
        assert result.passed is passes
        assert result.severity is dg.AssetCheckSeverity.WARN
        found = numbers(result)
        assert found["seconds"] == seconds
        assert found["seconds_per_window"] == pytest.approx(seconds / len(windows))
    unknown = batch_time(deployment, one, None, 1000.0)
    assert unknown.passed
    assert "seconds" not in numbers(unknown)


def test_an_old_network_is_an_alert(deployment: Deployment) -> None:
    """At three hours a network is fresh; beyond, the check warns and says whose is how old."""
    end = WINDOWS.end_time
    for hours, stale in ((3, {}), (4, {"bob": 4.0})):
        execute(deployment.database, "DELETE FROM causal_networks")
        with deployment.database.connect() as connection:
            write_network(connection, "ann", small_network(end))
            write_network(connection, "bob", small_network(end - timedelta(hours=hours)))
        result = networks_fresh(deployment, end)
        assert result.passed is (stale == {})
        assert result.severity is dg.AssetCheckSeverity.WARN
        assert numbers(result) == {"stale_hours": stale, "limit_hours": 3.0}


def test_checks_pass_where_nothing_was_processed(deployment: Deployment) -> None:
    """A range without rows is nobody's fault."""
    empty = WindowRange(WINDOWS.end, WINDOWS.end + 3600)
    assert windows_complete(deployment, empty).passed
    assert scores_valid(deployment, empty, "tier1_scores", Method.INDIVIDUAL).passed
    assert anomaly_rate(deployment, empty).passed
    assert "anomaly_rate" not in numbers(anomaly_rate(deployment, empty))
    assert streams_available(deployment, empty).passed
