"""Everything Dagster loads."""

from __future__ import annotations

import dagster as dg

from anomaly_assets.assets.causal_network import causal_network
from anomaly_assets.assets.cross_stream import cross_stream_detection
from anomaly_assets.assets.ensemble import ensemble_results
from anomaly_assets.assets.explanations import explanations
from anomaly_assets.assets.gaps import gap_detection
from anomaly_assets.assets.individual import individual_detection
from anomaly_assets.assets.readings import raw_readings
from anomaly_assets.assets.reports import daily_report
from anomaly_assets.assets.resources import DeploymentResource, model_state
from anomaly_assets.assets.structure_suggestions import structure_suggestions
from anomaly_assets.automation.freshness import with_freshness
from anomaly_assets.automation.jobs import process_windows, upkeep
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
            raw_readings,
            individual_detection,
            gap_detection,
            cross_stream_detection,
            ensemble_results,
            explanations,
            daily_report,
            causal_network,
            structure_suggestions,
        ],
        settings(),
    ),
    jobs=[process_windows, refit_networks, upkeep],
    schedules=[hourly_upkeep, daily_report_schedule, suggestions_schedule],
    sensors=[complete_windows, late_readings, networks_due],
    resources={
        "deployment": DeploymentResource(),
        "model_state": model_state,
    },
    # A process a step costs seconds of imports each; see docs/decisions.
    executor=dg.in_process_executor,
)
