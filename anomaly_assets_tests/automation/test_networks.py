"""Networks are refitted by themselves once an hour of windows has been processed."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg
import pytest

from anomaly_assets.automation import networks
from anomaly_assets.automation.runs import run_windows
from anomaly_assets.pipeline import network
from anomaly_assets.streams.windows import WindowRange
from anomaly_assets_tests.automation.support import Live, recorded
from anomaly_assets_tests.pipeline.people import query

HOUR = timedelta(hours=1)


def process_until_full_hour(live: Live) -> None:
    """Process the windows up to some minutes past the last full hour but one."""
    live.ingest(live.start, live.now)
    end = live.now.replace(minute=10, second=0, microsecond=0) - HOUR
    assert run_windows(live.job, live.instance, WindowRange.between(live.start, end)).succeeded


def run(live: Live, request: dg.RunRequest) -> bool:
    """Run what the sensor asked for."""
    result = live.defs.resolve_job_def("refit_networks").execute_in_process(
        instance=live.instance,
        partition_key=request.partition_key,
        tags=dict(request.tags),
        raise_on_error=False,
    )
    return result.success


def test_the_last_full_hour_is_fitted_once(live: Live) -> None:
    """The sensor asks for the last hour all of whose windows have been processed; it is fitted at
    the hour's end, and not asked for again.
    """
    pytest.importorskip("pgmpy", reason="needs the extra `causal`")
    process_until_full_hour(live)
    hour = live.now.replace(minute=0, second=0, microsecond=0) - HOUR
    request = live.evaluate(networks.networks_due)
    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == (hour - HOUR).strftime("%Y-%m-%d-%H:%M")
    assert run(live, request)
    assert query(live.database, "SELECT entity_id, fitted_at FROM causal_networks") == [
        ("ann", hour)
    ]
    assert recorded(live, "causal_network") == [request.partition_key]
    assert "have been fitted" in str(live.evaluate(networks.networks_due))


def test_nothing_is_fitted_before_anything_is_processed(live: Live) -> None:
    """A new deployment waits."""
    assert "no window has been processed" in str(live.evaluate(networks.networks_due))


def test_a_failing_fit_is_tried_three_times(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault that stays is not tried for ever; the next hour has another chance."""
    process_until_full_hour(live)

    def broken(*_: object, **__: object) -> None:
        msg = "the algebra broke"
        raise FloatingPointError(msg)

    monkeypatch.setattr(network, "fit_network", broken)
    for _ in range(networks.MOST_FAILURES):
        request = live.evaluate(networks.networks_due)
        assert isinstance(request, dg.RunRequest)
        assert not run(live, request)
    assert "3 runs in a row failed" in str(live.evaluate(networks.networks_due))


def test_suggestions_are_searched_at_night() -> None:
    """The nightly schedule asks for the day before."""
    from anomaly_assets.definitions import defs  # noqa: PLC0415 - loaded by few tests only

    schedule = defs.get_repository_def().get_schedule_def("nightly_suggestions")
    assert schedule.cron_schedule == "40 3 * * *"
    assert schedule.job_name == "suggest_structure"
