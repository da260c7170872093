"""A deployment with simulated people, its pages served, and clients that have logged in."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
from psycopg.types.json import Jsonb

from anomaly_assets.dashboard import mount
from anomaly_assets.detection.cross_stream.detector import VOICES
from anomaly_assets.detection.feedback.adjustment import Rule
from anomaly_assets.detection.feedback.labelled import Effect
from anomaly_assets.evaluation.simulator import simulate
from anomaly_assets.evaluation.simulator.simulation import DEFAULT_START
from anomaly_assets.live.api import create_app
from anomaly_assets.live.api.server import LiveServer
from anomaly_assets.live.tokens import TokenBook
from anomaly_assets.pipeline.deployment import Deployment
from anomaly_assets.pipeline.network import fit_networks
from anomaly_assets.pipeline.whole import process
from anomaly_assets.settings import Settings
from anomaly_assets.storage import journal
from anomaly_assets.storage.entities import ensure_entity
from anomaly_assets.storage.identifiers import SuggestionKind
from anomaly_assets.storage.suggestions import Proposal, write_suggestions
from anomaly_assets.streams.aggregation import Readings
from anomaly_assets.streams.loading import load_catalogue, shipped_text
from anomaly_assets.streams.windows import WindowRange
from anomaly_assets_tests.live.api.serving import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anomaly_assets.storage.database import Database

#: Thirty hours of a Tuesday and a Wednesday.
START = DEFAULT_START + timedelta(days=1)
WINDOWS = WindowRange.between(START, START + timedelta(hours=30))
ANN = "ann"
HOSTILE = "<script>alert('x')</script>/../\"&\N{HEBREW LETTER ALEF}é"
#: Others that have never sent anything.
NAMES = ("..", "a/b?c#d", "'><img src=x onerror=alert(1)>", "\N{ARABIC LETTER ALEF}" * 150)
HOSTILE_STREAM = "Pulse\"><script>document.title='taken'</script>"
FULL = f"from={START:%Y-%m-%dT%H:%MZ}&to={START + timedelta(hours=30):%Y-%m-%dT%H:%MZ}"
_ZONES = {ANN: "Europe/Berlin", HOSTILE: "Asia/Kolkata"}


def seeded(database: Database, home: Path) -> Deployment:
    """Return a deployment with two people processed, one network and a few suggestions each."""
    catalogue = home / "own.yaml"
    text = shipped_text("default").replace(
        "  - id: heart_rate\n", f"  - id: heart_rate\n    description: '{_quoted()}'\n", 1
    )
    catalogue.write_text(text)
    settings = Settings(
        _env_file=None, home=home, database_url=database.url, explanation_mode="thorough"
    )
    deployment = Deployment(settings, database, run_id="test")
    frame = simulate(5, (ANN, HOSTILE), start=START, days=2).readings
    frame = frame[frame["timestamp"] < WINDOWS.end_time]
    default = load_catalogue("default")
    with database.connect() as connection:
        for name, own in frame.groupby("entity_id", observed=True):
            which = str(catalogue) if name == ANN else None
            ensure_entity(connection, str(name), catalogue=which, time_zone=_ZONES[str(name)])
            readings = Readings(
                own["stream_id"].astype(str).map(default.index).to_numpy("int64"),
                own["timestamp"].dt.as_unit("us").astype("int64").to_numpy(),
                own["value"].to_numpy(),
            )
            journal.append_readings(
                connection,
                str(name),
                readings,
                load_catalogue(which) if which else default,
                source="test",
                late_horizon=timedelta(days=400),
            )
        for name in NAMES:
            ensure_entity(connection, name)
    half = START + timedelta(hours=24)
    for part in (WindowRange.between(START, half), WindowRange.between(half, WINDOWS.end_time)):
        for _ in process(deployment, part):
            pass
        for _ in fit_networks(deployment, deployment.entities(), [half]):
            pass
    assert not deployment.failures
    for name in (ANN, HOSTILE):
        suggest(deployment, name)
    return deployment


def _quoted() -> str:
    return HOSTILE_STREAM.replace("'", "''")


def suggest(
    deployment: Deployment, entity: str, cause: str = "app_launches", effect: str = "cpu_load"
) -> None:
    """Store a suggested edge of an entity."""
    edge = Proposal(
        SuggestionKind.EDGE,
        f"{cause} -> {effect}",
        {"cause": cause, "effect": effect, "reason": "Suggested by the test", "lag_minutes": 0},
        0.9,
    )
    with deployment.database.connect() as connection:
        write_suggestions(connection, entity, WINDOWS.end_time, [edge])


def suggest_rule(
    deployment: Deployment, entity: str, name: str = "heart_rate+ at any time", **columns: Any
) -> int:
    """Store a suggested rule of an entity that covers whatever is odd, and return its number."""
    covers = (*load_catalogue("default").stream_ids, *(f"voice:{one}" for one in VOICES))
    anchors = tuple(f"{one}{sign}" for one in covers if ":" not in one for sign in "+-")
    rule = Rule(name, anchors, covers, 1.0, 2**40)
    values = {
        "entity_id": entity,
        "name": name,
        "rule": Jsonb(rule.to_dict()),
        "effect": Jsonb(Effect(5, 1, 3, 3).to_dict()),
        "contradicted_by": [],
        **columns,
    }
    with deployment.database.connect() as connection:
        row = connection.execute(
            "INSERT INTO rule_suggestions (entity_id, name, rule, effect, contradicted_by) VALUES "
            "(%(entity_id)s, %(name)s, %(rule)s, %(effect)s, %(contradicted_by)s) "
            "RETURNING suggestion_id",
            values,
        ).fetchone()
    assert row is not None
    return int(row[0])


def episode_of(deployment: Deployment, entity: str = ANN, number: int = 0) -> str:
    """Return the identifier of one of an entity's episodes, the most telling first."""
    with deployment.database.connect() as connection:
        rows = connection.execute(
            "SELECT anomaly_id::text FROM causal_explanations WHERE entity_id = %s "
            "AND trigger <> 'forced' ORDER BY peak_score DESC NULLS LAST, timestamp",
            (entity,),
        ).fetchall()
    return str(rows[number][0])


