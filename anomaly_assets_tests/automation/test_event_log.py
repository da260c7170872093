"""What Dagster's event log holds after a run over a range of partitions."""

from collections.abc import Sequence
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    SqlEventLogStorageTable,
)
from dagster_postgres.event_log import PostgresEventLogStorage

from anomaly_assets.automation.event_log import RangeEventLogStorage
from anomaly_assets_tests.automation.support import Live

HOURS = dg.HourlyPartitionsDefinition(start_date="2026-01-01-00:00", end_date="2026-01-03-00:00")
FIRST, LAST = "2026-01-01-00:00", "2026-01-01-11:00"


@dg.asset(
    partitions_def=HOURS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    check_specs=[dg.AssetCheckSpec("holds", asset="measured")],
)
def measured() -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Measure nothing, with a text that has to be quoted."""
    check = dg.AssetCheckResult(passed=True, check_name="holds")
    return dg.MaterializeResult(
        metadata={"said": 'it\'s {a} "test", 50 % ü'}, check_results=[check]
    )


def run_range(live: Live) -> str:
    """Run the asset over twelve partitions as one run; return its identifier."""
    job = dg.Definitions(
        assets=[measured], jobs=[dg.define_asset_job("measure", "measured")]
    ).resolve_job_def("measure")
    tags = {
        "dagster/asset_partition_range_start": FIRST,
        "dagster/asset_partition_range_end": LAST,
    }
    return job.execute_in_process(instance=live.instance, tags=tags).run_id


def rows(storage: PostgresEventLogStorage, table: sa.Table) -> list[dict[str, Any]]:
    """Return a table of Dagster's, oldest row first."""
    with storage.index_connection() as connection:
        found = connection.execute(sa.select(table).order_by(table.c.id))
        return [dict(row._mapping) for row in found]


@pytest.fixture
def storage(live: Live) -> RangeEventLogStorage:
    """Return the event log that the shipped dagster.yaml names."""
    found = live.instance.event_log_storage
    assert isinstance(found, RangeEventLogStorage)
    return found


def test_check_of_a_range_is_one_execution(live: Live, storage: RangeEventLogStorage) -> None:
    """A check over twelve partitions leaves one row, which says that it passed."""
    run_id = run_range(live)
    (execution,) = rows(storage, AssetCheckExecutionsTable)
    assert execution["run_id"] == run_id
    assert execution["execution_status"] == "SUCCEEDED"
    assert execution["partition"] is None


def test_every_partition_of_a_range_is_materialised(
    live: Live, storage: RangeEventLogStorage
) -> None:
    """Each partition has one event of its own, in order, with its metadata."""
    run_range(live)
    assert isinstance(storage, RangeEventLogStorage)
    records = live.instance.fetch_materializations(dg.AssetKey("measured"), limit=20).records
    assert [record.partition_key for record in reversed(records)] == [
        f"2026-01-01-{hour:02}:00" for hour in range(12)
    ]
    said = {record.asset_materialization.metadata["said"].value for record in records}  # type: ignore[union-attr]
    assert said == {'it\'s {a} "test", 50 % ü'}


def test_batch_is_stored_as_dagsters_own_storage_does(
    live: Live, storage: RangeEventLogStorage
) -> None:
    """The same events, stored by both, are the same rows, column by column."""
    run_range(live)
    events = live.instance.all_logs(
        run_range(live), of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
    )
    assert len(events) == 12

    def stored_by(one: PostgresEventLogStorage) -> Sequence[dict[str, Any]]:
        before = len(rows(storage, SqlEventLogStorageTable))
        one.store_event_batch(list(events))
        added = rows(storage, SqlEventLogStorageTable)[before:]
        return [{name: value for name, value in row.items() if name != "id"} for row in added]

    theirs = stored_by(PostgresEventLogStorage(storage.postgres_url))
    assert len(theirs) == 12
    assert stored_by(storage) == theirs
