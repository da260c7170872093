"""Everything Dagster loads."""

from __future__ import annotations

import dagster as dg

from anomaly_assets.assets.causal_network import causal_network
from anomaly_assets.assets.cross_stream import cross_stream_detection
from anomaly_assets.assets.ensemble import ensemble_results
from anomaly_assets.assets.explanations import explanations
from anomaly_assets.assets.gaps import gap_detection
from anomaly_assets.assets.individual import individual_detection
from anomaly_assets.assets.meta_learner import meta_learner
from anomaly_assets.assets.readings import raw_readings
from anomaly_assets.assets.reports import daily_report
from anomaly_assets.assets.resources import DeploymentResource, model_state
from anomaly_assets.assets.structure_suggestions import structure_suggestions
from anomaly_assets.automation.feedback import meta_learner_schedule, train_meta_learner
from anomaly_assets.automation.jobs import process_windows, upkeep
from anomaly_assets.automation.networks import (
    networks_due,
    refit_networks,
    suggestions_schedule,
)
from anomaly_assets.automation.schedules import daily_report_schedule, hourly_upkeep
from anomaly_assets.automation.sensors import complete_windows, late_readings

defs = dg.Definitions(
    assets=[
        raw_readings,
        individual_detection,
        gap_detection,
        cross_stream_detection,
        ensemble_results,
        explanations,
        daily_report,
        causal_network,
        structure_suggestions,
        meta_learner,
    ],
    jobs=[process_windows, refit_networks, upkeep, train_meta_learner],
    schedules=[
        hourly_upkeep,
        daily_report_schedule,
        suggestions_schedule,
        meta_learner_schedule,
    ],
    sensors=[complete_windows, late_readings, networks_due],
    resources={
        "deployment": DeploymentResource(),
        "model_state": model_state,
    },
    # A process a step costs seconds of imports each; see docs/decisions.
    executor=dg.in_process_executor,
)
