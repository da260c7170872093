"""Launching runs over a range of windows from outside of Dagster's own processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from anomaly_assets.automation.sensors import range_tags

if TYPE_CHECKING:
    import dagster as dg

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
    job: dg.JobDefinition, instance: dg.DagsterInstance, windows: WindowRange
) -> RunOutcome:
    """Process a range of windows as one Dagster run in this process, recorded like any other.

    Parameters
    ----------
    job
        The job ``process_windows``, from the definitions.
    instance
        Where the run is recorded.
    windows
        What to process.
    """
    result = job.execute_in_process(
        instance=instance, tags=range_tags(windows), raise_on_error=False
    )
    failures = [
        event.step_failure_data.error_display_string
        for event in result.all_events
        if event.is_step_failure
    ]
    checks = [
        f"{evaluation.asset_key.path[-1]}: {evaluation.check_name}"
        for evaluation in result.get_asset_check_evaluations()
        if not evaluation.passed
    ]
    return RunOutcome(
        result.run_id, result.success, failures[0].strip() if failures else "", tuple(checks)
    )
