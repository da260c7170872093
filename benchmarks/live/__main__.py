"""``make bench NAME=live``: latency and throughput of the live path, 36 streams of 100 people.

The API runs on one core, the senders and the database share the others. Percentiles are of every
request after a warm-up; ``window_p99_ms`` is from the moment a window is due to its result, of 100
windows that are due at the same moment, ``explanation_p99_ms`` from a result to its explanation.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from anomaly_assets.live.tokens import TokenBook
from anomaly_assets.pipeline.deployment import Deployment
from anomaly_assets.settings import Settings
from anomaly_assets.storage.connect import connect_database, embedded_server
from anomaly_assets.storage.migrate import upgrade
from anomaly_assets.streams.windows import WindowRange, window_of
from benchmarks.live.boundaries import an_hour
from benchmarks.live.people import simulated, watch
from benchmarks.live.requests import Load, send, serving
from benchmarks.output import publish

_WATCHED = timedelta(hours=12)
#: Each 1,000 readings a second, all of which are told what they look like.
_SINGLE = Load(senders=100, batch=1, rate=10.0, seconds=35)
_TENS = Load(senders=20, batch=10, rate=5.0, seconds=35, looks=True)
_BATCHES = Load(senders=4, batch=1000, rate=0.0, seconds=35)


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument("--windows", type=int, default=12)
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="anomaly-assets-bench-"))
    # The embedded server's own user has to get in.
    home.chmod(0o755)
    settings = Settings(_env_file=None, home=home, database_url=None)
    try:
        publish("the live path", measure(settings, options.people, options.windows))
    finally:
        embedded_server(settings).stop()
        shutil.rmtree(home, ignore_errors=True)


def measure(settings: Settings, people: int, windows: int) -> dict[str, float | int | str]:
    """Return the figures."""
    database = connect_database(settings)
    upgrade(database.url)
    deployment = Deployment(settings, database, run_id="benchmark")
    cores = sorted(os.sched_getaffinity(0))
    ours, others = (cores[0], cores[-1]) if len(cores) > 1 else (None, None)
    ends = window_of(datetime.now(tz=UTC)) - timedelta(minutes=5 * (windows + 3))
    watched = WindowRange.between(ends - _WATCHED, ends)
    frame = simulated(people, watched.start_time, ends)
    watch(deployment, frame, watched)
    hour = WindowRange.between(ends, ends + timedelta(minutes=5 * (windows + 1)))
    if ours is not None:
        os.sched_setaffinity(0, {ours})
    boundaries = asyncio.run(an_hour(deployment, frame, hour))
    os.sched_setaffinity(0, cores)
    found: dict[str, float | int | str] = {
        "people": people,
        "windows": len(boundaries.told),
        **_percentiles("window", boundaries.told),
        **_percentiles("explanation", boundaries.explained),
        "memory_growth_mb": boundaries.growth_mb,
    }
    return found | requests(settings, deployment, people, ours, others)


def requests(
    settings: Settings, deployment: Deployment, people: int, ours: int | None, others: int | None
) -> dict[str, float | int | str]:
    """Return the figures of the API."""
    token = TokenBook(deployment.database).create("benchmark")
    environment = {
        **os.environ,
        "DATABASE_URL": deployment.database.url,
        "ANOMALY_ASSETS_HOME": str(settings.home),
        "ANOMALY_ASSETS_LIVE_REQUESTS_PER_SECOND": "1000000",
        "ANOMALY_ASSETS_LIVE_READINGS_PER_SECOND": "1000000000",
    }
    with serving(environment, ours) as url:
        single = send(url, token, _SINGLE, people, others)
        tens = send(url, token, _TENS, people, others)
        batches = send(url, token, _BATCHES, people, others)
    _require_no_failures(single, tens, batches)
    return {
        **_percentiles("first_look", single["milliseconds"]),
        "first_look_requests_per_s": len(single["milliseconds"]) / single["seconds"],
        **_percentiles("first_look_of_10", tens["milliseconds"]),
        "first_look_of_10_requests_per_s": len(tens["milliseconds"]) / tens["seconds"],
        "readings_per_s": _BATCHES.batch * len(batches["milliseconds"]) / batches["seconds"],
        **_percentiles("batch_of_1000", batches["milliseconds"]),
    }


def _require_no_failures(*loads: dict[str, Any]) -> None:
    failed = sum(load["failed"] for load in loads)
    if failed:
        msg = f"{failed} requests were not answered with 202"
        raise RuntimeError(msg)


def _percentiles(name: str, milliseconds: list[float]) -> dict[str, float | int | str]:
    if not milliseconds:
        return {f"{name}_p50_ms": "none", f"{name}_p99_ms": "none"}
    p50, p99 = np.percentile(milliseconds, [50, 99])
    return {f"{name}_p50_ms": float(p50), f"{name}_p99_ms": float(p99)}


if __name__ == "__main__":
    main()
