"""The benchmark of faults, in small: it finds nothing wrong, and would find what is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anomaly_assets_tests.live.sources.servers import needs_redis
from anomaly_assets_tests.pipeline.people import (
    START,
    WINDOWS,
    execute,
    load_people,
    query,
    run,
)
from anomaly_assets_tests.pipeline.support import deployment_of
from benchmarks.faults.course import Plan, carry_out
from benchmarks.faults.outcome import compare
from benchmarks.faults.senders import Reading

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from anomaly_assets.storage.database import Database


@needs_redis
def test_three_kills_lose_nothing_and_change_nothing() -> None:
    """API, database and Redis are killed while readings come; the end is that of a calm run."""
    plan = Plan(rounds=3, seed=7, hours=1, people=1, kinds=("api", "database", "redis"))
    found = carry_out(plan)
    assert sum(found["kills"].values()) >= 3
    assert found["acknowledged"] > 100
    assert found["compared_rows"] > 100
    assert (found["lost"], found["duplicated"], found["different_rows"]) == (0, 0, 0), found
    assert found["live_differences"] == 0


def test_what_is_wrong_is_found(
    database: Database, module_database: Database, tmp_path: Path
) -> None:
    """A reading that is gone, one too many, and a score with another last bit are counted."""
    for one in (database, module_database):
        load_people(one, ["ann"])
        run(deployment_of(one, tmp_path))
    sent = [
        Reading(at, *rest)
        for at, *rest in query(
            database, "SELECT event_time, entity_id, stream_id, value FROM readings"
        )
    ]
    calm = compare(database, module_database, sent)
    assert (calm.lost, calm.duplicated, sum(calm.different_rows.values())) == (0, 0, 0)
    assert calm.rows > len(WINDOWS)
    first, second = min(sent), max(sent)
    execute(database, "DELETE FROM readings WHERE (event_time, stream_id) = (%s, %s)", *key(first))
    execute(
        database,
        "INSERT INTO readings SELECT entity_id, event_time + interval '1 microsecond', stream_id, "
        "value, received_at, source, late FROM readings WHERE (event_time, stream_id) = (%s, %s)",
        *key(second),
    )
    execute(
        database,
        "UPDATE anomaly_scores SET anomaly_score = anomaly_score + 1e-16 "
        "WHERE method = 'ensemble' AND timestamp = %s",
        START,
    )
    found = compare(database, module_database, sent)
    assert (found.lost, found.duplicated) == (1, 1)
    assert {t: n for t, n in found.different_rows.items() if n} == {"anomaly_scores": 1}


def key(reading: Reading) -> tuple[datetime, str]:
    """Return what tells a person's reading from the others."""
    return reading.at, reading.stream_id
