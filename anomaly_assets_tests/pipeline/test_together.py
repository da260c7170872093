"""Entities that share transactions: nobody's fault is anybody else's, and no bit changes."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest

from anomaly_assets.pipeline.advance import ModelStates
from anomaly_assets.pipeline.explain import explain_windows
from anomaly_assets.pipeline.stateless import aggregate_windows
from anomaly_assets.pipeline.tiers import GapTier, IndividualTier
from anomaly_assets.pipeline.together import MOST_ENTITIES, MOST_WINDOWS, groups_of
from anomaly_assets.storage.pending import Pending
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowRange
from anomaly_assets_tests.pipeline.people import (
    WINDOWS,
    append,
    execute,
    load_people,
    query,
    reading,
    run,
)
from anomaly_assets_tests.pipeline.support import deployment_of, fingerprint, process_in_parts

if TYPE_CHECKING:
    from pathlib import Path

    from anomaly_assets.storage.database import Database

PEOPLE = ("ann", "bob", "cat")
HALF = WindowRange(WINDOWS.start, WINDOWS.start + 18 * WINDOW_SECONDS)
NEXT = WindowRange(HALF.end, HALF.end + WINDOW_SECONDS)
REST = WindowRange(NEXT.end, WINDOWS.end)


@pytest.fixture
def alone(module_database: Database, tmp_path: Path) -> dict[str, tuple[int, str]]:
    """Return the rows of people who were processed one by one."""
    if not query(module_database, "SELECT 1 FROM entities LIMIT 1"):
        load_people(module_database, PEOPLE)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("anomaly_assets.pipeline.together.MOST_ENTITIES", 1)
            run(deployment_of(module_database, tmp_path))
    return fingerprint(module_database)


def test_together_leaves_the_rows_of_one_by_one(
    database: Database, tmp_path: Path, alone: dict[str, tuple[int, str]]
) -> None:
    """Window by window in groups, and again over some, the rows are those of going alone."""
    load_people(database, PEOPLE)
    deployment = deployment_of(database, tmp_path)
    process_in_parts(deployment, WINDOWS, 1)
    assert fingerprint(database) == alone
    process_in_parts(deployment, WindowRange(NEXT.start, WINDOWS.end), 5)
    assert fingerprint(database) == alone


def test_whoever_raises_goes_alone_and_is_recorded(
    database: Database,
    tmp_path: Path,
    alone: dict[str, tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a group one model raises: the others' window is there, and the same run again mends it."""
    load_people(database, PEOPLE)
    deployment = deployment_of(database, tmp_path)
    run(deployment, HALF)
    working = GapTier.process

    def process(self: GapTier, detector: object, inputs: object) -> object:
        if inputs.entity_id == "bob":  # type: ignore[attr-defined]
            msg = "the model diverged"
            raise FloatingPointError(msg)
        return working(self, detector, inputs)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(GapTier, "process", process)
        run(deployment, NEXT)
    assert deployment.failures == {"bob": "FloatingPointError: the model diverged"}
    moment = NEXT.start_time
    done = "SELECT entity_id FROM gap_patterns WHERE timestamp = %s ORDER BY 1"
    assert query(database, done, moment) == [("ann",), ("cat",)]
    deployment.failures.clear()
    run(deployment, NEXT)
    run(deployment, REST)
    assert deployment.failures == {}
    assert fingerprint(database) == alone


@pytest.mark.parametrize("error", [ValueError("no such column"), psycopg.errors.CheckViolation()])
def test_a_group_that_cannot_be_written_goes_one_by_one(
    database: Database,
    tmp_path: Path,
    alone: dict[str, tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    """When the transaction of a group fails, nobody loses a window by it."""
    load_people(database, PEOPLE)
    deployment = deployment_of(database, tmp_path)
    run(deployment, HALF)

    def failing(*_: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(Pending, "write", failing)
        run(deployment, NEXT)
    assert deployment.failures == {}
    run(deployment, REST)
    assert fingerprint(database) == alone


def test_a_lost_connection_ends_the_run(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that goes away is nobody's fault: nothing is recorded, the run is for a retry."""
    load_people(database, PEOPLE)
    deployment = deployment_of(database, tmp_path)

    def gone(*_: object) -> None:
        msg = "server closed the connection unexpectedly"
        raise psycopg.OperationalError(msg)

    monkeypatch.setattr(Pending, "write", gone)
    with pytest.raises(psycopg.OperationalError, match="closed the connection"):
        run(deployment, HALF)
    assert deployment.failures == {}


@pytest.mark.parametrize("damage", ["blob = '\\x00'", "signature = repeat('0', 64)"])
def test_damaged_states_are_told_of_in_groups_too(
    database: Database, tmp_path: Path, alone: dict[str, tuple[int, str]], damage: str
) -> None:
    """One of a group whose snapshots are unusable is rebuilt by replay, with the reasons told."""
    load_people(database, PEOPLE)
    deployment = deployment_of(database, tmp_path)
    run(deployment, HALF)
    execute(database, f"UPDATE model_snapshots SET {damage} WHERE entity_id = 'bob'")  # noqa: S608
    assert list(aggregate_windows(deployment, deployment.entities(), NEXT))
    commits = list(ModelStates(IndividualTier(), deployment).advance(NEXT))
    told = {commit.entity_id: bool(commit.refused) for commit in commits}
    assert told == {"ann": False, "bob": True, "cat": False}
    run(deployment, WindowRange(NEXT.start, WINDOWS.end))
    assert deployment.failures == {}
    assert fingerprint(database) == alone


def test_marks_of_others_stay(database: Database, tmp_path: Path) -> None:
    """A replay of some entities takes back their marks of late windows, not those of others."""
    load_people(database, PEOPLE)
    deployment = deployment_of(database, tmp_path)
    run(deployment, HALF)
    for name in ("ann", "bob"):
        append(database, name, reading("heart_rate", HALF.start_time + timedelta(minutes=1), 71.0))
    execute(database, "UPDATE late_windows SET readings = 0")
    ann = [one for one in deployment.entities() if one.entity_id == "ann"]
    for _ in explain_windows(deployment, ann, HALF):
        pass
    assert query(database, "SELECT DISTINCT entity_id FROM late_windows") == [("bob",)]


def test_groups_are_bounded_by_entities_and_by_values(database: Database, tmp_path: Path) -> None:
    """A group has so many entities at most, fewer over many windows; a long range is not cut."""
    load_people(database, ["ann"])
    everybody = deployment_of(database, tmp_path).entities() * (2 * MOST_ENTITIES + 1)
    sizes = [len(group) for group in groups_of(everybody, NEXT)]
    assert sizes == [MOST_ENTITIES, MOST_ENTITIES, 1]
    day = WindowRange(0, MOST_WINDOWS * WINDOW_SECONDS)
    assert 1 < len(groups_of(everybody, day)[0]) < MOST_ENTITIES
    longer = WindowRange(0, (MOST_WINDOWS + 1) * WINDOW_SECONDS)
    assert groups_of(everybody, longer) == [everybody]
