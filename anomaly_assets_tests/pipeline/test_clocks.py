"""A wrong clock is told from what the journal and the refused readings hold of arrivals."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from anomaly_assets.detection.explanation.cause import CauseKind
from anomaly_assets.detection.explanation.explain import Mode
from anomaly_assets.evaluation.simulator import simulate
from anomaly_assets.evaluation.simulator.sensors import SENSORS, Device
from anomaly_assets.evaluation.simulator.simulation import DEFAULT_START
from anomaly_assets.evaluation.simulator.transport import ClockSkew, with_skew
from anomaly_assets.ingestion.validate import Rejected
from anomaly_assets.pipeline.deployment import Deployment
from anomaly_assets.pipeline.explain import explain_window
from anomaly_assets.storage import journal
from anomaly_assets.storage.arrivals import ARRIVAL_MINUTES, read_arrivals
from anomaly_assets.storage.entities import ensure_entity
from anomaly_assets.storage.identifiers import RejectionReason
from anomaly_assets.storage.rejections import record_rejections
from anomaly_assets.streams.aggregation import Readings
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets.streams.windows import WindowRange
from anomaly_assets_tests.pipeline.people import execute, query, run
from anomaly_assets_tests.pipeline.support import deployment_of

if TYPE_CHECKING:
    from pathlib import Path

    from anomaly_assets.storage.database import Database

CATALOGUE = load_catalogue("default")
WATCH = {"motion", "biometric"}
#: The clock goes wrong on the second day, when the person has been up for hours.
START = DEFAULT_START
JUMP = START + timedelta(days=4, hours=14)
END = JUMP + timedelta(minutes=40)
TOLERANCE = pd.Timedelta(minutes=5)


def arrived(minutes: float) -> pd.DataFrame:
    """Return what arrives of a watch whose clock jumps by so many minutes, as it arrives."""
    true = simulate(3, ["ann"], start=START, days=5)
    received = true.readings["timestamp"] + pd.Timedelta(seconds=5)
    true = replace(true, readings=true.readings.assign(received_at=received))
    skew = ClockSkew("ann", Device.WATCH, JUMP, END + timedelta(days=1), minutes=minutes)
    frame = with_skew(true, [skew]).readings
    return frame[frame["received_at"] < END].sort_values("received_at", kind="stable")


def load(database: Database, frame: pd.DataFrame) -> None:
    """Take readings in minute by minute, as they come; what is of the future is refused."""
    # Long before the jump it is all the same to the hour.
    early = frame["received_at"] < JUMP - timedelta(hours=8)
    batch = frame["received_at"].dt.floor("1min").where(~early, frame["received_at"].dt.floor("1D"))
    with database.connect() as connection:
        ensure_entity(connection, "ann")
        for _, part in frame.groupby(batch):
            at = part["received_at"].max()
            future = part["timestamp"] > at + TOLERANCE
            take_in(connection, part[~future], at.to_pydatetime())
            refuse(connection, part[future], at.to_pydatetime())


def take_in(connection: Any, part: pd.DataFrame, at: datetime) -> None:
    """Append readings to the journal."""
    readings = Readings(
        part["stream_id"].astype(str).map(CATALOGUE.index).to_numpy(np.int64),
        microseconds(part),
        part["value"].to_numpy(),
    )
    journal.append_readings(
        connection,
        "ann",
        readings,
        CATALOGUE,
        source="live",
        late_horizon=timedelta(hours=24),
        received_at=at,
    )


def refuse(connection: Any, part: pd.DataFrame, at: datetime) -> None:
    """Keep readings as the gate does when they bear a time to come."""
    rejected = [
        Rejected("ann", str(stream), "1", RejectionReason.FUTURE_TIME, "later than now", row, time)
        for row, (stream, time) in enumerate(
            zip(part["stream_id"], microseconds(part).tolist(), strict=True)
        )
    ]
    record_rejections(
        connection,
        Rejected.columns(rejected),
        source="live",
        source_digest=at.isoformat(),
        received_at=at,
    )


def microseconds(part: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the times that readings bear."""
    return part["timestamp"].dt.as_unit("us").astype("int64").to_numpy()


def told(deployment: Deployment, at: datetime) -> Any:
    """Explain a window."""
    (entity,) = deployment.entities()
    return explain_window(deployment, entity, at, mode=Mode.FAST)


