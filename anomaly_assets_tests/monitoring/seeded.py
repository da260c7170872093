"""A deployment with everything a dashboard shows: windows up to now, anomalies, gaps, runs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import dagster as dg
import numpy as np
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import TickData, TickStatus
from dagster._daemon.types import DaemonHeartbeat
from dagster_shared.error import SerializableErrorInfo

from anomaly_assets.automation.instance import open_instance, prepare
from anomaly_assets.automation.runs import run_windows
from anomaly_assets.evaluation.simulator import simulate
from anomaly_assets.pipeline.deployment import Deployment
from anomaly_assets.pipeline.explain import explain_windows
from anomaly_assets.settings import Settings, settings
from anomaly_assets.storage.alerts import AlertRow, AlertSeverity, AlertStatus, save_alerts
from anomaly_assets.storage.identifiers import Verdict
from anomaly_assets.storage.labels import Opinion, add_label
from anomaly_assets.streams.aggregation import Readings
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowRange, window_of
from anomaly_assets_tests.pipeline.people import append, execute

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from anomaly_assets.storage.database import Database

HOURS = 3
#: Bob's phone has been away for the last hour: fewer than 70 % of his streams are there.
AWAY = timedelta(hours=1)


@dataclass
class Seeded:
    """What was made."""

    database: Database
    settings: Settings
    environment: dict[str, str]
    windows: WindowRange

    @property
    def deployment(self) -> Deployment:
        """The deployment, as a process of its own has it."""
        return Deployment(self.settings, self.database, run_id="test")


def seed(database: Database, home: Path, patch: pytest.MonkeyPatch) -> Seeded:
    """Fill a fresh database; `patch` has the environment of the deployment as long as it lasts."""
    patch.setenv("DATABASE_URL", database.url)
    patch.setenv("ANOMALY_ASSETS_HOME", str(home))
    patch.setenv("ANOMALY_ASSETS_ALLOWED_LATENESS", "PT0S")
    settings.cache_clear()
    environment = prepare(settings(), database)
    for name, value in environment.items():
        patch.setenv(name, value)
    end = window_of(datetime.now(tz=UTC))
    windows = WindowRange.between(end - timedelta(hours=HOURS), end)
    made = Seeded(database, settings(), environment, windows)
    _send(made, ["ann", "bob"])
    with open_instance(environment) as instance:
        from anomaly_assets.definitions import defs  # noqa: PLC0415 - reads the settings

        job = defs.resolve_job_def("process_windows")
        outcome = run_windows(job, instance, windows)
        assert outcome.succeeded, outcome.error
        _find_anomalies(made)
        _tell(made)
        _record(instance, job)
    settings.cache_clear()
    return made


def _send(made: Seeded, people: list[str]) -> None:
    catalogue = load_catalogue("default")
    start, end = made.windows.start_time, made.windows.end_time
    frame = simulate(3, people, start=start, days=1).readings
    frame = frame[frame["timestamp"] < end]
    of_phone = [s.id for number, s in enumerate(catalogue.streams) if number % 2]
    away = (frame["entity_id"] == "bob") & (frame["timestamp"] >= end - AWAY)
    frame = frame[~(away & frame["stream_id"].isin(of_phone))]
    for name, own in frame.groupby("entity_id", observed=True):
        append(
            made.database,
            str(name),
            Readings(
                own["stream_id"].astype(str).map(catalogue.index).to_numpy(np.int64),
                own["timestamp"].dt.as_unit("us").astype("int64").to_numpy(),
                own["value"].to_numpy(),
            ),
        )


def _find_anomalies(made: Seeded) -> None:
    """Have ann's last quarter of an hour be anomalous, and explained."""
    last = WindowRange(made.windows.end - 3 * WINDOW_SECONDS, made.windows.end)
    execute(
        made.database,
        "UPDATE anomaly_scores SET anomaly_score = 0.97 WHERE entity_id = 'ann' "
        "AND (method = 'ensemble' OR stream_id = 'heart_rate') AND timestamp >= %s",
        last.start_time,
    )
    deployment = made.deployment
    for _ in explain_windows(deployment, deployment.entities(), last):
        pass
    assert not deployment.failures


def _tell(made: Seeded) -> None:
    start = made.windows.start
    with made.database.connect() as connection:
        for number, verdict in enumerate((Verdict.FALSE_ALARM, Verdict.CONFIRMED)):
            first = start + number * WINDOW_SECONDS
            add_label(
                connection,
                "ann",
                WindowRange(first, first + WINDOW_SECONDS),
                Opinion(verdict, author="test"),
            )
        moment = made.windows.end_time - timedelta(minutes=5)
        alert: dict[str, Any] = {"first_seen": moment, "last_seen": moment, "details": {}}
        alert |= {"anomaly_id": None, "message_id": None, "sent_at": None}
        sent = {**alert, "message_id": "m", "sent_at": moment}
        save_alerts(
            connection,
            [
                AlertRow(
                    alert_key="bob/availability",
                    entity_id="bob",
                    rule="availability",
                    severity=AlertSeverity.WARNING,
                    status=AlertStatus.SENT,
                    summary="Only 50 % of the streams are available.",
                    **sent,
                ),
                AlertRow(
                    alert_key="ann/episode",
                    entity_id="ann",
                    rule="episode",
                    severity=AlertSeverity.CRITICAL,
                    status=AlertStatus.HELD,
                    summary="Anomalous.",
                    **alert,
                ),
            ],
        )


def _record(instance: dg.DagsterInstance, job: dg.JobDefinition) -> None:
    """Record what a daemon would have: heartbeats, ticks, a failed run and a failed check."""
    now = time.time()
    for daemon in ("SENSOR", "SCHEDULER", "QUEUED_RUN_COORDINATOR", "MONITORING"):
        instance.add_daemon_heartbeat(DaemonHeartbeat(now, daemon, str(uuid4()), []))
    what: dict[TickStatus, dict[str, Any]] = {
        TickStatus.SUCCESS: {"run_ids": [str(uuid4())]},
        TickStatus.SKIPPED: {"skip_reason": "nothing to do"},
        TickStatus.FAILURE: {"error": SerializableErrorInfo("on purpose", [], "Exception")},
    }
    for status, told in what.items():
        instance.create_tick(
            TickData(
                instigator_origin_id="origin",
                instigator_name="complete_windows",
                instigator_type=InstigatorType.SENSOR,
                status=status,
                timestamp=now,
                selector_id="selector",
                **told,
            )
        )
    failed = instance.create_run_for_job(job)
    instance.report_run_failed(failed, "on purpose")
    instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey("ensemble_results"),
            check_name="anomaly_rate",
            passed=False,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={"anomaly_rate": 0.25},
        )
    )
