"""Dagster: its home, its daemons, sensors, runs and backups, as its own tables tell of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg
from dagster._core.scheduler.instigation import InstigatorState
from dagster._serdes import deserialize_value

from anomaly_assets.automation.instance import dagster_yaml
from anomaly_assets.doctor.finding import Check, Finding, Installation, ok, problem, warning
from anomaly_assets.errors import StorageError
from anomaly_assets.monitoring.queries import HEARTBEATS
from anomaly_assets.storage.connect import dagster_database

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Those without which nothing goes on.
_DAEMONS: Final = ("SENSOR", "SCHEDULER", "QUEUED_RUN_COORDINATOR", "MONITORING")
_DEAD_SECONDS: Final = 300.0
_OURS: Final = (
    "complete_windows",
    "late_readings",
    "networks_due",
    "hourly_upkeep",
    "daily_report_schedule",
    "nightly_suggestions",
)
#: After so many failures from one window on the sensor asks for it no more.
_GIVEN_UP: Final = 3
_WAITING_SECONDS, _RUNNING_SECONDS = 900.0, 6 * 3600.0
_BACKUP: Final = "model_backups"
_BACKUP_SECONDS: Final = 2 * 86_400.0


def home(installation: Installation) -> Finding:
    """Look at Dagster's home folder and its configuration."""
    default = installation.settings.home / "dagster"
    folder = Path(os.environ.get("DAGSTER_HOME", default)).resolve()
    path = folder / "dagster.yaml"
    if not path.exists():
        advice = "anomaly-assets up writes it; by hand copy the project's dagster.yaml there."
        return warning("dagster home", f"there is no {path} yet", advice)
    if path.read_bytes() != dagster_yaml().read_bytes():
        advice = "Compare it with the project's; anomaly-assets up copies that one anew."
        return warning("dagster home", f"{path} is not the one of this version", advice)
    return ok("dagster home", str(folder))


def daemons(installation: Installation) -> Iterator[Finding]:
    """Look for signs of life."""
    advice = "Start it: anomaly-assets up, or the service daemon of docker-compose.yml."
    database = dagster_database(installation.reachable)
    try:
        with database.connect() as connection:
            found = dict(connection.execute(HEARTBEATS).fetchall())
    except (StorageError, psycopg.errors.UndefinedTable) as error:
        what = f"Dagster's database {database.name!r} is not there: {str(error).splitlines()[0]}"
        yield problem("daemons", what, "anomaly-assets up makes it.")
        return
    if not found:
        yield problem("daemons", "Dagster's daemon has never run", advice)
        return
    dead = {n: found.get(n) for n in _DAEMONS if found.get(n, _DEAD_SECONDS + 1) > _DEAD_SECONDS}
    for name, age in dead.items():
        since = "ever" if age is None else f"{age / 60.0:.0f} minutes"
        yield problem("daemons", f"{name} gave no sign of life for {since}", advice)
    if not dead:
        yield ok("daemons", f"all {len(_DAEMONS)} are alive")


def sensors(installation: Installation) -> Iterator[Finding]:
    """Look whether somebody has switched sensors or schedules off."""
    with dagster_database(installation.reachable).connect() as connection:
        rows = connection.execute("SELECT instigator_body FROM instigators").fetchall()
    states = [deserialize_value(row[0], InstigatorState) for row in rows]
    off = [one.instigator_name for one in states if not one.is_running]
    for name in sorted(set(off) & set(_OURS)):
        advice = "Switch it on in Dagster's pages, under Automation."
        yield problem("sensors", f"{name} is switched off", advice)
    if not set(off) & set(_OURS):
        yield ok("sensors", "none is switched off")


def runs(installation: Installation) -> Iterator[Finding]:
    """Look for jobs whose last run failed, and for runs that hang."""
    with dagster_database(installation.reachable).connect() as connection:
        newest = connection.execute(
            "SELECT DISTINCT ON (pipeline_name) pipeline_name, status, run_id, "
            "create_timestamp FROM runs WHERE status IN ('SUCCESS', 'FAILURE') "
            "ORDER BY pipeline_name, id DESC"
        ).fetchall()
        in_a_row = connection.execute(
            "SELECT count(*) FILTER (WHERE status = 'FAILURE') FROM (SELECT status FROM runs "
            "WHERE pipeline_name = 'process_windows' AND status IN ('SUCCESS', 'FAILURE') "
            "ORDER BY id DESC LIMIT %s) AS newest",
            (_GIVEN_UP,),
        ).fetchone()
        hanging = connection.execute(
            "SELECT run_id, pipeline_name, lower(status), extract(epoch FROM "
            "(now() AT TIME ZONE 'UTC') - update_timestamp)::float8 FROM runs "
            "WHERE status IN ('QUEUED', 'NOT_STARTED', 'STARTING', 'CANCELING') "
            "OR status = 'STARTED' ORDER BY id"
        ).fetchall()
    failed = [row for row in newest if row[1] == "FAILURE"]
    for job, _, run_id, at in failed:
        advice = "Its page in Dagster says why; launch it again once that is mended."
        if job == "process_windows" and in_a_row is not None and in_a_row[0] == _GIVEN_UP:
            advice += " Until then the sensor has stopped: three runs in a row have failed."
        what = f"the last run of {job}, {run_id[:8]} of {at:%Y-%m-%d %H:%M} UTC, failed"
        yield problem("runs", what, advice)
    stuck = [
        row
        for row in hanging
        if row[3] > (_RUNNING_SECONDS if row[2] == "started" else _WAITING_SECONDS)
    ]
    for run_id, job, status, seconds in stuck:
        advice = "End it in Dagster's pages; the next tick starts it afresh."
        what = f"run {run_id[:8]} of {job} is {status} for {seconds / 60.0:.0f} minutes"
        yield warning("runs", what, advice)
    if not failed and not stuck:
        yield ok("runs", f"the last run of each of {len(newest)} jobs was good")


def backups(installation: Installation) -> Finding:
    """Look when state was last backed up."""
    with dagster_database(installation.reachable).connect() as connection:
        row = connection.execute(
            "SELECT extract(epoch FROM (now() AT TIME ZONE 'UTC') "
            "- last_materialization_timestamp)::float8 FROM asset_keys WHERE asset_key = %s "
            "AND last_materialization_timestamp IS NOT NULL",
            (f'["{_BACKUP}"]',),
        ).fetchone()
    advice = f"Materialise the asset {_BACKUP}, and back up the database and the signing key."
    if row is None:
        return warning("backups", "model state has never been backed up", advice)
    if row[0] > _BACKUP_SECONDS:
        return warning("backups", f"the last is {row[0] / 86_400.0:.0f} days old", advice)
    return ok("backups", f"the last is {row[0] / 3600.0:.0f} hours old")


CHECKS: Final = (
    Check("dagster home", home),
    Check("daemons", daemons),
    Check("sensors", sensors),
    Check("runs", runs),
    Check("backups", backups),
)
