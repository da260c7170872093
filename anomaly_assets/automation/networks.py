"""Refitting the causal networks as the windows come in, and the nightly search for more."""

from datetime import timedelta

import dagster as dg

from anomaly_assets.assets.causal_network import causal_network
from anomaly_assets.assets.partitions import HOURS
from anomaly_assets.assets.structure_suggestions import structure_suggestions
from anomaly_assets.automation.sensors import UNFINISHED, failures_in_a_row, last_recorded

PARTITION = "dagster/partition"
MOST_FAILURES = 3

refit_networks = dg.define_asset_job(
    "refit_networks",
    selection=dg.AssetSelection.assets(causal_network),
    description="The causal networks of an hour.",
)


@dg.sensor(
    job=refit_networks,
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def networks_due(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Refit the networks once all windows of an hour have been processed.

    The last such hour alone: a network of the hours before would be replaced at once. It follows
    the windows and not the clock, so that it works for old recordings too.
    """
    instance = context.instance
    recorded = last_recorded(instance)
    if recorded is None:
        return dg.SkipReason("no window has been processed yet")
    end = recorded.replace(minute=0, second=0, microsecond=0)
    key = (end - timedelta(hours=1)).strftime(HOURS.fmt)
    if not HOURS.has_partition_key(key):
        return dg.SkipReason(f"the hour {key} lies outside of the partitions")
    event = instance.get_latest_materialization_event(causal_network.key)
    fitted = None if event is None else event.asset_materialization
    if fitted is not None and (fitted.partition or "") >= key:
        return dg.SkipReason(f"the networks of {fitted.partition} have been fitted")
    runs = instance.get_runs(
        dg.RunsFilter(job_name=refit_networks.name, statuses=UNFINISHED), limit=1
    )
    if runs:
        return dg.SkipReason(f"run {runs[0].run_id[:8]} is queued or running")
    tags = {PARTITION: key}
    if (failures := failures_in_a_row(instance, refit_networks.name, tags)) >= MOST_FAILURES:
        return dg.SkipReason(
            f"{failures} runs in a row failed for {key}; waiting for the next hour"
        )
    return dg.RunRequest(partition_key=key)


#: At 03:40 UTC the day before is complete, and people's machines are idle.
suggestions_schedule = dg.build_schedule_from_partitioned_job(
    dg.define_asset_job(
        "suggest_structure", selection=dg.AssetSelection.assets(structure_suggestions)
    ),
    name="nightly_suggestions",
    hour_of_day=3,
    minute_of_hour=40,
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
