"""Stalled assets turn red: policies on every asset, judged by Dagster's own daemon."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.test_utils import freeze_time
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster._daemon.freshness import FreshnessDaemon

from anomaly_assets.automation.freshness import EVERY_DAY, EVERY_HOUR, EVERY_WINDOW, with_freshness
from anomaly_assets.automation.sensors import complete_windows
from anomaly_assets.definitions import defs
from anomaly_assets.settings import Settings

if TYPE_CHECKING:
    from anomaly_assets_tests.automation.support import Live


def test_every_asset_has_a_policy() -> None:
    """Assets of windows are due within the hour, the others by their own clocks."""
    beside = {"causal_network": EVERY_HOUR, "daily_report": EVERY_DAY}
    beside |= {"structure_suggestions": EVERY_DAY, "model_backups": EVERY_DAY}
    beside |= {"meta_learner": EVERY_DAY}
    for spec in defs.resolve_all_asset_specs():
        warn, fail = beside.get(spec.key.path[-1], EVERY_WINDOW)
        policy = dg.FreshnessPolicy.time_window(fail_window=fail, warn_window=warn)
        assert spec.freshness_policy == policy, spec.key


def test_old_recordings_do_not_grow_stale() -> None:
    """Where the windows end nothing is due any more."""

    @dg.asset
    def readings() -> None:
        """Do nothing."""

    ended = Settings(_env_file=None, window_end=datetime(2026, 1, 1, tzinfo=UTC))
    (same,) = with_freshness([readings], ended)
    assert next(iter(same.specs)).freshness_policy is None
    (watched,) = with_freshness([readings], Settings(_env_file=None))
    assert next(iter(watched.specs)).freshness_policy is not None


def test_the_daemon_is_enabled(live: Live) -> None:
    """dagster.yaml has the daemon run that judges, without anything to be paid for."""
    assert live.instance.freshness_enabled
    assert "FRESHNESS_DAEMON" in live.instance.get_required_daemon_types()


def test_a_stalled_pipeline_turns_red(live: Live) -> None:
    """Right after a run its assets pass; half an hour later they warn, after an hour they fail."""
    live.ingest(live.start, live.now)
    request = live.evaluate(complete_windows)
    assert isinstance(request, dg.RunRequest)
    assert live.run(request)
    target = ModuleTarget("anomaly_assets.definitions", None, None, "anomaly_assets")
    seen = []
    with WorkspaceProcessContext(live.instance, target) as workspace:
        for minutes in (1, 40, 90):
            with freeze_time(datetime.now(tz=UTC) + timedelta(minutes=minutes)):
                asyncio.run(FreshnessDaemon()._evaluate_assets(workspace))
            seen.append(states(live))
    names = ("raw_readings", "tier1_models", "explanations")
    for state, found in zip(("PASS", "WARN", "FAIL"), seen, strict=True):
        assert {name: found[name] for name in names} == dict.fromkeys(names, state)
    assert seen[0]["daily_report"] == "UNKNOWN"


def states(live: Live) -> dict[str, str]:
    keys = [dg.AssetKey(name) for name in ("raw_readings", "tier1_models", "explanations")]
    keys.append(dg.AssetKey("daily_report"))
    records = live.instance.get_freshness_state_records(keys)
    found = {key.path[-1]: record.freshness_state.value for key, record in records.items()}
    return {"daily_report": FreshnessState.UNKNOWN.value, **found}


def test_a_run_shows_its_figures_as_numbers(live: Live) -> None:
    """What is measured stands on the run's assets as numbers, so that Dagster draws it."""
    live.ingest(live.start, live.now)
    request = live.evaluate(complete_windows)
    assert isinstance(request, dg.RunRequest)
    assert live.run(request)
    wanted = {
        "raw_readings": {"streams_available_ratio", "values_missing", "database_query_seconds"},
        "stream_health": {"model_accuracy", "missing_longest_seconds", "availability"},
        "ensemble_results": {"anomaly_rate", "anomalous_windows", "confidence"},
        "explanations": {"peak_memory_bytes", "cpu_seconds", "seconds_per_window"},
    }
    for asset, names in wanted.items():
        event = live.instance.get_latest_materialization_event(dg.AssetKey(asset))
        assert event is not None
        assert event.asset_materialization is not None
        found = event.asset_materialization.metadata
        for name in names:
            assert isinstance(found[name], dg.FloatMetadataValue | dg.IntMetadataValue), name
            assert found[name].value == pytest.approx(found[name].value)
    key = dg.AssetCheckKey(dg.AssetKey("explanations"), "batch_time")
    (check,) = live.instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
    assert check.status.value == "SUCCEEDED"
