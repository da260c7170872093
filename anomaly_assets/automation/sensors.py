"""Sensors that start a run as soon as there is something complete to do."""

from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus

from anomaly_assets.assets.partitions import WINDOWS, key_of, window_of_key
from anomaly_assets.automation.jobs import process_windows
from anomaly_assets.automation.ranges import late_range, next_range
from anomaly_assets.pipeline.completeness import complete_until, earliest_late_window, first_window
from anomaly_assets.pipeline.deployment import Deployment
from anomaly_assets.settings import settings
from anomaly_assets.storage.connect import connect_database
from anomaly_assets.streams.windows import WindowRange

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
#: Its last recorded partition says how far the pipeline has come. It is the job's last asset: a run
#: that failed after the model assets must be asked for again.
PROGRESS = dg.AssetKey("explanations")
MOST_FAILURES = 3
#: Under this name Dagster runs what people materialise and backfill in its UI.
_ASSET_JOB = "__ASSET_JOB"
UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dg.sensor(
    job=process_windows,
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def complete_windows(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Process every complete window that has not been processed, in order, as one run.

    The range begins after the last window Dagster has recorded, not after a cursor, so nothing is
    skipped after downtime or a failed run. No run key: a fixed one would block the retry.
    """
    return _request(context, replay=False)


@dg.sensor(
    job=process_windows,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def late_readings(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Replay from the first window that a late reading within the horizon belongs to."""
    return _request(context, replay=True)


def _request(context: dg.SensorEvaluationContext, *, replay: bool) -> dg.RunRequest | dg.SkipReason:
    if busy := _busy(context.instance):
        return dg.SkipReason(busy)
    now = datetime.now(tz=UTC)
    deployment = Deployment(settings(), connect_database(settings()), run_id="sensor")
    recorded = last_recorded(context.instance)
    if replay:
        found = late_range(earliest_late_window(deployment), recorded, _first_partition())
    else:
        found = next_range(
            first_window(deployment), recorded, complete_until(deployment, now), _first_partition()
        )
    if isinstance(found, str):
        return dg.SkipReason(found)
    windows = found.capped(settings().max_windows_per_run)
    tags = range_tags(windows)
    # The range's first window decides: what asks for more windows later is the same failure.
    begun = {RANGE_START: tags[RANGE_START]}
    failures = failures_in_a_row(context.instance, process_windows.name, begun)
    if failures >= MOST_FAILURES:
        return dg.SkipReason(
            f"{failures} runs in a row failed from window {tags[RANGE_START]}; stopped. Look at "
            "the last failed run, mend the cause and launch it again: the sensor then goes on"
        )
    return dg.RunRequest(tags=tags)


def _busy(instance: dg.DagsterInstance) -> str:
    """Return what is moving the windows already, or an empty text."""
    for job in (process_windows.name, _ASSET_JOB):
        runs = instance.get_runs(dg.RunsFilter(job_name=job, statuses=UNFINISHED), limit=1)
        if runs:
            return f"run {runs[0].run_id[:8]} is queued or running"
    backfills = instance.get_backfills(
        BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED]), limit=1
    )
    return f"backfill {backfills[0].backfill_id} is under way" if backfills else ""


def range_tags(windows: WindowRange) -> dict[str, str]:
    """Return the tags by which a run is told its range of partitions."""
    return {
        RANGE_START: key_of(windows.start_time),
        RANGE_END: key_of(windows.end_time - timedelta(minutes=5)),
    }


def last_recorded(instance: dg.DagsterInstance) -> datetime | None:
    """Return the end of the last window that Dagster has recorded for the job's last asset."""
    event = instance.get_latest_materialization_event(PROGRESS)
    materialization = None if event is None else event.asset_materialization
    if materialization is None or materialization.partition is None:
        return None
    return window_of_key(materialization.partition) + timedelta(minutes=5)


def _first_partition() -> datetime:
    first = WINDOWS.get_first_partition_key()
    return window_of_key(first) if first else datetime.now(tz=UTC)


def failures_in_a_row(instance: dg.DagsterInstance, job: str, tags: dict[str, str]) -> int:
    """Return how many of a job's last runs with these tags failed, `MOST_FAILURES` at most."""
    runs = instance.get_runs(dg.RunsFilter(job_name=job, tags=tags), limit=MOST_FAILURES)
    failed = 0
    for run in runs:
        if run.status is not dg.DagsterRunStatus.FAILURE:
            break
        failed += 1
    return failed
