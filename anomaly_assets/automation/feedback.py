"""The nightly training of the meta-learner."""

import dagster as dg

from anomaly_assets.assets.meta_learner import meta_learner

train_meta_learner = dg.define_asset_job(
    "train_meta_learner",
    selection=dg.AssetSelection.assets(meta_learner),
    description="The meta-learner, from the labels there are.",
)

#: After the nightly suggestions, so that the two do not compete for the machine.
meta_learner_schedule = dg.ScheduleDefinition(
    name="nightly_meta_learner",
    job=train_meta_learner,
    cron_schedule="20 4 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
