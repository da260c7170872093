"""``anomaly-assets worker``: carries out steps of runs that are queued in Redis."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Annotated

import typer

from anomaly_assets.automation.executors import celery_options
from anomaly_assets.automation.instance import prepare
from anomaly_assets.cli.common import open_deployment
from anomaly_assets.errors import SettingsError
from anomaly_assets.settings import settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(worker)


def worker(
    processes: Annotated[
        int | None, typer.Option(min=1, help="Steps at once; default: a step a core.")
    ] = None,
    log_level: Annotated[str, typer.Option(help="What Celery tells: info, warning, error.")] = (
        "info"
    ),
) -> None:
    """Carry out steps of runs that are queued in Redis, in the foreground, until Ctrl-C."""
    if find_spec("dagster_celery") is None:
        msg = "workers need Celery, which is not installed: pip install anomaly-assets[celery]"
        raise SettingsError(msg)
    options = settings()
    celery_options(options)
    deployment = open_deployment()
    # The definitions and the application read the environment when they are loaded.
    os.environ.update(prepare(options, deployment.database))
    from anomaly_assets.automation.celery_app import app  # noqa: PLC0415

    arguments = ["worker", "--prefetch-multiplier=1", "--queues", options.celery_queue]
    arguments += ["--loglevel", log_level, "--hostname", f"anomaly-assets-{os.getpid()}@%h"]
    if processes is not None:
        arguments += ["--concurrency", str(processes)]
    app.worker_main(arguments)
