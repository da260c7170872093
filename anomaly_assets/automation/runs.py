"""Launching runs over a range of windows from outside of Dagster's own processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value

from anomaly_assets.assets.partitions import WINDOWS
from anomaly_assets.automation.sensors import range_tags

if TYPE_CHECKING:
    from dagster._core.definitions.reconstruct import ReconstructableJob
    from dagster._core.execution.execution_result import ExecutionResult

    from anomaly_assets.streams.windows import WindowRange


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended.

    Parameters
    ----------
    run_id
        Dagster's identifier.
    succeeded
        Whether every asset was materialised.
    error
        First failure, empty if there was none.
    failed_checks
        Asset checks that did not pass, as ``asset: check``.
    """

    run_id: str
    succeeded: bool
    error: str
    failed_checks: tuple[str, ...]


def run_windows(
    job: dg.JobDefinition | ReconstructableJob, instance: dg.DagsterInstance, windows: WindowRange
) -> RunOutcome:
    """Process a range of windows as one Dagster run, led from this process.

    Parameters
    ----------
    job
        The job ``process_windows``, from the definitions: carried out in this process, or, given so
        that other processes can load it, by the executor of the settings.
    instance
        Where the run is recorded.
    windows
        What to process.
    """
    tags = range_tags(windows)
    if isinstance(job, dg.JobDefinition):
        result = job.execute_in_process(instance=instance, tags=tags, raise_on_error=False)
        outcome = _outcome(result)
    else:
        with dg.execute_job(job, instance=instance, tags=tags) as led:
            outcome = _outcome(led)
    # What the pages show of partitions: here, and not while somebody waits for the first of them.
    definition = job if isinstance(job, dg.JobDefinition) else job.get_definition()
    for asset in definition.asset_layer.executable_asset_keys:
        get_and_update_asset_status_cache_value(instance, asset, WINDOWS)
    return outcome


def _outcome(result: ExecutionResult) -> RunOutcome:
    failures = [
        event.step_failure_data.error_display_string
        for event in result.all_events
        if event.is_step_failure
    ]
    failures += [
        event.message or "" for event in result.all_events if event.is_failure and not failures
    ]
    checks = [
        f"{evaluation.asset_key.path[-1]}: {evaluation.check_name}"
        for evaluation in result.get_asset_check_evaluations()
        if not evaluation.passed
    ]
    return RunOutcome(
        result.run_id, result.success, failures[0].strip() if failures else "", tuple(checks)
    )
