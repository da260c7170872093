"""What our code says in a run: a line that names run and entity, and an event of the run."""

from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING

import dagster as dg

from anomaly_assets import logs
from anomaly_assets.automation.sensors import complete_windows
from anomaly_assets_tests.pipeline.people import execute

if TYPE_CHECKING:
    from anomaly_assets_tests.automation.support import Live


def test_a_fault_in_a_run_is_told_with_run_and_entity(live: Live) -> None:
    """An entity that cannot be processed is a JSON line, and stands among the run's events."""
    live.ingest(live.start, live.now)
    execute(
        live.database,
        "INSERT INTO entities (entity_id, catalogue, first_window) VALUES ('bob', 'none.yaml', %s)",
        live.start,
    )
    stream = io.StringIO()
    logs.configure("json", "info", stream)
    try:
        request = live.evaluate(complete_windows)
        assert isinstance(request, dg.RunRequest)
        assert live.run(request)
    finally:
        root = logging.getLogger()
        for handler in [one for one in root.handlers if type(one).__module__ == logs.__name__]:
            root.removeHandler(handler)
    assert logs.current() == {}, "it ends with the run"
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    told = [line for line in lines if line.get("entity") == "bob" and "run_id" in line]
    assert told
    (run,) = live.instance.get_runs(dg.RunsFilter(job_name="process_windows"), limit=1)
    assert {line["run_id"] for line in told} == {run.run_id}
    assert told[0]["level"] == "error"
    assert "none.yaml" in told[0]["message"]
    events = [entry.user_message for entry in live.instance.all_logs(run.run_id)]
    assert any("'bob' is quarantined" in message for message in events)
