"""Metrics of a deployment: right, bounded, and no error where the database is away."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from anomaly_assets.monitoring.collector import registries
from anomaly_assets.monitoring.families import DEPLOYMENT, ENTITIES, FAMILIES
from anomaly_assets.monitoring.looks import Looks
from anomaly_assets.pipeline.deployment import Deployment
from anomaly_assets.storage.database import Database
from anomaly_assets_tests.pipeline.people import query
from anomaly_assets_tests.pipeline.support import deployment_of

if TYPE_CHECKING:
    from pathlib import Path

    from anomaly_assets_tests.monitoring.seeded import Seeded

Samples = dict[tuple[str, ...], float]


def read(text: bytes) -> dict[str, Samples]:
    """Return the samples of each metric, by their labels' values in order of name."""
    found: dict[str, Samples] = {}
    for family in text_string_to_metric_families(text.decode()):
        found.setdefault(family.name, {})
        for sample in family.samples:
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


def metrics(deployment: Deployment, *, names: bool = True) -> dict[str, Samples]:
    totals, named = registries(deployment)
    text = generate_latest(totals) + (generate_latest(named) if names else b"")
    return {name.removeprefix("anomaly_assets_"): samples for name, samples in read(text).items()}


def test_every_metric_of_a_deployment_is_there(seeded: Seeded) -> None:
    """Each family of the list comes with at least one sample, and none that is not listed."""
    found = metrics(seeded.deployment)
    for family in (*DEPLOYMENT, *ENTITIES):
        if family.name != "database_look_failures":
            name = family.name + ("_count" if family.kind == "histogram" else "")
            assert found[name], family.name
    bare = {name.removesuffix("_total") for name in found}
    parts = ("_bucket", "_count", "_sum", "_created")
    unlisted = {n for n in bare if not n.endswith(parts)} - set(FAMILIES)
    assert unlisted == set()


def test_totals_are_what_the_tables_hold(seeded: Seeded) -> None:
    """Streams, shares, labels and silences, against plain counts over the same rows."""
    found = metrics(seeded.deployment)
    end = seeded.windows.end_time
    ((streams, available),) = query(
        seeded.database,
        "SELECT count(*), count(value) FROM time_series_data "
        "WHERE timestamp = %s::timestamptz - interval '5 minutes'",
        end,
    )
    assert found["streams"][()] == streams == 72
    assert found["streams_available"][()] == available
    assert found["streams_available_ratio"][()] == pytest.approx(available / streams)
    assert found["entities"][()] == found["entities_reporting"][()] == 2
    # At night ann's phone says little too: what is simulated here ends now.
    few = query(
        seeded.database,
        "SELECT entity_id FROM time_series_data WHERE timestamp = %s::timestamptz "
        "- interval '5 minutes' GROUP BY entity_id HAVING count(value) < 0.7 * count(*)",
        end,
    )
    assert ("bob",) in few, "the phone is away"
    assert found["entities_few_streams"][()] == len(few)
    assert found["entities_many_anomalies"][()] >= 1, "three of ann's twelve windows"
    assert found["entity_anomaly_rate_ratio"]["ann",] >= 0.2
    assert found["entity_score"]["ann",] == pytest.approx(0.97)
    assert found["false_positive_ratio"][()] == 0.5
    assert found["labels"][()] == 2
    assert found["open_alerts"][()] == 1
    assert found["windows_behind"][()] <= 3
    shares = found["entity_streams_available_ratio"]
    assert shares["0",] == pytest.approx(found["entity_streams_available"]["bob",] / 36)
    assert shares["0",] <= shares["0.5",]
    assert found["missing_longest_seconds"][()] >= 3600
    assert 0 < found["model_accuracy_ratio"][()] <= 1


def test_a_silence_is_as_long_as_it_is(seeded: Seeded) -> None:
    """What is stored now and then tells of every stream how many windows it has been silent."""
    found = metrics(seeded.deployment)["stream_missing_seconds"]
    rows = query(
        seeded.database,
        "SELECT entity_id, stream_id, 300 * count(*) FILTER (WHERE timestamp > "
        "coalesce(seen, '-infinity')) FROM (SELECT *, max(timestamp) FILTER (WHERE NOT "
        "is_missing) OVER (PARTITION BY entity_id, stream_id) AS seen FROM time_series_data) "
        "AS windows GROUP BY entity_id, stream_id, seen",
    )
    assert {(entity, stream): float(silent) for entity, stream, silent in rows} == found
    assert len(found) == 72
    assert min(found.values()) == 0


