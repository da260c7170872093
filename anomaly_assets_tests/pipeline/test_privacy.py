"""Forgetting: all of an entity, though others are at work; and what was exported comes back."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from anomaly_assets.errors import EntityForgottenError, InputError, StateError
from anomaly_assets.ingestion.ingest import ingest_files
from anomaly_assets.pipeline import privacy
from anomaly_assets.pipeline.privacy import (
    COMPONENTS,
    count_stored,
    forget_entity,
    subject_of,
)
from anomaly_assets.pipeline.whole import process
from anomaly_assets.storage.entities import hold_entity
from anomaly_assets.storage.exporting import export_entity
from anomaly_assets.storage.windows import entity_lock
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets_tests.pipeline.people import WINDOWS, load_people, query, run
from anomaly_assets_tests.pipeline.support import deployment_of, fingerprint

if TYPE_CHECKING:
    from pathlib import Path

    from anomaly_assets.pipeline.deployment import Deployment
    from anomaly_assets.storage.database import Database


@pytest.fixture
def deployment(database: Database, tmp_path: Path) -> Deployment:
    """Return a deployment with three hours of ann and bob, scored."""
    load_people(database, ["ann", "bob"])
    deployment = deployment_of(database, tmp_path)
    run(deployment)
    return deployment


def test_what_is_forgotten_is_recorded_without_a_name(deployment: Deployment) -> None:
    """Who, when and how much; of whom, only those can tell who have the key."""
    counts = count_stored(deployment, "ann")
    forgotten = forget_entity(deployment, "ann", by="Cyd")
    assert dict(forgotten.counts) == counts
    ((subject, by, recorded),) = query(
        deployment.database, "SELECT subject, erased_by, counts FROM erasures"
    )
    assert subject == subject_of(deployment, "ann") == forgotten.subject
    assert subject != subject_of(deployment, "bob")
    assert (by, recorded) == ("Cyd", counts)
    assert "ann" not in repr(query(deployment.database, "SELECT * FROM erasures"))
    with pytest.raises(InputError, match="nothing is stored"):
        forget_entity(deployment, "ann", by="Cyd")


def test_the_others_are_scored_as_before(deployment: Deployment) -> None:
    """Forgetting ann changes no row of bob, and a run over bob goes on."""
    database = deployment.database
    forget_entity(deployment, "ann", by="Cyd")
    before = fingerprint(database)
    fresh = deployment_of(database, deployment.settings.home)
    run(fresh)
    assert not fresh.failures
    assert fingerprint(database) == before
    assert query(database, "SELECT DISTINCT entity_id FROM anomaly_scores") == [("bob",)]


def test_a_run_at_work_does_not_bring_it_back(deployment: Deployment) -> None:
    """Forgotten between two steps, an entity fails for the rest of the run and leaves no row."""
    database = deployment.database
    steps = process(deployment, WINDOWS)
    next(steps)
    forget_entity(deployment, "ann", by="Cyd")
    for _ in steps:
        pass
    assert set(deployment.failures) <= {"ann"}
    with pytest.raises(InputError, match="nothing is stored"):
        count_stored(deployment, "ann")
    assert query(database, "SELECT count(*) > 0 FROM anomaly_scores") == [(True,)]


def test_a_writer_is_waited_for(deployment: Deployment) -> None:
    """Rows that are being written when it begins are deleted with the rest."""
    database = deployment.database
    with database.connect() as writer:
        with writer.transaction():
            hold_entity(writer, "ann")
            thread = threading.Thread(
                target=forget_entity, args=(deployment, "ann"), kwargs={"by": "C"}
            )
            thread.start()
            writer.execute(
                'INSERT INTO late_windows (entity_id, "window", readings) '
                "VALUES ('ann', now(), 1)"
            )
        thread.join(60)
        assert not thread.is_alive()
        with pytest.raises(EntityForgottenError, match="'ann'"):
            hold_entity(writer, "ann")
    assert query(database, "SELECT * FROM late_windows") == []


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_run_that_does_not_end_is_said_so(
    deployment: Deployment, component: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever writes states of the entity has the lock; nothing is deleted then."""
    monkeypatch.setattr(privacy, "_PATIENCE_SECONDS", 1)
    counts = count_stored(deployment, "ann")
    with (
        deployment.database.connect() as writer,
        entity_lock(writer, "ann", component),
        pytest.raises(StateError, match="nothing was deleted"),
    ):
        forget_entity(deployment, "ann", by="Cyd")
    assert count_stored(deployment, "ann") == counts


def test_what_was_exported_can_be_taken_in_again(deployment: Deployment, tmp_path: Path) -> None:
    """Export, forget, ingest, process: the same scores to the last bit."""
    database = deployment.database
    before = fingerprint(database)
    with database.connect() as connection:
        export_entity(connection, "ann", tmp_path / "ann", about={})
    forget_entity(deployment, "ann", by="Cyd")
    report = ingest_files(
        database, [tmp_path / "ann" / "readings.parquet"], catalogue=load_catalogue("default")
    )
    assert report.accepted == report.rows > 0
    fresh = deployment_of(database, deployment.settings.home)
    run(fresh)
    assert not fresh.failures
    found = fingerprint(database)
    # Explanations also speak of when readings came, which an export cannot bring back.
    del before["causal_explanations"], found["causal_explanations"]
    assert found == before
