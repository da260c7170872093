"""Looking after the models: what was left pending, what has degraded, what needs retraining."""

import dagster as dg

from anomaly_assets.assets.common import STATE_POOL
from anomaly_assets.assets.model_backups import model_backups
from anomaly_assets.assets.resources import DeploymentResource, with_failures
from anomaly_assets.pipeline.degradation import watch
from anomaly_assets.pipeline.retraining import retrain_due
from anomaly_assets.pipeline.rollback import resume_pending


@dg.op(pool=STATE_POOL)
def resume_actions(context: dg.OpExecutionContext, deployment: DeploymentResource) -> int:
    """Complete rollbacks and restores that a kill has left half way."""
    done = resume_pending(deployment.current)
    lines = [f"- `{one.entity_id}`, action {one.action_id}: {one.failed or 'done'}" for one in done]
    metadata: dict[str, dg.MetadataValue] = {"actions": dg.MetadataValue.md("\n".join(lines))}
    context.add_output_metadata(with_failures(deployment.current, metadata, done=True))
    return len(done)


@dg.op(pool=STATE_POOL)
def watch_models(
    context: dg.OpExecutionContext, deployment: DeploymentResource, resumed: int
) -> int:
    """Hold each model against its own past; take back a change that made one worse."""
    del resumed
    found = watch(deployment.current, who=context.run_id)
    lines = [
        f"- `{one.entity_id}` {one.component}: {one.why}"
        + (f", {one.suspect}" if one.suspect else "")
        + (f"; rolled back by action {one.rolled_back.action_id}" if one.rolled_back else "")
        for one in found
    ]
    metadata: dict[str, dg.MetadataValue] = {
        "degraded": dg.MetadataValue.int(len(found)),
        "rolled_back": dg.MetadataValue.int(sum(one.rolled_back is not None for one in found)),
        "models": dg.MetadataValue.md("\n".join(lines)),
    }
    context.add_output_metadata(with_failures(deployment.current, metadata, done=True))
    return len(found)


@dg.op(pool=STATE_POOL)
def retrain_models(
    context: dg.OpExecutionContext, deployment: DeploymentResource, degraded: int
) -> int:
    """Retrain the models of streams that need it, and take over those that do better."""
    del degraded
    done = retrain_due(deployment.current, who=context.run_id)
    lines = [f"- `{one.entity_id}` {', '.join(one.streams or ())}: {one.said}" for one in done]
    metadata: dict[str, dg.MetadataValue] = {
        "tried": dg.MetadataValue.int(len(done)),
        "taken_over": dg.MetadataValue.int(sum(one.version is not None for one in done)),
        "models": dg.MetadataValue.md("\n".join(lines)),
    }
    context.add_output_metadata(with_failures(deployment.current, metadata, done=True))
    return len(done)


@dg.job(
    description="What was left pending is completed, degraded models are found and changes taken "
    "back, models that need it are retrained; every action is on record in model_actions."
)
def look_after_models() -> None:
    """Keep the models sound."""
    retrain_models(watch_models(resume_actions()))


#: Hourly, since what is pending should not wait for the night; models are retrained once a day at
#: most, whatever the hour.
models_schedule = dg.ScheduleDefinition(
    name="hourly_models",
    job=look_after_models,
    cron_schedule="37 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Pending actions, degradation and retraining of models.",
)

#: At 02:20 UTC: before the suggestions and the report of the day, which it does not hold.
backups_schedule = dg.build_schedule_from_partitioned_job(
    dg.define_asset_job("back_up_models", selection=dg.AssetSelection.assets(model_backups)),
    name="daily_model_backups",
    hour_of_day=2,
    minute_of_hour=20,
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
