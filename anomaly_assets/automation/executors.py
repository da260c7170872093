"""Where the steps of a run are carried out: Dagster's own executors, by a setting."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import dagster as dg
from dagster._core.execution.retries import RetryMode

from anomaly_assets.errors import SettingsError

if TYPE_CHECKING:
    from anomaly_assets.settings import Settings

#: Loaded once in the process that steps are forked from, instead of in each step.
_PRELOADED = ["anomaly_assets.definitions"]
_NEEDS = {"celery": "dagster_celery", "kubernetes": "dagster_k8s"}


def executor_of(settings: Settings) -> dg.ExecutorDefinition:
    """Return the executor that the settings name.

    Raises
    ------
    SettingsError
        If its package is not installed, or a setting that it needs is missing.
    """
    needed = _NEEDS.get(settings.executor)
    if needed is not None and find_spec(needed) is None:
        msg = (
            f"ANOMALY_ASSETS_EXECUTOR={settings.executor} needs a package that is not installed: "
            f"pip install anomaly-assets[{settings.executor}]"
        )
        raise SettingsError(msg)
    if settings.executor == "multiprocess":
        return _multiprocess(settings)
    if settings.executor == "celery":
        return _celery(settings)
    if settings.executor == "kubernetes":
        return _kubernetes(settings)
    return dg.in_process_executor


def celery_options(settings: Settings) -> dict[str, Any]:
    """Return how runs and workers reach each other, the same for both.

    Raises
    ------
    SettingsError
        If no setting says where the steps are queued.
    """
    broker = settings.celery_broker_url or settings.redis_url
    if broker is None:
        msg = (
            "ANOMALY_ASSETS_EXECUTOR=celery queues its steps in Redis; set "
            "ANOMALY_ASSETS_CELERY_BROKER_URL=redis://host:6379/1 (or ANOMALY_ASSETS_REDIS_URL)"
        )
        raise SettingsError(msg)
    url = broker.get_secret_value()
    if urlsplit(url).scheme not in {"redis", "rediss"}:
        msg = (
            "Celery reaches Redis by network only: set ANOMALY_ASSETS_CELERY_BROKER_URL to an "
            "address that begins with redis:// or rediss://"
        )
        raise SettingsError(msg)
    if url.startswith("rediss:") and "ssl_cert_reqs" not in url:
        # Celery wants it said; without verification anybody could hand out steps.
        url += f"{'&' if '?' in url else '?'}ssl_cert_reqs=required"
    return {
        "broker": url,
        "backend": url,
        "config_source": {
            "task_default_queue": settings.celery_queue,
            # A step is taken off the queue once it has ended: should its worker be gone before,
            # Redis hands it to another one after the time below.
            "task_acks_late": True,
            "broker_transport_options": {"visibility_timeout": settings.celery_redelivery_seconds},
            "broker_connection_retry_on_startup": True,
            "result_expires": 24 * 3600,
        },
    }


def _multiprocess(settings: Settings) -> dg.ExecutorDefinition:
    configured: dict[str, Any] = {"start_method": {"forkserver": {"preload_modules": _PRELOADED}}}
    if settings.executor_concurrency is not None:
        configured["max_concurrent"] = settings.executor_concurrency
    return dg.multiprocess_executor.configured(configured, name="multiprocess")


def _celery(settings: Settings) -> dg.ExecutorDefinition:
    options = celery_options(settings)

    # Not dagster-celery's own definition: its configuration, with the password in the broker's
    # address, would be part of what Dagster stores of every run.
    @dg.executor(name="celery", requirements=dg.multiple_process_executor_requirements())
    def celery(_: dg.InitExecutorContext) -> dg.Executor:
        from dagster_celery.executor import CeleryExecutor  # noqa: PLC0415 - an extra

        made: dg.Executor = CeleryExecutor(retries=RetryMode.ENABLED, **options)  # type: ignore[no-untyped-call]
        return made

    return celery


def _kubernetes(settings: Settings) -> dg.ExecutorDefinition:
    from dagster_k8s import k8s_job_executor  # noqa: PLC0415 - an extra

    configured: dict[str, Any] = {
        "job_namespace": settings.kubernetes_namespace,
        "env_secrets": list(settings.kubernetes_secrets),
    }
    if settings.kubernetes_image is not None:
        configured["job_image"] = settings.kubernetes_image
    if settings.kubernetes_service_account is not None:
        configured["service_account_name"] = settings.kubernetes_service_account
    if settings.executor_concurrency is not None:
        configured["max_concurrent"] = settings.executor_concurrency
    executor: dg.ExecutorDefinition = k8s_job_executor.configured(configured, name="kubernetes")
    return executor
