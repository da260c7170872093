"""Questions and events: each sees its own, and what is answered is what is stored."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import pytest

from anomaly_assets.detection.explanation.record import anomaly_id
from anomaly_assets.live.results import ClosedBy, LiveResult
from anomaly_assets.storage.entities import ensure_entity
from anomaly_assets.storage.explanations import write_explanations
from anomaly_assets.storage.identifiers import ENTITY_ROW, Method
from anomaly_assets.storage.partitions import ensure_partitions
from anomaly_assets.streams.windows import WindowRange, window_of
from anomaly_assets_tests.live.api.serving import URL, Served, reading, serving, wait_until
from anomaly_assets_tests.pipeline.support import deployment_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import httpx

    from anomaly_assets.detection.explanation.record import Explanation
    from anomaly_assets.live.readings import LiveReading
    from anomaly_assets.storage.database import Database

NOW = window_of(datetime.now(tz=UTC) - timedelta(hours=1))


def store_anomaly(database: Database, entity: str, score: float = 0.9) -> str:
    """Store a window with a high score and its explanation; return its identifier."""
    name = anomaly_id(entity, int(NOW.timestamp()))
    windows = WindowRange.between(NOW, NOW + timedelta(minutes=5))
    with database.connect() as connection:
        ensure_entity(connection, entity)
        ensure_partitions(connection, NOW, NOW)
        connection.execute(
            "INSERT INTO anomaly_scores (entity_id, timestamp, stream_id, method, anomaly_score, "
            "confidence) VALUES (%s, %s, %s, %s, %s, 0.5)",
            (entity, NOW, ENTITY_ROW, Method.ENSEMBLE, score),
        )
        record = {
            "anomaly_id": name,
            "entity_id": entity,
            "window_start": NOW,
            "score": score,
            "summary": f"{entity} is odd",
            "mode": "fast",
            "trigger": "final_score",
            "primary_cause": "heart_rate",
            "confidence": 0.5,
            "recommended_action": "rest",
        }
        empty: dict[str, Any] = {
            key: [] for key in ("causal_attribution", "temporal_sequence", "evidence")
        }
        row = {**record, **empty, "alternative_explanations": []}
        write_explanations(connection, entity, windows, [row])
    return name


@dataclass(frozen=True)
class Why:
    """Stands for an explanation."""

    record: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return the record."""
        return self.record


def said(entity: str, score: float = 0.9, explanation: dict[str, Any] | None = None) -> LiveResult:
    """Return what a pipeline would say of a window."""
    return LiveResult(
        entity_id=entity,
        window_start=NOW,
        window_end=NOW + timedelta(minutes=5),
        score=score,
        confidence=1.0,
        is_anomaly=score > 0.7,
        trigger=None,
        streams={},
        cross_stream_score=None,
        gap_score=None,
        missing=(),
        closed_by=ClosedBy.TIME,
        provisional=False,
        explanation=cast("Explanation", Why(explanation)) if explanation else None,
    )


@dataclass(frozen=True)
class Look:
    """What a pipeline would say of a reading."""

    entity_id: str
    stream_id: str
    at: datetime
    value: float
    window_start: datetime
    score: float | None
    is_anomaly: bool


