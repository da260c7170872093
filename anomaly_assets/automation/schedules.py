"""Schedules of what does not follow the windows."""

from __future__ import annotations

import dagster as dg

from anomaly_assets.assets.reports import daily_report
from anomaly_assets.automation.jobs import upkeep

hourly_upkeep = dg.ScheduleDefinition(
    name="hourly_upkeep",
    job=upkeep,
    cron_schedule="17 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Partitions of the months to come, and retention of model snapshots.",
)

#: At 04:30 UTC the last window of the day before is long complete, and few people are up to wait.
daily_report_schedule = dg.build_schedule_from_partitioned_job(
    dg.define_asset_job("daily_report_job", selection=dg.AssetSelection.assets(daily_report)),
    name="daily_report_schedule",
    hour_of_day=4,
    minute_of_hour=30,
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
