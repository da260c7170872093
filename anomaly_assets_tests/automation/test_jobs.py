"""The job that keeps the database in order, as Dagster runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anomaly_assets.definitions import defs
from anomaly_assets_tests.pipeline.people import execute, load_people, query

if TYPE_CHECKING:
    from anomaly_assets_tests.automation.support import Live


def test_upkeep_drops_old_readings_and_says_how_many(live: Live) -> None:
    """What goes, and what has to wait, is metadata of the step."""
    load_people(live.database, ["ann"])
    job = defs.resolve_job_def("upkeep")

    def metadata() -> dict[str, object]:
        result = job.execute_in_process(instance=live.instance)
        assert result.success
        (step,) = (
            event.step_output_data
            for event in result.events_for_node("retain_raw_readings")
            if event.is_successful_output
        )
        return {name: value.value for name, value in step.metadata.items()}

    ((readings,),) = query(live.database, "SELECT count(*) FROM readings")
    waits = metadata()
    assert waits["readings"] == 0
    assert waits["waiting"] == ["partitions.readings_2026_01"]
    execute(live.database, "UPDATE entities SET aggregated_until = '2026-02-03'")
    gone = metadata()
    assert (gone["server"], gone["readings"], gone["waiting"]) == ("native", readings, [])
    assert gone["dropped"] == ["partitions.readings_2026_01"]
    assert query(live.database, "SELECT count(*) FROM readings") == [(0,)]
