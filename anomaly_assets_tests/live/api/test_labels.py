"""Labels through the API: recorded as the command line does, listed, taken back, refused."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from anomaly_assets.storage.labels import list_labels
from anomaly_assets_tests.live.api.serving import Served, serving
from anomaly_assets_tests.pipeline.people import START, WINDOWS, load_people, query, run
from anomaly_assets_tests.pipeline.support import deployment_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anomaly_assets.storage.database import Database

ANN, ODD = "ann", "odd/../name?"
PLACE = {ANN: "/v1/entities/ann/labels", ODD: "/v1/entities/odd%2F..%2Fname%3F/labels"}
RANGE = {
    "start": (START + timedelta(hours=1)).isoformat(),
    "end": (START + timedelta(hours=1, minutes=20)).isoformat(),
}


@pytest.fixture
def judged(database: Database, tmp_path: Path) -> Iterator[Served]:
    """Serve two people with three processed hours."""
    load_people(database, (ANN, ODD))
    deployment = deployment_of(database, tmp_path)
    run(deployment)
    with serving(deployment) as running:
        yield running


def test_a_range_is_judged_listed_and_taken_back(judged: Served) -> None:
    """The label names the token, the streams and the reason; undone it is listed on request."""
    body = {**RANGE, "verdict": "expected", "reason": "Moved house", "stream_ids": ["steps"]}
    for name, place in PLACE.items():
        answer = judged.client.post(place, json=body)
        assert answer.status_code == 201, answer.text
        label = answer.json()
        assert label["entity_id"] == name
        assert label["stream_ids"] == ["steps"]
        assert label["author"].startswith("everything (token ")
        with judged.deployment.database.connect() as connection:
            (stored,) = list_labels(connection, entity_id=name)
        assert (stored.label_id, stored.reason) == (label["label_id"], "Moved house")
        assert judged.client.get(place).json()["labels"] == [label]
        undone = judged.client.delete(f"/v1/labels/{label['label_id']}").json()
        assert undone["undone_by"] == label["author"]
        again = judged.client.delete(f"/v1/labels/{label['label_id']}").json()
        assert again == undone
        assert judged.client.get(place).json()["labels"] == []
        everything = judged.client.get(place, params={"undone": True}).json()["labels"]
        assert everything == [undone]


def test_an_episode_is_judged_as_a_whole(judged: Served) -> None:
    """Without a range the label covers the explained episode and bears its identifier."""
    rows = query(
        judged.deployment.database,
        "SELECT anomaly_id::text, timestamp, episode_end FROM causal_explanations "
        "WHERE entity_id = %s AND trigger <> 'forced' ORDER BY timestamp",
        ANN,
    )
    anomaly, start, end = rows[0]
    place = f"/v1/entities/{ANN}/episodes/{anomaly}/labels"
    answer = judged.client.post(place, json={"verdict": "false_alarm"})
    assert answer.status_code == 201, answer.text
    with judged.deployment.database.connect() as connection:
        (label,) = list_labels(connection, entity_id=ANN)
    assert (label.anomaly_id, label.start_time, label.end_time) == (anomaly, start, end)
    twice = judged.client.post(place, json={"verdict": "confirmed"})
    assert twice.status_code == 409
    assert "labelled already" in twice.json()["detail"]
    of_another = f"{PLACE[ODD].removesuffix('labels')}episodes/{anomaly}/labels"
    assert judged.client.post(of_another, json={"verdict": "confirmed"}).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {"verdict": "maybe", **RANGE},
        {"verdict": "expected"},
        {"verdict": "expected", "start": RANGE["end"], "end": RANGE["start"]},
        {"verdict": "expected", "start": WINDOWS.end_time.isoformat()},
        {"verdict": "expected", "start": "0001-01-01T00:00:00+14:00"},
        {"verdict": "expected", **RANGE, "stream_ids": ["nothing"]},
        {"verdict": "expected", **RANGE, "stream_ids": ["steps", "steps"]},
        {"verdict": "expected", **RANGE, "stream_ids": []},
        {"verdict": "confirmed", **RANGE, "cause": "No Name"},
        {"verdict": "confirmed", **RANGE, "cause": "brand_new"},
        {"verdict": "expected", **RANGE, "title": "without a cause"},
        {"verdict": "expected", **RANGE, "reason": "a\x00b"},
    ],
)
def test_what_cannot_be_recorded_is_refused(judged: Served, body: dict[str, object]) -> None:
    """The answer is 422 with the reason, and nothing is stored."""
    answer = judged.client.post(PLACE[ANN], json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"]
    assert query(judged.deployment.database, "SELECT count(*) FROM labels") == [(0,)]


def test_who_may_not_judge_does_not(judged: Served) -> None:
    """A phone's token, a reader's and another entity's: refused, and told nothing."""
    body = {"verdict": "expected", **RANGE}
    made = judged.client.post(PLACE[ANN], json=body).json()
    undo = f"/v1/labels/{made['label_id']}"
    for client in (
        judged.of_entity(ANN, read=False),
        judged.of_entity(ANN, write=False),
        judged.of_entity(ODD),
    ):
        assert client.post(PLACE[ANN], json=body).status_code == 403
        assert client.delete(undo).status_code in {403, 404}
    assert judged.of_entity(ODD).get(PLACE[ANN]).status_code == 403
    assert judged.of_entity(ANN, read=False).get(PLACE[ANN]).status_code == 403
    assert judged.as_token(None).post(PLACE[ANN], json=body).status_code == 401
    assert (
        judged.of_entity(ODD).delete(undo).json()
        == judged.client.delete("/v1/labels/999999999").json()
    )
    assert judged.of_entity(ANN).delete(undo).status_code == 200


def test_many_labels_come_in_parts(judged: Served) -> None:
    """`next` leads on until all were listed."""
    for number in range(3):
        at = (START + timedelta(minutes=5 * number)).isoformat()
        end = (START + timedelta(minutes=5 * number + 5)).isoformat()
        body = {"verdict": "expected", "start": at, "end": end}
        assert judged.client.post(PLACE[ANN], json=body).status_code == 201
    first = judged.client.get(PLACE[ANN], params={"limit": 2}).json()
    rest = judged.client.get(PLACE[ANN], params={"limit": 2, "after": first["next"]}).json()
    assert [len(first["labels"]), len(rest["labels"]), rest["next"]] == [2, 1, None]
