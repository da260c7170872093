"""How fast the pages answer with a month of 36 streams: 50th and 95th percentile of each page."""

from __future__ import annotations

import re
import shutil
import socket
import tempfile
import threading
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np

from anomaly_assets.dashboard import mount
from anomaly_assets.evaluation.simulator import demo_faults, simulate
from anomaly_assets.evaluation.simulator.simulation import DEFAULT_START
from anomaly_assets.live.api import create_app
from anomaly_assets.live.api.server import LiveServer
from anomaly_assets.pipeline.deployment import Deployment
from anomaly_assets.pipeline.labels import judge
from anomaly_assets.pipeline.whole import process
from anomaly_assets.settings import Settings
from anomaly_assets.storage import journal, migrate
from anomaly_assets.storage.database import Database
from anomaly_assets.storage.embedded import EmbeddedServer
from anomaly_assets.storage.entities import ensure_entity
from anomaly_assets.storage.identifiers import Verdict
from anomaly_assets.storage.labels import Opinion
from anomaly_assets.streams.aggregation import Readings
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets.streams.windows import WindowRange
from benchmarks.output import publish

if TYPE_CHECKING:
    from collections.abc import Iterator

DAYS = 30
WHO = "ann"
#: Others beside, so that the overview has something to page through.
CROWD = 1000
ROUNDS = 60
WARM_UP = 3
CEILING_MS = 300.0


def main() -> None:
    """Measure every page and drawing over the whole month, one request after the other."""
    folder = Path(tempfile.mkdtemp(prefix="anomaly-assets-pages-"))
    server = EmbeddedServer(folder / "postgres")
    try:
        url = server.start()
        migrate.upgrade(url)
        settings = Settings(_env_file=None, home=folder, database_url=url)
        deployment = Deployment(settings, Database(url), run_id="benchmark")
        windows = seed(deployment)
        figures: dict[str, float | int | str] = {"windows": len(windows), "entities": CROWD + 1}
        with serving(deployment) as client:
            worst = 0.0
            for name, address in pages(deployment, windows).items():
                p50, p95 = measure(client, address)
                figures[f"{name}_p50_ms"], figures[f"{name}_p95_ms"] = p50, p95
                worst = max(worst, p95)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    figures["worst_p95_ms"] = worst
    figures["ceiling_ms"] = CEILING_MS
    publish("milliseconds until a page is there, a month of 36 streams", figures)


def seed(deployment: Deployment) -> WindowRange:
    """Process a simulated month of one person, and make the crowd."""
    catalogue = load_catalogue("default")
    faults = demo_faults(11, (WHO,), DEFAULT_START, DAYS)
    frame = simulate(11, (WHO,), DEFAULT_START, DAYS, faults=faults).readings
    readings = Readings(
        frame["stream_id"].astype(str).map(catalogue.index).to_numpy(np.int64),
        frame["timestamp"].dt.as_unit("us").astype("int64").to_numpy(),
        frame["value"].to_numpy(),
    )
    with deployment.database.connect() as connection:
        ensure_entity(connection, WHO)
        journal.append_readings(
            connection,
            WHO,
            readings,
            catalogue,
            source="benchmark",
            late_horizon=timedelta(days=DAYS),
        )
    windows = WindowRange.between(DEFAULT_START, DEFAULT_START + timedelta(days=DAYS))
    for _ in process(deployment, windows):
        pass
    judge_all(deployment)
    with deployment.database.connect() as connection:
        connection.execute(
            "INSERT INTO entities (entity_id) SELECT 'crowd-' || n FROM generate_series(1, %s) n",
            (CROWD,),
        )
        connection.execute("VACUUM ANALYZE")
    return windows


def judge_all(deployment: Deployment) -> None:
    """Judge every strong episode, by turns, so that the page of feedback has something to count."""
    with deployment.database.connect() as connection:
        starts = connection.execute(
            "SELECT timestamp FROM causal_explanations WHERE peak_score > %s ORDER BY timestamp",
            (deployment.settings.explanation_threshold,),
        ).fetchall()
    for number, (start,) in enumerate(starts):
        verdict = Verdict.FALSE_ALARM if number % 2 else Verdict.CONFIRMED
        judge(deployment, deployment.entity(WHO), Opinion(verdict, "benchmark"), start)


def pages(deployment: Deployment, windows: WindowRange) -> dict[str, str]:
    """Return the addresses that are measured, by name."""
    with deployment.database.connect() as connection:
        row = connection.execute(
            "SELECT anomaly_id FROM causal_explanations ORDER BY peak_score DESC NULLS LAST LIMIT 1"
        ).fetchone()
    month = (
        f"id={WHO}&from={windows.start_time:%Y-%m-%dT%H:%MZ}&to={windows.end_time:%Y-%m-%dT%H:%MZ}"
    )
    episode = f"anomaly={row[0] if row else ''}"
    return {
        "overview": "/ui/",
        "entity": f"/ui/entity?{month}",
        "scores": f"/ui/data/scores?{month}",
        "heat": f"/ui/data/heat?{month}",
        "heat_week": f"/ui/data/heat?id={WHO}&range=7d",
        "stream": f"/ui/data/stream?{month}&stream=heart_rate",
        "episode": f"/ui/episode?{episode}",
        "minutes": f"/ui/data/minutes?{episode}",
        "gaps": f"/ui/gaps?{month}",
        "episodes": f"/ui/episodes?{month}&strong=0",
        "suggestions": "/ui/suggestions",
        "feedback": "/ui/feedback?status=all",
        "proposal": f"/ui/feedback/proposal?id={WHO}",
        "models": f"/ui/models?id={WHO}",
        "settings": "/ui/settings",
    }


def measure(client: httpx.Client, address: str) -> tuple[float, float]:
    """Return the 50th and the 95th percentile of the milliseconds that a page takes."""
    taken = []
    for number in range(WARM_UP + ROUNDS):
        started = time.perf_counter()
        answer = client.get(address)
        if number >= WARM_UP:
            taken.append((time.perf_counter() - started) * 1000.0)
        answer.raise_for_status()
    return float(np.percentile(taken, 50)), float(np.percentile(taken, 95))


@contextmanager
def serving(deployment: Deployment) -> Iterator[httpx.Client]:
    """Serve the pages, and return a client that has logged in."""
    app = create_app(deployment)
    tokens = app.state.context.tokens
    mount(app, deployment, tokens)
    server = LiveServer(app, grace_seconds=5)
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
            form = client.get("/ui/login").text
            before = re.findall(r'name="before" value="([^"]+)"', form)[0]
            fields = {"before": before, "token": tokens.create("benchmark"), "next": ""}
            client.post("/ui/login", data=fields)
            yield client
    finally:
        server.should_exit = True
        thread.join(30)
        listening.close()


if __name__ == "__main__":
    main()
