"""The Celery application of ``anomaly-assets worker``: dagster-celery's, by our settings."""

from __future__ import annotations

from dagster_celery.executor import CeleryExecutor
from dagster_celery.make_app import make_app
from dagster_celery.tasks import create_task

from anomaly_assets.automation.executors import celery_options
from anomaly_assets.settings import settings

app = make_app(  # type: ignore[no-untyped-call]
    CeleryExecutor.for_cli(**celery_options(settings())).app_args()  # type: ignore[no-untyped-call]
)
execute_plan = create_task(app)  # type: ignore[no-untyped-call]