# Half a minute keeps a clock that is set back from giving times that have been given already.
@pytest.mark.parametrize(("minutes", "words"), [(120.0, "2 h ahead"), (-90.5, "1.5 h behind")])
def test_a_watch_whose_clock_jumps_is_not_taken_for_off(
    database: Database, tmp_path: Path, minutes: float, words: str
) -> None:
    """The episode's primary cause is the clock of the watch, and stays it when told again."""
    load(database, arrived(minutes))
    deployment = deployment_of(database, tmp_path)
    # Five days are not enough to be sure that a watch is never taken off in the afternoon.
    settings = deployment.settings.model_copy(update={"explanation_threshold": 0.55})
    deployment = Deployment(settings, database, run_id="test")
    run(deployment, WindowRange.between(START, END))
    assert not deployment.failures
    rows = query(
        database,
        "SELECT record FROM causal_explanations WHERE episode_end > %s ORDER BY timestamp",
        JUMP,
    )
    assert rows
    for (record,) in rows:
        assert record["cause_kind"] == CauseKind.CLOCK_JUMP
        assert words in record["primary_cause"]
        assert set(record["evidence"]["clock"]["groups"]) == WATCH
        streams = {s.stream for s in SENSORS if s.device is Device.WATCH}
        assert set(record["cause_streams"]) == streams
        assert "time zone" in record["recommended_action"]
    earlier = query(
        database, "SELECT record FROM causal_explanations WHERE episode_end <= %s", JUMP
    )
    assert all(record["evidence"]["clock"] is None for (record,) in earlier)
    # What comes later, in whatever number and of whichever time, is not looked at.
    before = told(deployment, END - timedelta(minutes=10))
    assert before.cause_kind == CauseKind.CLOCK_JUMP
    later = arrived(minutes).tail(2000).assign(timestamp=lambda f: f["timestamp"] + pd.Timedelta(7))
    with database.connect() as connection:
        take_in(connection, later, END + timedelta(days=3))
    assert told(deployment, END - timedelta(minutes=10)) == before


def test_the_same_readings_imported_afterwards_show_no_clock(
    database: Database, tmp_path: Path
) -> None:
    """A file that is read as a whole says nothing of the hour in which anything came."""
    frame = arrived(-90.5)
    with database.connect() as connection:
        ensure_entity(connection, "ann")
        take_in(connection, frame, END + timedelta(days=30))
    deployment = deployment_of(database, tmp_path)
    run(deployment, WindowRange.between(START, END))
    assert not deployment.failures
    rows = query(database, "SELECT record FROM causal_explanations")
    assert all(record["evidence"]["clock"] is None for (record,) in rows)
    assert told(deployment, END - timedelta(minutes=10)).cause_kind != CauseKind.CLOCK_JUMP


def test_arrivals_are_read_by_minute_and_group(database: Database) -> None:
    """The middle stream's least lag; what is beyond the hours, or came later, is left out."""
    end = datetime(2026, 3, 2, 12, tzinfo=UTC)
    times = {  # stream: (time borne, arrival)
        "heart_rate": (end - timedelta(minutes=10), end - timedelta(minutes=2)),
        "skin_temperature": (end - timedelta(minutes=3), end - timedelta(minutes=2)),
        "respiration_rate": (end - timedelta(minutes=3), end - timedelta(minutes=2)),
        "cpu_load": (end - timedelta(minutes=1), end),
        "battery_level": (end - timedelta(days=2), end - timedelta(minutes=9)),
    }
    with database.connect() as connection:
        ensure_entity(connection, "ann")
        for stream, (time, at) in times.items():
            part = pd.DataFrame({"stream_id": [stream], "timestamp": [time], "value": [1.0]})
            take_in(connection, part, at)
        ahead = pd.DataFrame({"stream_id": ["steps"], "timestamp": [end + timedelta(hours=1)]})
        refuse(connection, ahead, end - timedelta(minutes=5))
        found = read_arrivals(connection, "ann", int(end.timestamp()), CATALOGUE)
        nobody = read_arrivals(connection, "bob", int(end.timestamp()), CATALOGUE)
    groups = list(CATALOGUE.group_ids)
    known = {(int(row), groups[place]) for row, place in np.argwhere(np.isfinite(found.lag))}
    body, motion = (ARRIVAL_MINUTES - 2, "biometric"), (ARRIVAL_MINUTES - 5, "motion")
    assert known == {body, motion}
    assert found.lag[body[0], groups.index("biometric")] == 60.0
    assert found.lag[motion[0], groups.index("motion")] == -65 * 60.0
    assert found.refused.sum() == found.refused[motion[0], groups.index("motion")] == 1
    assert np.isnan(nobody.lag).all()
    assert execute(database, "DELETE FROM rejected_readings") == 1
