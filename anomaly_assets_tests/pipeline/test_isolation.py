"""One entity's fault is its own: the others go on, and the fault is on record."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
import psycopg
import pytest

from anomaly_assets.assets.resources import describe
from anomaly_assets.automation.sensors import range_tags
from anomaly_assets.pipeline.advance import ModelStates
from anomaly_assets.pipeline.stateless import aggregate_windows
from anomaly_assets.pipeline.tiers import IndividualTier
from anomaly_assets.settings import settings
from anomaly_assets.storage.entities import ensure_entity
from anomaly_assets.streams.windows import WindowRange, window_of
from anomaly_assets_tests.pipeline.people import WINDOWS, execute, load_people, query, run
from anomaly_assets_tests.pipeline.support import deployment_of, fingerprint

if TYPE_CHECKING:
    from pathlib import Path

    from anomaly_assets.detection.individual.detector import IndividualDetector
    from anomaly_assets.detection.results import IndividualScores
    from anomaly_assets.storage.database import Database
    from anomaly_assets.streams.windows import WindowBlock

PEOPLE = ("ann", "bob", "cat")
FIRST_HOUR = WindowRange(WINDOWS.start, WINDOWS.start + 3600)
STEPS = ("time_series_data", "anomaly_scores", "stream_health", "gap_patterns")


def entities_in(database: Database, table: str) -> list[str]:
    """Return whose rows a table holds."""
    rows = query(database, f"SELECT DISTINCT entity_id FROM {table} ORDER BY 1")  # noqa: S608 - ours
    return [row[0] for row in rows]


def break_detector_of(entity_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make tier 1 raise for one entity, as a fault in a model would."""
    working = IndividualTier.process

    def process(
        self: IndividualTier, detector: IndividualDetector, inputs: WindowBlock
    ) -> IndividualScores:
        if inputs.entity_id == entity_id:
            msg = "the model diverged"
            raise FloatingPointError(msg)
        return working(self, detector, inputs)

    monkeypatch.setattr(IndividualTier, "process", process)


def expected(database: Database, home: Path) -> dict[str, tuple[int, str]]:
    """Return the fingerprint of an undisturbed run, and forget all of it again."""
    run(deployment_of(database, home))
    found = fingerprint(database)
    execute(
        database,
        "TRUNCATE time_series_data, anomaly_scores, stream_health, gap_patterns, "
        "causal_explanations, model_snapshots",
    )
    execute(database, "UPDATE entities SET aggregated_until = NULL")
    return found


def test_an_unusable_catalogue_stops_its_own_entity_only(
    database: Database, tmp_path: Path
) -> None:
    """Where a catalogue cannot be read, the entity is on record with the path, the others done."""
    load_people(database, PEOPLE)
    execute(database, "UPDATE entities SET catalogue = '/gone/bob.yaml' WHERE entity_id = 'bob'")
    deployment = deployment_of(database, tmp_path)

    run(deployment)

    assert list(deployment.failures) == ["bob"]
    assert "CatalogueError" in deployment.failures["bob"]
    assert "/gone/bob.yaml" in deployment.failures["bob"]
    for table in STEPS:
        assert entities_in(database, table) == ["ann", "cat"], table


