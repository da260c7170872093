"""Everything Dagster loads."""

from __future__ import annotations

import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableJob

from anomaly_assets.assets.causal_network import causal_network
from anomaly_assets.assets.meta_learner import meta_learner
from anomaly_assets.assets.model_backups import model_backups
from anomaly_assets.assets.reports import daily_report
from anomaly_assets.assets.resources import DeploymentResource, model_state
from anomaly_assets.assets.structure_suggestions import structure_suggestions
from anomaly_assets.assets.windows import window_assets
from anomaly_assets.automation.executors import executor_of
from anomaly_assets.automation.feedback import meta_learner_schedule, train_meta_learner
from anomaly_assets.automation.freshness import with_freshness
from anomaly_assets.automation.jobs import process_windows, upkeep
from anomaly_assets.automation.models import (
    backups_schedule,
    look_after_models,
    models_schedule,
)
from anomaly_assets.automation.networks import (
    networks_due,
    refit_networks,
    suggestions_schedule,
)
from anomaly_assets.automation.schedules import daily_report_schedule, hourly_upkeep
from anomaly_assets.automation.sensors import complete_windows, late_readings
from anomaly_assets.logs import configure
from anomaly_assets.settings import settings

if settings().log_format == "json":
    # As text Dagster's own console writes our lines.
    configure("json", settings().log_level)

defs = dg.Definitions(
    assets=with_freshness(
        [
            *window_assets(settings()),
            daily_report,
            causal_network,
            structure_suggestions,
            model_backups,
            meta_learner,
        ],
        settings(),
    ),
    jobs=[process_windows, refit_networks, upkeep, look_after_models, train_meta_learner],
    schedules=[
        hourly_upkeep,
        daily_report_schedule,
        suggestions_schedule,
        models_schedule,
        backups_schedule,
        meta_learner_schedule,
    ],
    sensors=[complete_windows, late_readings, networks_due],
    resources={
        "deployment": DeploymentResource(),
        "model_state": model_state,
    },
    # In this process unless the settings say otherwise; see docs/scaling.md.
    executor=executor_of(settings()),
)


def process_windows_job() -> dg.JobDefinition:
    """Return the job of the pipeline; processes that carry out steps of it call this."""
    return defs.resolve_job_def(process_windows.name)


def job_to_run() -> dg.JobDefinition | ReconstructableJob:
    """Return the job of the pipeline as the executor of the settings takes it."""
    if settings().executor == "in_process":
        return process_windows_job()
    return dg.reconstructable(process_windows_job)
