"""Several instances of one deployment: processes on a real PostgreSQL, one of them killed."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from anomaly_assets.live.tokens import TokenBook
from anomaly_assets.storage.identifiers import ENTITY_ROW, Method
from anomaly_assets.streams.shards import shard_of
from anomaly_assets.streams.windows import WindowRange, window_of
from anomaly_assets_tests.live.api.serving import URL, wait_until
from anomaly_assets_tests.live.following import Sent, append
from anomaly_assets_tests.live.instances import Instance
from anomaly_assets_tests.pipeline.people import query, run
from anomaly_assets_tests.pipeline.support import deployment_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from anomaly_assets.storage.database import Database

PEOPLE = tuple(f"person-{number}" for number in range(20))
SHARD = {name: shard_of(name, 2) for name in PEOPLE}
#: Level and noise of what is sent of each person, every minute.
STREAMS = {
    "heart_rate": (70.0, 4.0),
    "skin_temperature": (33.0, 0.2),
    "ambient_light": (300.0, 40.0),
    "respiration_rate": (15.0, 1.0),
    "cpu_load": (20.0, 5.0),
}
#: Final score, confidence, and of each stream with a score: value, expectation, score.
Scores = tuple[float | None, float | None, dict[str, tuple[float | None, ...]]]


@pytest.fixture
def instances() -> Iterator[list[Instance]]:
    """Return a list of instances that are killed at the end."""
    started: list[Instance] = []
    yield started
    for one in started:
        one.kill()


def minutes(windows: WindowRange) -> list[Sent]:
    """Return what everybody sends in a range of windows, in order."""
    chance = random.Random(3)
    sent = []
    for second in range(windows.start, windows.end, 60):
        at = datetime.fromtimestamp(second, tz=UTC)
        for name in PEOPLE:
            for stream, (level, noise) in STREAMS.items():
                sent.append(Sent(at, name, stream, at, chance.gauss(level, noise)))
    return sent


def send(readings: Sequence[Sent], to: Sequence[Instance], chance: random.Random) -> int:
    """Send readings in their order, every handful to any instance; return how many went astray."""
    astray = 0
    for start in range(0, len(readings), 50):
        part = readings[start : start + 50]
        rows = [
            {
                "entity_id": one.entity_id,
                "stream_id": one.stream_id,
                "timestamp": one.at.isoformat(),
                "value": one.value,
            }
            for one in part
        ]
        answer = chance.choice(to).client.post(URL, json=rows)
        assert answer.status_code == 202, answer.text
        assert answer.json()["accepted"] == len(part)
        astray += sum(answer.json()["scored_elsewhere"].values())
    return astray


def assert_told_where_to_ask(first: Instance) -> None:
    """Assert that readings of another shard are stored, the shard is named, results are known."""
    other = next(name for name in PEOPLE if SHARD[name] == 1)
    at = datetime.now(tz=UTC).isoformat()
    row = {"entity_id": other, "stream_id": "heart_rate", "timestamp": at, "value": 70.0}
    answer = first.client.post(URL, json=row).json()
    assert (answer["accepted"], answer["first_look"]) == (1, None)
    assert answer["scored_elsewhere"] == {"1": 1}
    refused = first.client.get("/v1/events", params={"entity_id": other})
    assert (refused.status_code, refused.headers["Anomaly-Assets-Shard"]) == (421, "1")
    assert "shard 1 of 2" in refused.json()["detail"]
    (latest,) = first.client.get("/v1/latest", params={"entity_id": other}).json()["entities"]
    assert latest["score"] is not None
    health = first.health()
    assert (health["shards"], health["roles"]) == (2, {"0": "owner"})


def last_told(instances: Sequence[Instance]) -> dict[tuple[str, datetime], dict[str, Any]]:
    """Return what was said last of each window."""
    return {
        (one["entity_id"], datetime.fromisoformat(one["window_start"])): one
        for instance in instances
        for one in instance.told
    }


def said(event: dict[str, Any]) -> Scores:
    """Return the scores of an event."""
    streams: dict[str, tuple[float | None, ...]] = {
        name: (one["value"], one["expected"], one["score"])
        for name, one in event["streams"].items()
    }
    return event["score"], event["confidence"], streams


def stored(database: Database, windows: WindowRange) -> dict[tuple[str, datetime], Scores]:
    """Return the scores of all windows as the tables have them; each row is there once."""
    span = (windows.start_time, windows.end_time)
    finals = query(
        database,
        "SELECT entity_id, timestamp, anomaly_score, confidence FROM anomaly_scores "
        "WHERE timestamp >= %s AND timestamp < %s AND stream_id = %s AND method = %s",
        *span,
        ENTITY_ROW,
        Method.ENSEMBLE,
    )
    found: dict[tuple[str, datetime], Scores] = {
        (name, at): (score, confidence, {}) for name, at, score, confidence in finals
    }
    assert len(found) == len(finals)
    for name, at, stream, *numbers in query(
        database,
        "SELECT s.entity_id, s.timestamp, s.stream_id, t.value, s.expected, s.anomaly_score "
        "FROM anomaly_scores AS s "
        "JOIN time_series_data AS t USING (entity_id, timestamp, stream_id) "
        "WHERE s.timestamp >= %s AND s.timestamp < %s AND s.method = %s "
        "AND s.anomaly_score IS NOT NULL",
        *span,
        Method.INDIVIDUAL,
    ):
        found[name, at][2][stream] = tuple(numbers)
    return found


def test_instances_share_entities_and_one_takes_over(
    database: Database, tmp_path: Path, instances: list[Instance]
) -> None:
    """Readings may go to any; each window is told by one, and equals what Dagster stores of it.

    The owner of a shard is killed: the one that stood by goes on, and no window is missing.
    """
    end = window_of(datetime.now(tz=UTC)) - timedelta(minutes=5)
    live = WindowRange.between(end - timedelta(minutes=20), end)
    whole = WindowRange.between(end - timedelta(minutes=50), end)
    sent = minutes(whole)
    before = [one for one in sent if one.at < live.start_time]
    append(database, before)
    run(deployment_of(database, tmp_path), WindowRange.between(whole.start_time, live.start_time))
    secret = TokenBook(database).create("everything")
    first, second = (Instance(database, tmp_path, secret, f"{n}/2") for n in (0, 1))
    instances += [first, second]
    wait_until(lambda: first.health().get("role") == "owner", "it has its shard", seconds=90)
    spare = Instance(database, tmp_path, secret, "0/2")
    instances.append(spare)
    wait_until(lambda: spare.is_("standby"), "it stands by", seconds=90)
    wait_until(lambda: first.is_("owner") and second.is_("owner"), "both score", seconds=90)
    first.listen()
    second.listen()
    assert spare.client.get("/v1/events").status_code == 503
    assert_told_where_to_ask(first)
    chance = random.Random(7)
    half = live.start_time + timedelta(minutes=10)
    astray = send([o for o in sent if live.start_time <= o.at < half], instances, chance)
    told = [(name, at) for name in PEOPLE for at in (live.start_time, half - timedelta(minutes=5))]
    wait_until(lambda: set(told) <= set(last_told([first, second])), "all are told")
    assert [one["told_here"] for one in (*first.shards, *second.shards)] == [[0], [1]]
    handed_over = [one.health()["handed_over"] for one in instances]
    assert sum(handed_over) == astray + 1
    assert all(handed_over)
    name = "anomaly_assets_readings_handed_over_total"
    assert [one.figure(name) for one in instances] == handed_over
    first.kill()
    wait_until(lambda: spare.is_("owner"), "the one that stood by scores", seconds=10)
    spare.listen()
    send([o for o in sent if o.at >= half], [second, spare], chance)
    deployment = deployment_of(database, tmp_path)
    run(deployment, live)
    expected = stored(database, live)
    assert len(expected) == len(PEOPLE) * len(live)

    def agreed() -> bool:
        found = {key: said(one) for key, one in last_told(instances).items()}
        return all(found.get(key) == scores for key, scores in expected.items())

    wait_until(agreed, "what was told last is what is stored, to the bit", seconds=30)
    for one, shard in ((first, 0), (second, 1), (spare, 0)):
        assert {SHARD[event["entity_id"]] for event in one.told} == {shard}
        versions = [(e["entity_id"], e["window_start"], e["revision"]) for e in one.told]
        assert len(versions) == len(set(versions))
    for one in (second, spare):
        assert one.figure("anomaly_assets_pipeline_differences_total") == 0
