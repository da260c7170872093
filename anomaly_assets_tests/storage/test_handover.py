"""What instances tell each other of readings: PostgreSQL's notifications, and the journal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from anomaly_assets.storage import journal
from anomaly_assets.storage.entities import ensure_entity
from anomaly_assets.storage.handover import (
    CHANNEL,
    Handover,
    handovers,
    notify,
    read_handed_over,
)
from anomaly_assets.streams.aggregation import Readings
from anomaly_assets.streams.loading import load_catalogue

if TYPE_CHECKING:
    from anomaly_assets.storage.database import Database

AT = datetime(2026, 3, 1, 8, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@given(
    names=st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=200), max_size=60),
    refused=st.booleans(),
)
def test_every_entity_is_told_of_in_payloads_that_fit(
    names: list[str],
    refused: bool,  # noqa: FBT001 - drawn
) -> None:
    """Nobody is left out, however long the names are, and each payload reads back as it was."""
    times = {name: [AT + number * SECOND] for number, name in enumerate(dict.fromkeys(names))}
    made = handovers(AT, {} if refused else times, times if refused else {})
    assert sorted(name for one in made for name in one.entities) == sorted(times)
    for one in made:
        assert len(one.encode().encode()) < 8000
        assert Handover.decode(one.encode()) == one
        assert one.refused is refused
        assert all(one.first <= times[name][0] <= one.last for name in one.entities)


@given(st.text() | st.sampled_from(['[1,2,3,true,"ann"]', "[1,2,3,4,[]]", "[1e99,1,1,true,[]]"]))
def test_what_is_no_handover_is_none(payload: str) -> None:
    """Whatever else is sent on the channel does no harm."""
    assert Handover.decode(payload) is None


def test_the_readings_of_a_commit_are_found_by_its_moment(database: Database) -> None:
    """It is told with the commit, not before, and exactly its readings are read."""
    catalogue = load_catalogue("default")
    heart = catalogue.index("heart_rate")

    def store(connection: object, received: datetime, second: int) -> None:
        at = AT + second * SECOND
        one = Readings(
            np.array([heart]), np.array([round(at.timestamp() * 1e6)]), np.array([60.0 + second])
        )
        journal.append_readings(
            connection,  # type: ignore[arg-type]
            "ann",
            one,
            catalogue,
            source="test",
            late_horizon=timedelta(days=1),
            received_at=received,
        )

    with database.connect() as listening, database.connect() as writing:
        listening.execute(f"LISTEN {CHANNEL}")
        ensure_entity(writing, "ann")
        store(writing, AT, 1)
        with writing.transaction():
            store(writing, AT + SECOND, 2)
            told = handovers(AT + SECOND, {"ann": [AT, AT + 5 * SECOND]}, {})
            notify(writing, told)
            assert list(listening.notifies(timeout=0.05)) == []
        (heard,) = listening.notifies(timeout=10, stop_after=1)
        assert Handover.decode(heard.payload) == told[0]
        (found,) = read_handed_over(listening, told, ["ann"])
        assert (found.entity_id, found.at, found.value) == ("ann", AT + 2 * SECOND, 62.0)
        assert read_handed_over(listening, told, ["bob"]) == []
