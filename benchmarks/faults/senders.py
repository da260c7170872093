"""Clients that send readings until they are acknowledged, and remember which were."""

from __future__ import annotations

import json
import random
import threading
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import paho.mqtt.client as mqtt
import redis
from paho.mqtt.enums import CallbackAPIVersion

from anomaly_assets.evaluation.simulator import Fault, FaultKind, simulate
from anomaly_assets_tests.live.sources.servers import HOST

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from benchmarks.faults.topology import Topology

_PATIENCE_SECONDS = 240.0
_REQUEST_SECONDS = 15.0
_PAUSE_SECONDS = 0.2
#: Batches that a sender cuts its part of a round into.
_BATCHES = 10
#: Time over which a part of a round is sent, if nothing is in the way.
ROUND_SECONDS = 3.0
_SENT_AGAIN = 0.15


@dataclass(frozen=True, order=True)
class Reading:
    """One reading."""

    at: datetime
    entity_id: str
    stream_id: str
    value: float

    @property
    def document(self) -> dict[str, Any]:
        """The reading as the API takes it."""
        return {
            "entity_id": self.entity_id,
            "stream_id": self.stream_id,
            "timestamp": self.at.isoformat(),
            "value": self.value,
        }


def simulated(people: Sequence[str], start: datetime, end: datetime, seed: int) -> pd.DataFrame:
    """Return readings of people, to whom something happens towards the end."""
    late = start + 0.7 * (end - start)
    faults = [
        Fault(people[0], FaultKind.SPIKE, late, 10, "skin_temperature", 8.0),
        Fault(people[-1], FaultKind.LEVEL_SHIFT, late, 30, "ambient_light", 8.0),
    ]
    days = -(-(end - start) // timedelta(days=1))
    frame = simulate(seed, people, start=start, days=days, faults=faults).readings
    return frame[frame["timestamp"] < end]


def readings_of(frame: pd.DataFrame) -> list[Reading]:
    """Return a frame's rows in order of time."""
    columns = (
        frame["timestamp"].dt.to_pydatetime(),
        frame["entity_id"].astype(str),
        frame["stream_id"].astype(str),
        frame["value"].tolist(),
    )
    return sorted(map(Reading, *columns))


class Sender(threading.Thread):
    """Sends its readings, a part for each round; an error of it stands in `failure`.

    Parameters
    ----------
    parts
        Readings by round.
    seed
        Of its pauses, and of what it sends again.
    """

    def __init__(self, parts: Sequence[Sequence[Reading]], seed: int) -> None:
        super().__init__(daemon=True)
        self.acknowledged: set[Reading] = set()
        self.repeated = 0
        self.attempts_failed = 0
        self.done = 0
        self.failure: BaseException | None = None
        self._parts = parts
        self._random = random.Random(seed)
        self._released = threading.Condition()
        self._parts_released = 0
        self._ending = threading.Event()

    def release(self, parts: int) -> None:
        """Let it send so many parts."""
        with self._released:
            self._parts_released = parts
            self._released.notify_all()

    def stop(self) -> None:
        """Have it end, and wait for that; also of one that was never started."""
        self._ending.set()
        self.release(len(self._parts))
        if self.is_alive():
            self.join()
        else:
            self.close()

    def run(self) -> None:
        """Send everything."""
        try:
            self.open()
            for number, part in enumerate(self._parts):
                with self._released:
                    while self._parts_released <= number:
                        self._released.wait()
                self._send_part(part)
                if self._ending.is_set():
                    return
                self.done = number + 1
        except BaseException as error:  # noqa: BLE001 - whoever waits for it tells
            self.failure = error
        finally:
            self.close()

    def open(self) -> None:
        """Connect, where that is not done as it sends."""

    def close(self) -> None:
        """Give the connection back."""

    def offer(self, batch: Sequence[Reading]) -> bool:
        """Send a batch once; whether it was acknowledged."""
        raise NotImplementedError

    def _send_part(self, part: Sequence[Reading]) -> None:
        size = max(1, -(-len(part) // _BATCHES))
        for start in range(0, len(part), size):
            batch = part[start : start + size]
            self._deliver(batch)
            self.acknowledged.update(batch)
            if self._random.random() < _SENT_AGAIN:
                self.repeated += len(batch)
                self._deliver(batch)
            if self._ending.wait(self._random.uniform(0, 2 * ROUND_SECONDS / _BATCHES)):
                return

    def _deliver(self, batch: Sequence[Reading]) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not self._ending.is_set() and not self.offer(batch):
            self.attempts_failed += 1
            if time.monotonic() > deadline:
                msg = f"not acknowledged within {_PATIENCE_SECONDS:.0f} s: {batch[0]}"
                raise TimeoutError(msg)
            self._ending.wait(_PAUSE_SECONDS)


class HttpSender(Sender):
    """Posts to the API; acknowledged by 202."""

    def __init__(self, parts: Sequence[Sequence[Reading]], seed: int, topology: Topology) -> None:
        super().__init__(parts, seed)
        self._client = httpx.Client(
            base_url=topology.url,
            headers={"Authorization": f"Bearer {topology.token}"},
            timeout=_REQUEST_SECONDS,
            trust_env=False,
        )

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def offer(self, batch: Sequence[Reading]) -> bool:
        """Post a batch."""
        try:
            answer = self._client.post("/v1/readings", json=[one.document for one in batch])
        except httpx.TransportError:
            return False
        if answer.status_code in {429, 503}:
            return False
        if answer.status_code != httpx.codes.ACCEPTED or answer.json()["rejected"]:
            msg = f"good readings were answered {answer.status_code}: {answer.text[:500]}"
            raise ValueError(msg)
        return True


class MqttSender(Sender):
    """Publishes with QoS 1; acknowledged by the broker."""

    def __init__(self, parts: Sequence[Sequence[Reading]], seed: int, port: int) -> None:
        super().__init__(parts, seed)
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self._port = port

    def open(self) -> None:
        """Connect; what happens on the connection is a thread's of its own."""
        self._client.connect(HOST, self._port)
        self._client.loop_start()

    def close(self) -> None:
        """Say goodbye."""
        self._client.disconnect()
        self._client.loop_stop()

    def offer(self, batch: Sequence[Reading]) -> bool:
        """Publish a batch, a message for each reading."""
        under_way = [
            self._client.publish(
                f"{one.entity_id}/{one.stream_id}",
                json.dumps({"timestamp": one.at.isoformat(), "value": one.value}),
                qos=1,
            )
            for one in batch
        ]
        deadline = time.monotonic() + _REQUEST_SECONDS
        for message in under_way:
            message.wait_for_publish(max(0.0, deadline - time.monotonic()))
        return all(message.is_published() for message in under_way)


class RedisSender(Sender):
    """Adds to a stream; acknowledged by the answer of a Redis that writes before it answers."""

    def __init__(
        self, parts: Sequence[Sequence[Reading]], seed: int, port: int, stream: str
    ) -> None:
        super().__init__(parts, seed)
        self._client = redis.Redis(host=HOST, port=port, protocol=2, socket_timeout=5)
        self._stream = stream

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def offer(self, batch: Sequence[Reading]) -> bool:
        """Add a batch, an entry for each reading."""
        with self._client.pipeline(transaction=False) as queue:
            for one in batch:
                fields: Any = {name: str(value) for name, value in one.document.items()}
                queue.xadd(self._stream, fields)
            try:
                queue.execute()
            except (redis.RedisError, OSError):
                return False
        return True