def test_a_detector_that_raises_stops_its_own_entity_only(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entity keeps what came before the fault; the next run catches up to the last bit."""
    load_people(database, PEOPLE)
    undisturbed = expected(database, tmp_path)
    with monkeypatch.context() as patched:
        break_detector_of("bob", patched)
        deployment = deployment_of(database, tmp_path)
        run(deployment, FIRST_HOUR)
        assert deployment.failures == {"bob": "FloatingPointError: the model diverged"}
        assert entities_in(database, "time_series_data") == list(PEOPLE)
        for table in ("anomaly_scores", "stream_health", "gap_patterns", "model_snapshots"):
            assert entities_in(database, table) == ["ann", "cat"], table

    deployment = deployment_of(database, tmp_path)
    run(deployment, FIRST_HOUR)
    assert entities_in(database, "anomaly_scores") == list(PEOPLE)
    run(deployment, WindowRange(FIRST_HOUR.end, WINDOWS.end))
    assert deployment.failures == {}
    assert fingerprint(database) == undisturbed


def test_a_missed_hour_is_caught_up_by_the_next_run(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run over later windows first learns and scores those an entity missed."""
    load_people(database, ["ann", "bob"])
    with monkeypatch.context() as patched:
        break_detector_of("bob", patched)
        run(deployment_of(database, tmp_path), FIRST_HOUR)
    deployment = deployment_of(database, tmp_path)
    run(deployment, WindowRange(FIRST_HOUR.end, WINDOWS.end))
    assert deployment.failures == {}
    scored = query(
        database,
        "SELECT entity_id, count(DISTINCT timestamp) FROM anomaly_scores "
        "WHERE method = 'river_individual' GROUP BY 1 ORDER BY 1",
    )
    assert scored == [("ann", len(WINDOWS)), ("bob", len(WINDOWS))]


@pytest.mark.parametrize("damage", ["blob = '\\x00'", "signature = repeat('0', 64)"])
def test_damaged_snapshots_cost_a_replay_and_change_nothing(
    database: Database, tmp_path: Path, damage: str
) -> None:
    """With every snapshot of an entity unusable its state is rebuilt, and the reasons are told."""
    load_people(database, ["ann", "bob"])
    undisturbed = expected(database, tmp_path)
    run(deployment_of(database, tmp_path), FIRST_HOUR)
    damaged = execute(
        database,
        f"UPDATE model_snapshots SET {damage} WHERE entity_id = 'bob'",  # noqa: S608 - ours
    )
    assert damaged >= 3

    deployment = deployment_of(database, tmp_path)
    later = WindowRange(FIRST_HOUR.end, WINDOWS.end)
    entities = deployment.entities()
    assert list(aggregate_windows(deployment, entities, later))
    commits = list(ModelStates(IndividualTier(), deployment).advance(later))
    refused = {commit.entity_id: commit.refused for commit in commits}
    assert refused["ann"] == ()
    assert len(refused["bob"]) > 0
    assert "bob" in refused["bob"][0]
    assert "refused_snapshots" in describe(deployment, commits)
    run(deployment, later)
    assert deployment.failures == {}
    assert fingerprint(database) == undisturbed


def test_a_database_that_goes_away_ends_the_run(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is nobody's fault: nothing is recorded against an entity, and the run is for a retry."""
    load_people(database, ["ann", "bob"])

    def gone(*_: object) -> int:
        msg = "server closed the connection unexpectedly"
        raise psycopg.OperationalError(msg)

    monkeypatch.setattr(IndividualTier, "write", gone)
    deployment = deployment_of(database, tmp_path)
    with pytest.raises(psycopg.OperationalError, match="closed the connection"):
        run(deployment)
    assert deployment.failures == {}


def test_the_run_says_who_failed(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Dagster run with one faulty entity succeeds, and each asset's metadata names the entity."""
    from anomaly_assets.definitions import defs  # noqa: PLC0415 - loaded by few tests only

    start = window_of(datetime.now(tz=UTC)) - timedelta(days=2)
    windows = WindowRange.between(start, start + timedelta(hours=1))
    load_people(database, ["ann", "bob"], windows)
    break_detector_of("bob", monkeypatch)
    monkeypatch.setenv("DATABASE_URL", database.url)
    monkeypatch.setenv("ANOMALY_ASSETS_HOME", str(tmp_path))
    settings.cache_clear()
    try:
        with dg.DagsterInstance.ephemeral() as instance:
            result = defs.resolve_job_def("process_windows").execute_in_process(
                instance=instance, tags=range_tags(windows)
            )
    finally:
        settings.cache_clear()
    assert result.success
    told = {
        event.asset_key.path[-1]: event.materialization.metadata
        for event in result.get_asset_materialization_events()
        if event.asset_key is not None
    }
    for asset in ("tier1_models", "cross_stream_models", "ensemble_results", "explanations"):
        failed = told[asset]["failed_entities"].value
        assert failed == "- `bob`: FloatingPointError: the model diverged", asset
        assert told[asset]["entities"].value == 1
    assert "failed_entities" not in told["raw_readings"]


def test_a_run_in_which_every_entity_failed_fails(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nobody left there is no success to record; the failure carries each entity's reason."""
    load_people(database, ["ann"])
    break_detector_of("ann", monkeypatch)
    deployment = deployment_of(database, tmp_path)
    assert list(aggregate_windows(deployment, deployment.entities(), WINDOWS))
    commits = ModelStates(IndividualTier(), deployment).advance(WINDOWS)
    with pytest.raises(dg.Failure, match="every entity failed") as caught:
        describe(deployment, commits)
    assert "the model diverged" in str(caught.value.metadata["failed_entities"].value)


def test_an_entity_without_readings_is_left_alone(database: Database, tmp_path: Path) -> None:
    """Someone known who has never reported is no failure, and has no rows."""
    load_people(database, ["ann"])
    with database.connect() as connection:
        ensure_entity(connection, "zoe")
    deployment = deployment_of(database, tmp_path)
    run(deployment)
    assert deployment.failures == {}
    assert entities_in(database, "time_series_data") == ["ann"]
