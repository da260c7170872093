"""What the benchmark of a year asks the tables, on a few hours: figures, plans and no traces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anomaly_assets_tests.pipeline.people import WINDOWS, load_people, query, run
from anomaly_assets_tests.pipeline.support import deployment_of
from benchmarks.year.readings import PERSON
from benchmarks.year.statements import COPIED, QUERIES, measure

if TYPE_CHECKING:
    from pathlib import Path

    from anomaly_assets.storage.database import Database


def test_queries_and_copy_are_timed_with_their_plans(database: Database, tmp_path: Path) -> None:
    """Each query has its rows, its plan and its pages either way; what was copied is gone."""
    load_people(database, [PERSON])
    run(deployment_of(database, tmp_path))
    with database.connect() as connection:
        found = measure(connection)
        streams = connection.execute("SELECT count(DISTINCT stream_id) FROM time_series_data")
        (count,) = streams.fetchone() or (0,)
    assert count == 36
    assert found["copied_rows"] == found["last_24_hours_rows"] == len(WINDOWS) * 36
    assert found["one_stream_for_a_year_rows"] == len(WINDOWS)
    for name in QUERIES:
        assert "Scan on " in str(found[f"{name}_plan"])
        for figure in ("ms", "pages", "pages_without_index", "ms_without_index"):
            assert float(found[f"{name}_{figure}"]) > 0.0, (name, figure)
    assert float(found["copied_rows_per_second"]) > 0.0
    statement = "SELECT count(*) FROM time_series_data WHERE entity_id = %s"
    assert query(database, statement, COPIED) == [(0,)]