class PipelineDouble:
    """Stands for the streaming pipeline: says what it is told to."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, datetime, float]] = []
        self.refused: list[tuple[str, str, datetime]] = []
        self._results: asyncio.Queue[LiveResult] = asyncio.Queue()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def process_batch(
        self, readings: Iterable[LiveReading], *, look: bool = True
    ) -> list[Look | None]:
        """Note the readings, and look at them if that is asked for."""
        looks = [self._look(one) for one in readings]
        return [one if look else None for one in looks]

    def note_rejected(self, entity: str, stream: str, timestamp: datetime) -> None:
        """Note a refused reading."""
        self.refused.append((entity, stream, timestamp))

    def _look(self, one: LiveReading) -> Look:
        self.seen.append((one.entity_id, one.stream_id, one.at, one.value))
        if one.entity_id == "bad":
            message = "poisoned"
            raise RuntimeError(message)
        start = window_of(one.at)
        return Look(
            one.entity_id, one.stream_id, one.at, one.value, start, float("nan"), is_anomaly=False
        )

    async def subscribe(self) -> AsyncIterator[LiveResult]:
        """Yield what is said."""
        self._loop = asyncio.get_running_loop()
        while True:
            yield await self._results.get()

    def say(self, *results: LiveResult) -> None:
        """Give results to all who listen."""
        wait_until(lambda: self._loop is not None, "somebody listens")
        assert self._loop is not None
        for result in results:
            self._loop.call_soon_threadsafe(self._results.put_nowait, result)


@pytest.fixture
def pipeline() -> PipelineDouble:
    """Return a pipeline that says what it is told to."""
    return PipelineDouble()


@pytest.fixture
def scoring(database: Database, tmp_path: Path, pipeline: PipelineDouble) -> Iterator[Served]:
    """Serve a fresh database with a pipeline."""
    with serving(deployment_of(database, tmp_path), pipeline=pipeline) as served:
        yield served


def events(stream: httpx.Response, count: int) -> list[tuple[str, dict[str, Any]]]:
    """Read so many events of a stream."""
    found: list[tuple[str, dict[str, Any]]] = []
    kind = ""
    deadline = time.monotonic() + 25
    for line in stream.iter_lines():
        assert time.monotonic() < deadline, f"only {found} came"
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: "):
            found.append((kind, json.loads(line.removeprefix("data: "))))
            if len(found) == count:
                break
    return found


def test_anomalies_are_answered_to_whom_they_concern(served: Served, database: Database) -> None:
    """A deployment's token sees everybody's anomalies, an entity's token its own."""
    for name, score in (("ann", 0.95), ("bob", 0.8)):
        store_anomaly(database, name, score)
    everybody = served.client.get("/v1/anomalies").json()["anomalies"]
    assert [(one["entity_id"], one["score"]) for one in everybody] == [("ann", 0.95), ("bob", 0.8)]
    assert everybody[0]["summary"] == "ann is odd"
    own = served.of_entity("bob").get("/v1/anomalies").json()["anomalies"]
    assert [one["entity_id"] for one in own] == ["bob"]
    for query in ({"min_score": 0.9}, {"entity_id": "ann"}, {"limit": 1}):
        found = served.client.get("/v1/anomalies", params=query).json()["anomalies"]
        assert [one["entity_id"] for one in found] == ["ann"]
    before = {"until": (NOW - timedelta(days=1)).isoformat()}
    assert served.client.get("/v1/anomalies", params=before).json() == {"anomalies": []}


def test_explanation_of_another_entity_does_not_exist(served: Served, database: Database) -> None:
    """An explanation is told to its entity; to another one it is as if there were none."""
    name = store_anomaly(database, "ann")
    path = f"/v1/explanations/{name}"
    answer = served.of_entity("ann").get(path)
    assert answer.status_code == 200
    assert answer.json()["explanation"]["summary"] == "ann is odd"
    hidden = served.of_entity("bob").get(path)
    missing = served.of_entity("bob").get(f"/v1/explanations/{uuid4()}")
    assert hidden.status_code == missing.status_code == 404
    assert hidden.content == missing.content


def test_streams_are_listed_page_by_page(served: Served, database: Database) -> None:
    """Every entity is listed once, with the streams of its catalogue; a token's own alone."""
    with database.connect() as connection:
        for name in ("ann", "bob", "cid"):
            ensure_entity(connection, name)
        connection.execute("UPDATE entities SET catalogue = 'nowhere' WHERE entity_id = 'cid'")
    first = served.client.get("/v1/streams", params={"limit": 2}).json()
    rest = served.client.get("/v1/streams", params={"limit": 2, "after": first["next"]}).json()
    listed = first["entities"] + rest["entities"]
    assert [one["entity_id"] for one in listed] == ["ann", "bob", "cid"]
    assert [one["quarantined"] for one in listed] == [False, False, True]
    assert rest["next"] is None
    assert "heart_rate" in {stream["stream_id"] for stream in listed[0]["streams"]}
    own = served.of_entity("bob").get("/v1/streams").json()["entities"]
    assert [one["entity_id"] for one in own] == ["bob"]


def test_odd_questions_are_refused_not_failed(served: Served) -> None:
    """Extreme and hostile parameters are refused or answered, never an error of ours."""
    for path in ("/v1/anomalies", "/v1/streams"):
        for query in (
            {"entity_id": "\x00"},
            {"entity_id": "'; DROP TABLE readings; --"},
            {"since": "0001-01-01T00:00:00+14:00", "until": "9999-12-31T23:59:59-14:00"},
            {"min_score": "nan"},
            {"limit": 10**30},
            {"after": "\x00"},
        ):
            assert served.client.get(path, params=query).status_code in {200, 422}, query
    assert served.client.get("/v1/explanations/nonsense").status_code == 422


