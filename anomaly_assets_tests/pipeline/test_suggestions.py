"""Suggestions of entities: edges of the last week, courses of events of the last month."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from anomaly_assets.pipeline.suggestions import mine_patterns, suggest_structure
from anomaly_assets.storage import journal
from anomaly_assets.storage.identifiers import Decision, SuggestionKind
from anomaly_assets.storage.suggestions import decide, list_suggestions
from anomaly_assets.streams.aggregation import Readings
from anomaly_assets.streams.catalogue import SequenceTemplate
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets_tests.pipeline.home import END, PROCESS, store_week, write_home
from anomaly_assets_tests.pipeline.people import execute, query
from anomaly_assets_tests.pipeline.support import deployment_of

if TYPE_CHECKING:
    from pathlib import Path

    from anomaly_assets.storage.database import Database


def store_courses(database: Database, entity_id: str, catalogue: Path, count: int) -> None:
    """Store anomalies that all go the same way: the first stream, four minutes later the second."""
    loaded = load_catalogue(catalogue)
    rng = np.random.default_rng(1)
    minutes = 120
    for number in range(count):
        onset = END - timedelta(hours=6 * (number + 1))
        start = onset - timedelta(minutes=80)
        values = rng.normal(0.0, 1.0, (minutes, 3))
        values[80:110, 0] += 20.0
        values[84:110, 1] += 20.0
        microseconds = (int(start.timestamp()) + 60 * np.arange(minutes)) * 1_000_000
        readings = Readings(
            np.tile(np.arange(3), minutes), np.repeat(microseconds, 3), values.ravel()
        )
        with database.connect() as connection:
            journal.append_readings(
                connection,
                entity_id,
                readings,
                loaded,
                source="test",
                late_horizon=timedelta(days=60),
            )
            for window in range(3):
                connection.execute(
                    "INSERT INTO anomaly_scores (entity_id, timestamp, stream_id, method, "
                    "anomaly_score) VALUES (%s, %s, '_entity', 'ensemble', 0.9)",
                    (entity_id, onset + timedelta(minutes=5 * window)),
                )


def test_edges_of_the_week_are_suggested_and_stored(database: Database, tmp_path: Path) -> None:
    """What drives what is found in the stored windows; a second night finds nothing new, and what
    was rejected stays so.
    """
    path = write_home(tmp_path)
    store_week(database, "ann", path)
    deployment = deployment_of(database, tmp_path)
    (first,) = suggest_structure(deployment, deployment.entities(), [END])
    found = {(one.payload["cause"], one.payload["effect"]) for one in first.edges}
    assert len(found & PROCESS.truth) >= 0.7 * len(PROCESS.truth)
    assert first.new == len(first.edges) > 0
    assert first.patterns == ()
    with database.connect() as connection:
        stored = list_suggestions(connection, entity_id="ann")
        assert {one.subject for one in stored} == {f"{a} -> {b}" for a, b in found}
        assert all(one.support >= 0.7 for one in stored)
        assert all("the data of ann" in one.payload["reason"] for one in stored)
        decide(connection, stored[0].suggestion_id, Decision.REJECTED, "Ann")
        (second,) = suggest_structure(deployment, deployment.entities(), [END])
        assert second.edges == first.edges
        assert second.new == 0
        assert len(list_suggestions(connection, status=Decision.OPEN)) == len(stored) - 1


def test_known_edges_are_no_news(database: Database, tmp_path: Path) -> None:
    """What the catalogue says already is not suggested."""
    path = write_home(tmp_path)
    edges = "".join(f"  - {{cause: {a}, effect: {b}}}\n" for a, b in sorted(PROCESS.truth))
    path.write_text(f"{path.read_text()}causal_edges:\n{edges}")
    store_week(database, "ann", path)
    deployment = deployment_of(database, tmp_path)
    (only,) = suggest_structure(deployment, deployment.entities(), [END])
    found = {(one.payload["cause"], one.payload["effect"]) for one in only.edges}
    assert found.isdisjoint(PROCESS.truth)


def test_one_entitys_trouble_is_its_own(database: Database, tmp_path: Path) -> None:
    """A lost row stops its own entity, and is told; who has no windows is passed over."""
    path = write_home(tmp_path)
    for entity in ("ann", "bob", "cat"):
        store_week(database, entity, path)
    execute(
        database,
        "DELETE FROM time_series_data WHERE entity_id = 'bob' AND stream_id = 's03' "
        "AND timestamp = %s",
        END - timedelta(days=2),
    )
    execute(database, "DELETE FROM time_series_data WHERE entity_id = 'cat'")
    deployment = deployment_of(database, tmp_path)
    suggested = list(suggest_structure(deployment, deployment.entities(), [END]))
    assert [one.entity_id for one in suggested] == ["ann"]
    assert list(deployment.failures) == ["bob"]
    assert query(database, "SELECT DISTINCT entity_id FROM suggestions") == [("ann",)]


def test_courses_of_events_are_mined(database: Database, tmp_path: Path) -> None:
    """Anomalies that go the same way suggest a template of it, which the catalogue would take."""
    path = write_home(tmp_path)
    store_week(database, "ann", path)
    store_courses(database, "ann", path, 6)
    deployment = deployment_of(database, tmp_path)
    mined = mine_patterns(deployment, deployment.entity("ann"), END)
    (pattern,) = mined.patterns
    assert pattern.subject == "first_up -> second_up"
    assert pattern.support == 1.0
    assert (pattern.payload["count"], pattern.payload["of"]) == (6, 6)
    template = SequenceTemplate.model_validate(pattern.payload["template"])
    assert template.title == "First up, then second up"
    assert [step.offset_minutes for step in template.steps] == [0.0, 4.0]
    assert mined.new == 1
    assert mine_patterns(deployment, deployment.entity("ann"), END).new == 0
    with database.connect() as connection:
        (stored,) = list_suggestions(connection, kind=SuggestionKind.PATTERN)
    assert stored.last_seen == END


def test_a_known_course_of_events_is_no_news(database: Database, tmp_path: Path) -> None:
    """A template that has these events keeps them from being suggested."""
    path = write_home(tmp_path)
    path.write_text(
        path.read_text() + "templates:\n  - name: known\n    title: Known\n    steps:\n"
        "      - {event: first_up}\n      - {event: second_up, offset_minutes: 4}\n"
        "    recommended_action: Nothing to do.\n"
    )
    store_week(database, "ann", path)
    store_courses(database, "ann", path, 6)
    deployment = deployment_of(database, tmp_path)
    assert mine_patterns(deployment, deployment.entity("ann"), END).patterns == ()


def test_few_anomalies_suggest_nothing(database: Database, tmp_path: Path) -> None:
    """Two anomalies alike are chance; none at all is no error."""
    path = write_home(tmp_path)
    store_week(database, "ann", path)
    deployment = deployment_of(database, tmp_path)
    assert mine_patterns(deployment, deployment.entity("ann"), END).patterns == ()
    store_courses(database, "ann", path, 2)
    assert mine_patterns(deployment, deployment.entity("ann"), END).patterns == ()
