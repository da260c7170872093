"""The same readings give the same rows, to the last bit, whichever way they are processed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest

from anomaly_assets.evaluation.simulator import Fault, FaultKind, simulate
from anomaly_assets.evaluation.simulator.simulation import DEFAULT_START
from anomaly_assets.pipeline.advance import ModelStates
from anomaly_assets.pipeline.tiers import IndividualTier, read_block
from anomaly_assets.pipeline.whole import process
from anomaly_assets.storage import journal
from anomaly_assets.storage.entities import ensure_entity
from anomaly_assets.streams.aggregation import Readings
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowRange
from anomaly_assets_tests.pipeline.support import (
    deployment_of,
    fingerprint,
    process_in_parts,
)

if TYPE_CHECKING:
    from pathlib import Path

    from anomaly_assets.pipeline.deployment import Deployment
    from anomaly_assets.storage.database import Database

ENTITIES = ("ann", "bob")
#: A day and a half: over a midnight, so that ranges are cut.
N_WINDOWS = 400
START = int(DEFAULT_START.timestamp())
WINDOWS = WindowRange(START, START + N_WINDOWS * WINDOW_SECONDS)
#: Where parts of one window are tried: around the midnight, with windows in whole days around it.
SINGLE = WindowRange(START + 282 * WINDOW_SECONDS, START + 298 * WINDOW_SECONDS)


def load_readings(database: Database) -> None:
    """Put two simulated people, one with a fault, into the journal."""
    fault = Fault(
        "ann", FaultKind.SPIKE, DEFAULT_START + timedelta(hours=26), 5, "heart_rate", 12.0
    )
    simulation = simulate(3, ENTITIES, days=2, faults=[fault])
    catalogue = load_catalogue("default")
    with database.connect() as connection:
        for entity_id, own in simulation.readings.groupby("entity_id", observed=True):
            ensure_entity(connection, str(entity_id))
            readings = Readings(
                own["stream_id"].astype(str).map(catalogue.index).to_numpy(np.int64),
                own["timestamp"].dt.as_unit("us").astype("int64").to_numpy(),
                own["value"].to_numpy(),
            )
            journal.append_readings(
                connection,
                str(entity_id),
                readings,
                catalogue,
                source="test",
                late_horizon=timedelta(hours=24),
            )


@pytest.fixture(scope="module")
def loaded(module_database: Database) -> Database:
    """Return a database with readings and nothing processed."""
    load_readings(module_database)
    return module_database


@pytest.fixture(scope="module")
def expected(
    loaded: Database, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[int, str]]:
    """Return the fingerprint of one run over everything."""
    deployment = deployment_of(loaded, tmp_path_factory.mktemp("home"))
    process_in_parts(deployment, WINDOWS, N_WINDOWS)
    return fingerprint(loaded)


@pytest.fixture
def deployment(
    loaded: Database, expected: dict[str, tuple[int, str]], tmp_path: Path
) -> Deployment:
    """Return a deployment with readings and no results, though some have been computed before."""
    assert expected
    with loaded.connect() as connection:
        for table in (
            "time_series_data, anomaly_scores, stream_health, gap_patterns, causal_explanations",
            "model_snapshots",
        ):
            connection.execute(f"TRUNCATE {table}")
        connection.execute("UPDATE entities SET aggregated_until = NULL")
    return deployment_of(loaded, tmp_path)


def test_every_table_has_rows(expected: dict[str, tuple[int, str]]) -> None:
    """The comparison is about something: no table of results is empty."""
    assert all(rows > 0 for rows, _ in expected.values()), expected
    assert expected["time_series_data"][0] == N_WINDOWS * 36 * len(ENTITIES)


@pytest.mark.parametrize("size", [29, 288])
def test_parts_of_any_size_give_the_same_rows(
    deployment: Deployment, expected: dict[str, tuple[int, str]], size: int
) -> None:
    """Ranges of 29 or 288 windows, one after the other, leave the rows of one run over all."""
    process_in_parts(deployment, WINDOWS, size)
    assert fingerprint(deployment.database) == expected


def test_window_by_window_gives_the_same_rows(
    deployment: Deployment, expected: dict[str, tuple[int, str]]
) -> None:
    """Windows processed one at a time, as the sensor does it, leave the same rows."""
    process_in_parts(deployment, WindowRange(WINDOWS.start, SINGLE.start), N_WINDOWS)
    process_in_parts(deployment, SINGLE, 1)
    process_in_parts(deployment, WindowRange(SINGLE.end, WINDOWS.end), N_WINDOWS)
    assert fingerprint(deployment.database) == expected


def test_running_a_range_again_changes_nothing(
    deployment: Deployment, expected: dict[str, tuple[int, str]]
) -> None:
    """A range in the middle, processed again and everything after it too, leaves the same rows."""
    process_in_parts(deployment, WINDOWS, N_WINDOWS)
    again = WindowRange(START + 101 * WINDOW_SECONDS, WINDOWS.end)
    process_in_parts(deployment, again, N_WINDOWS)
    assert fingerprint(deployment.database) == expected


@pytest.mark.parametrize("left", ["none", "the first", "a damaged last"])
def test_lost_or_damaged_snapshots_cost_a_replay_only(
    deployment: Deployment, expected: dict[str, tuple[int, str]], left: str
) -> None:
    """Without the snapshots it needs, a range is rebuilt by replay and leaves the same rows."""
    half = WindowRange(WINDOWS.start, START + 300 * WINDOW_SECONDS)
    process_in_parts(deployment, half, 150)
    with deployment.database.connect() as connection:
        if left == "none":
            connection.execute("DELETE FROM model_snapshots")
        elif left == "the first":
            connection.execute(
                "DELETE FROM model_snapshots WHERE as_of > (SELECT min(as_of) FROM model_snapshots)"
            )
        else:
            connection.execute(
                "UPDATE model_snapshots SET blob = overlay(blob PLACING 'x' FROM 100)"
            )
    process_in_parts(deployment, WindowRange(half.end, WINDOWS.end), N_WINDOWS)
    assert fingerprint(deployment.database) == expected


def test_a_missed_range_is_caught_up_on(
    deployment: Deployment, expected: dict[str, tuple[int, str]]
) -> None:
    """When an entity was left out of a range, the next one processes what it missed."""
    half = WindowRange(WINDOWS.start, START + 300 * WINDOW_SECONDS)
    for commit in process(deployment, half):
        if commit.entity_id == "bob" and "bob" not in deployment.failures:
            # As if bob's state could not be used from here on.
            deployment.failures["bob"] = "test"
    deployment.failures.clear()
    process_in_parts(deployment, WindowRange(half.end, WINDOWS.end), N_WINDOWS)
    process_in_parts(deployment, WINDOWS, N_WINDOWS)
    assert fingerprint(deployment.database) == expected


def test_state_of_any_window_is_found_by_replay(deployment: Deployment) -> None:
    """Asked for the state before any window, the store returns it whether or not it is kept."""
    process_in_parts(deployment, WINDOWS, 100)
    states = ModelStates(IndividualTier(), deployment)
    ann = deployment.entity("ann")
    kept = states.before(ann, START + 300 * WINDOW_SECONDS)
    with deployment.database.connect() as connection:
        connection.execute("DELETE FROM model_snapshots")
    rebuilt = states.before(ann, START + 300 * WINDOW_SECONDS)
    with deployment.database.connect() as connection:
        after = WindowRange(START + 300 * WINDOW_SECONDS, START + 301 * WINDOW_SECONDS)
        block = read_block(connection, ann, after)
    assert kept.process(block).score.tobytes() == rebuilt.process(block).score.tobytes()


_CHILD = """
import sys
from pathlib import Path
from anomaly_assets.pipeline.whole import process
from anomaly_assets.storage.database import Database
from anomaly_assets_tests.pipeline.support import deployment_of
from anomaly_assets_tests.pipeline.test_identity import WINDOWS
deployment = deployment_of(Database(sys.argv[1]), Path(sys.argv[2]))
for number, commit in enumerate(process(deployment, WINDOWS)):
    print(number, flush=True)
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_a_killed_run_is_resumed_without_a_trace(
    deployment: Deployment, expected: dict[str, tuple[int, str]], tmp_path: Path, seed: int
) -> None:
    """A run killed with -9 between or within commits, then run again, leaves the same rows."""
    stop_at = random.Random(seed).randrange(1, 12)
    with subprocess.Popen(
        [sys.executable, "-c", _CHILD, deployment.database.url, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if int(line) == stop_at:
                os.kill(child.pid, signal.SIGKILL)
                break
    assert child.returncode == -signal.SIGKILL
    process_in_parts(deployment, WINDOWS, N_WINDOWS)
    assert fingerprint(deployment.database) == expected
