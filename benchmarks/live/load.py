"""Senders of readings, run by Locust in an environment of its own; imports nothing of ours.

What they do is in the environment: ``LOAD_TOKEN``, ``LOAD_BATCH`` (readings a request),
``LOAD_RATE`` (requests a second of each sender; 0: one after the other), ``LOAD_LOOKS`` (1: several
readings ask for their first looks), ``LOAD_ENTITIES``, ``LOAD_STREAMS`` and ``LOAD_RESULT``, the
file that the times of all requests are written to.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import time
from datetime import UTC, datetime
from pathlib import Path

from locust import FastHttpUser, events, task

BATCH = int(os.environ["LOAD_BATCH"])
RATE = float(os.environ["LOAD_RATE"])
PATH = "/v1/readings" + ("?first_looks=true" if os.environ["LOAD_LOOKS"] == "1" else "")
ENTITIES = int(os.environ["LOAD_ENTITIES"])
STREAMS = json.loads(os.environ["LOAD_STREAMS"])
WARM_UP_SECONDS = 5.0

times: list[tuple[float, float, int]] = []
numbers = itertools.count()
random.seed(1)


class Sender(FastHttpUser):
    """A phone, or a gateway of many: its readings are of this very moment."""

    taken = 0.0

    def wait_time(self) -> float:
        """Wait as independent senders do: a fixed rhythm drifts until all send at one moment."""
        return max(0.0, random.expovariate(RATE) - self.taken) if RATE else 0.0

    @task
    def send(self) -> None:
        """Send one request and note how long its answer took."""
        if BATCH == 1:
            content, kind = json.dumps(_reading()), "application/json"
        else:
            content = "\n".join(json.dumps(_reading()) for _ in range(BATCH))
            kind = "application/x-ndjson"
        headers = {"Content-Type": kind, "Authorization": f"Bearer {os.environ['LOAD_TOKEN']}"}
        began = time.monotonic()
        answer = self.client.post(PATH, data=content, headers=headers)
        self.taken = time.monotonic() - began
        times.append((began, self.taken, answer.status_code))


def _reading() -> dict[str, object]:
    number = next(numbers)
    stream, value = STREAMS[number % len(STREAMS)]
    return {
        "entity_id": f"person-{random.randrange(ENTITIES):03d}",
        "stream_id": stream,
        "timestamp": datetime.now(tz=UTC).isoformat(),
        "value": value,
    }


@events.quitting.add_listener
def write(**_: object) -> None:
    """Write the times of the requests after the warm-up."""
    start = min((began for began, _, _ in times), default=0.0) + WARM_UP_SECONDS
    kept = [one for one in times if one[0] >= start]
    Path(os.environ["LOAD_RESULT"]).write_text(
        json.dumps(
            {
                "seconds": max((b + t for b, t, _ in kept), default=start) - start,
                "milliseconds": [1e3 * taken for _, taken, status in kept if status == 202],
                "failed": sum(status != 202 for _, _, status in kept),
            }
        )
    )