def test_dagster_is_seen(seeded: Seeded) -> None:
    """Heartbeats, runs by job and status, failed checks and ticks, from Dagster's own tables."""
    found = metrics(seeded.deployment)
    assert found["dagster_up"][()] == 1
    assert 0 <= found["dagster_heartbeat_age_seconds"]["SENSOR",] < 3600
    assert found["dagster_runs_1d"]["process_windows", "SUCCESS"] == 1
    assert found["dagster_runs_1d"]["process_windows", "FAILURE"] == 1
    assert found["dagster_failed_checks"][()] >= 1
    assert found["dagster_ticks_failed_1h"][()] == 1
    ended = found["dagster_last_success_time_seconds"]["process_windows",]
    assert abs(time.time() - ended) < 3600
    assert found["dagster_last_run_seconds"]["process_windows",] > 0


@pytest.mark.parametrize("most", [0, 1])
def test_no_more_entities_are_named_than_allowed(seeded: Seeded, most: int) -> None:
    """Beyond the setting they are in the totals only, and how many these are is told."""
    options = seeded.settings.model_copy(update={"metrics_entities": most})
    found = metrics(replace(seeded.deployment, settings=options))
    assert len(found["entity_streams"]) == most
    assert len(found["stream_health_ratio"]) == 36 * most
    assert found["entities_unnamed"][()] == 2 - most
    assert found["entities"][()] == 2


def test_totals_name_nobody(seeded: Seeded) -> None:
    """What is served without a token has neither entity nor stream among its labels."""
    totals, _ = registries(seeded.deployment)
    text = generate_latest(totals).decode()
    assert 'entity="' not in text
    assert "ann" not in [word.strip('"') for word in text.split()]


def test_without_a_database_there_are_figures_all_the_same(seeded: Seeded) -> None:
    """It is down and its failures are counted; what does not hang on it is there."""
    nowhere = Database("postgresql://nobody@127.0.0.1:1/nothing")
    found = metrics(Deployment(seeded.settings, nowhere))
    assert found["database_up"][()] == found["dagster_up"][()] == 0
    assert found["database_look_failures_total"]["database",] == 1
    assert found["disk_free_bytes"][()] > 0
    assert found["entities"] == found["entity_score"] == {}


def test_a_slow_database_is_not_waited_for(seeded: Seeded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks gets what was known while a look hangs, and only one look is under way."""
    options = seeded.settings.model_copy(update={"metrics_seconds": 0.0})
    looks = Looks(options, seeded.database)
    monkeypatch.setattr("anomaly_assets.monitoring.looks._REST", 0.0)
    known = looks.seen()
    assert known.totals is not None
    monkeypatch.setattr("anomaly_assets.monitoring.looks._PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(
        "anomaly_assets.monitoring.queries.TOTALS", "SELECT pg_sleep(%(available)s * 0 + 3)"
    )
    started = time.monotonic()
    assert looks.seen() is known
    assert looks.seen() is known
    assert time.monotonic() - started < 2.5
    monkeypatch.setattr("anomaly_assets.monitoring.looks._LOST_SECONDS", 0.1)
    assert looks.seen().size is None, "what was known long ago counts no more"
    hanging = query(
        seeded.database,
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%%'",
    )
    assert hanging == [(1,)]


def test_figures_that_fail_do_not_make_the_database_look_away(
    seeded: Seeded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement that is too slow for the server's limit is counted; the database is up."""
    monkeypatch.setattr("anomaly_assets.monitoring.looks._STATEMENT_SECONDS", 1)
    monkeypatch.setattr(
        "anomaly_assets.monitoring.queries.TOTALS", "SELECT pg_sleep(%(available)s * 0 + 9)"
    )
    found = metrics(seeded.deployment)
    assert found["database_up"][()] == 1
    assert found["database_look_failures_total"]["totals",] == 1
    assert found["entities"] == {}
    assert found["dagster_up"][()] == 1


def test_looks_are_remembered(seeded: Seeded) -> None:
    """Within the time of the setting the database is not asked again, however often one asks."""
    looks = Looks(seeded.settings, seeded.database)
    assert looks.seen() is looks.seen()
    options = seeded.settings.model_copy(update={"metrics_seconds": 0.0})
    eager = Looks(options, seeded.database)
    first = eager.seen()
    deadline = time.monotonic() + 30
    while eager.seen() is first:
        assert time.monotonic() < deadline, "it never looks again"
        time.sleep(0.02)


def test_an_empty_deployment_has_no_figures_and_no_failures(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unknown is absent, not zero; Dagster, which was never started, counts as away."""
    monkeypatch.delenv("DAGSTER_POSTGRES_URL", raising=False)
    found = metrics(deployment_of(database, tmp_path))
    assert found["database_up"][()] == 1
    assert found["entities"][()] == 0
    for name in ("streams_available_ratio", "anomaly_rate_ratio", "false_positive_ratio"):
        assert found[name] == {}
    assert found["dagster_up"][()] == 0
    assert set(found["database_look_failures_total"]) == {("dagster",)}
