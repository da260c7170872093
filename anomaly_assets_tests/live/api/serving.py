"""The live API on a free port, as senders meet it: uvicorn, HTTP, PostgreSQL."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx

from anomaly_assets.live.api import create_app
from anomaly_assets.live.api.server import LiveServer
from anomaly_assets.live.tokens import TokenBook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastapi import FastAPI

    from anomaly_assets.pipeline.deployment import Deployment
    from anomaly_assets.storage.database import Database

STREAM = "heart_rate"
START = datetime(2026, 1, 31, 8, tzinfo=UTC)
URL = "/v1/readings"
JSON = {"Content-Type": "application/json"}
NDJSON = {"Content-Type": "application/x-ndjson"}


def reading(number: int = 0, entity: str = "ann", **other: Any) -> dict[str, Any]:
    """Return a good reading, a second after the one before it."""
    at = START + timedelta(seconds=number)
    made = {"entity_id": entity, "stream_id": STREAM, "timestamp": at.isoformat(), "value": 62.5}
    return made | other


def ndjson(rows: list[Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def count(database: Database, table: str = "readings") -> int:
    with database.connect() as connection:
        row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
    assert row is not None
    return int(row[0])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], what: str, *, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.02)


class Served:
    """A running API, and a client that holds a token for everything."""

    def __init__(self, deployment: Deployment, app: FastAPI, port: int) -> None:
        self.app = app
        self.port = port
        self.deployment = deployment
        self.tokens: TokenBook = app.state.context.tokens
        self.url = f"http://127.0.0.1:{port}"
        self.clients: list[httpx.Client] = []
        self.client = self.as_token(self.tokens.create("everything"))

    def as_token(self, secret: str | None) -> httpx.Client:
        """Return a client that sends this token."""
        headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        client = httpx.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False)
        self.clients.append(client)
        return client

    def of_entity(self, entity: str, *, write: bool = True, read: bool = True) -> httpx.Client:
        """Return a client with a token of one entity."""
        return self.as_token(self.tokens.create("one", entity_id=entity, write=write, read=read))


@contextmanager
def serving(deployment: Deployment, **options: Any) -> Iterator[Served]:
    """Serve a deployment until the end of the block."""
    app = create_app(deployment, **options)
    server = LiveServer(app, grace_seconds=5)
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started, "the API has started")
        served = Served(deployment, app, listening.getsockname()[1])
        try:
            yield served
        finally:
            for client in served.clients:
                client.close()
    finally:
        server.should_exit = True
        thread.join(30)
        listening.close()
    assert not thread.is_alive(), "the API did not end"
