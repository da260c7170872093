"""The asset checks pass on what the pipeline writes, and fail on rows that were tampered with."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from anomaly_assets.assets.checks import (
    ALERT_ANOMALY_RATE,
    anomaly_rate,
    networks_fresh,
    scores_valid,
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
    """Above a tenth of the windows the check warns, at a tenth it does not; it never blocks."""
    database = deployment.database
    execute(database, "UPDATE anomaly_scores SET anomaly_score = 0.1 WHERE method = 'ensemble'")
    assert numbers(anomaly_rate(deployment, WINDOWS))["anomaly_rate"] == 0.0
    # Seven of twice 36 windows are just below a tenth, eight just above.
    for windows, passes in ((7, True), (8, False)):
        execute(
            database,
            "UPDATE anomaly_scores SET anomaly_score = 0.9 WHERE method = 'ensemble' "
            "AND entity_id = 'ann' AND timestamp < %s::timestamptz + %s * interval '5 minutes'",
            START,
            windows,
        )
        result = anomaly_rate(deployment, WINDOWS)
        assert result.passed is passes
        assert result.severity is dg.AssetCheckSeverity.WARN
        assert numbers(result)["anomaly_rate"] == pytest.approx(windows / 72)
        assert numbers(result)["limit"] == ALERT_ANOMALY_RATE


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