def test_latest_scores_come_from_tables_where_nothing_is_in_memory(
    served: Served, database: Database
) -> None:
    """Each entity's newest score, those that a token may see; the rest by `after`."""
    for entity, score in (("ann", 0.9), ("bob", 0.2)):
        store_anomaly(database, entity, score)
    served.client.post(URL, json=reading(entity="eve"))
    found = served.client.get("/v1/latest").json()
    assert [(one["entity_id"], one["is_anomaly"]) for one in found["entities"]] == [
        ("ann", True),
        ("bob", False),
    ]
    assert served.client.get("/v1/latest", params={"limit": 1}).json()["next"] == "ann"
    own = served.of_entity("bob")
    assert [one["entity_id"] for one in own.get("/v1/latest").json()["entities"]] == ["bob"]
    assert own.get("/v1/latest", params={"entity_id": "ann"}).status_code == 403


def test_single_reading_is_told_what_it_looks_like(
    scoring: Served, pipeline: PipelineDouble
) -> None:
    """The pipeline sees each new reading once, and a single one is answered with its first look."""
    answer = scoring.client.post(URL, json=reading())
    assert answer.json()["first_look"]["stream_id"] == "heart_rate"
    assert answer.json()["first_look"]["score"] is None
    scoring.client.post(URL, json=[reading(), reading(1), reading(2, value="x")])
    assert [one[2].second for one in pipeline.seen] == [0, 1]


def test_several_readings_are_told_if_they_ask(scoring: Served) -> None:
    """Each accepted reading of a batch has its look, in order; unasked there is none."""
    rows = [reading(2), reading(0), reading(1, value="x"), reading(3)]
    asked = scoring.client.post(URL, json=rows, params={"first_looks": "true"}).json()
    seconds = [datetime.fromisoformat(one["at"]).second for one in asked["first_looks"]]
    assert seconds == [2, 0, 3]
    assert scoring.client.post(URL, json=[reading(7), reading(8)]).json()["first_looks"] == []


def test_failing_pipeline_fails_no_reading(scoring: Served) -> None:
    """A reading that the pipeline cannot take is durable and acknowledged all the same."""
    answer = scoring.client.post(URL, json=reading(0, "bad"))
    assert answer.status_code == 202
    assert answer.json()["first_look"] is None
    assert "anomaly_assets_first_look_failures_total 1.0" in scoring.client.get("/metrics").text


def test_events_go_to_whom_they_concern(scoring: Served, pipeline: PipelineDouble) -> None:
    """Listeners get the results of the entities they may see, and of the kind they asked for."""
    own = scoring.of_entity("bob").stream("GET", "/v1/events")
    odd = scoring.client.stream("GET", "/v1/events", params={"anomalies_only": True})
    with own as first, odd as second:
        assert first.headers["content-type"].startswith("text/event-stream")
        assert second.status_code == 200
        context = scoring.app.state.context
        wait_until(lambda: context.listeners == 2, "both listen")
        pipeline.say(
            said("ann", 0.1),
            said("bob", 0.2),
            said("ann"),
            said("bob", explanation={"summary": "bob is odd"}),
        )
        heard = events(first, 2)
        assert [(kind, data["entity_id"], data["score"]) for kind, data in heard] == [
            ("window", "bob", 0.2),
            ("explanation", "bob", 0.9),
        ]
        assert [data["entity_id"] for _, data in events(second, 2)] == ["ann", "bob"]
    wait_until(lambda: context.listeners == 0, "nobody listens any more")


def test_listeners_do_not_hold_up_the_end(
    database: Database, tmp_path: Path, pipeline: PipelineDouble
) -> None:
    """An open event stream ends when the API is stopped."""
    with serving(deployment_of(database, tmp_path), pipeline=pipeline) as served:
        client = served.as_token(served.tokens.create("listener"))
        with client.stream("GET", "/v1/events") as stream:
            served.app.state.context.events.close()
            assert b"".join(stream.iter_bytes()).startswith(b"retry: ")


def test_events_without_a_pipeline_are_refused(served: Served) -> None:
    """An API that only stores has nothing to tell listeners, and says so."""
    assert served.client.get("/v1/events").status_code == 503


def test_metrics_name_no_entity(served: Served) -> None:
    """Prometheus gets the figures without a token, and nobody's name or path in them."""
    served.client.post(URL, json=reading(0, "somebody"))
    served.client.get("/v1/somebody")
    text = served.as_token(None).get("/metrics").text
    assert 'anomaly_assets_readings_total{as="accepted"} 1.0' in text
    assert "anomaly_assets_database_up 1.0" in text
    assert 'route="/v1/readings",status="202"' in text
    assert "somebody" not in text