class Pages:
    """Served pages."""

    def __init__(self, deployment: Deployment, tokens: TokenBook, url: str) -> None:
        self.deployment = deployment
        self.tokens = tokens
        self.url = url
        self.clients: list[httpx.Client] = []

    def stranger(self) -> httpx.Client:
        """Return a client that has not logged in."""
        client = httpx.Client(base_url=self.url, timeout=60, trust_env=False)
        self.clients.append(client)
        return client

    def login(self, secret: str, client: httpx.Client | None = None, **fields: str) -> httpx.Client:
        """Return a client after its login, whatever came of it."""
        client = client or self.stranger()
        form = client.get("/ui/login").text
        before = re.findall(r'name="before" value="([^"]+)"', form)[0]
        client.last = client.post(  # type: ignore[attr-defined]
            "/ui/login", data={"before": before, "token": secret, "next": "", **fields}
        )
        return client

    def person(self, **allowed: Any) -> httpx.Client:
        """Return a client that has logged in with a new token."""
        client = self.login(self.tokens.create("Ann <b>Smith</b>", **allowed))
        assert client.last.status_code == 303  # type: ignore[attr-defined]
        return client


def mark_of(client: httpx.Client) -> str:
    """Return a mark for the forms of a session."""
    found = re.search(r'name="mark" value="([0-9a-f]+)"', client.get("/ui/").text)
    assert found
    return found[1]


@contextmanager
def serving_pages(deployment: Deployment, **options: Any) -> Iterator[Pages]:
    """Serve the pages beside the live API until the end of the block."""
    tokens = options.pop("tokens", None) or TokenBook(deployment.database)
    app = create_app(deployment, tokens=tokens)
    mount(app, deployment, tokens)
    server = LiveServer(app, grace_seconds=5)
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    pages = Pages(deployment, tokens, f"http://127.0.0.1:{listening.getsockname()[1]}")
    try:
        wait_until(lambda: server.started, "the pages are served")
        yield pages
    finally:
        for client in pages.clients:
            client.close()
        server.should_exit = True
        thread.join(30)
        listening.close()
    assert not thread.is_alive(), "the server did not end"
