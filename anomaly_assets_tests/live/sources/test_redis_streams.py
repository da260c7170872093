"""Readings from a real Redis stream: acknowledged after the commit, pending ones taken over."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from anomaly_assets.live.sources.pump import Pump
from anomaly_assets.live.sources.redis_streams import RedisOptions, RedisSource, entry_rows
from anomaly_assets_tests.live.sources.samples import Recorder, expected, message, moment, value
from anomaly_assets_tests.live.sources.servers import (
    RedisServer,
    journal,
    needs_redis,
    refused,
    running,
    stored,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import Any

    from anomaly_assets.storage.database import Database

pytestmark = needs_redis
#: Run by a second process: stores what arrives until it is killed.
CONSUMER = """
import asyncio, sys
from pathlib import Path
from anomaly_assets.live.sources.pump import Pump
from anomaly_assets.live.sources.redis_streams import RedisOptions, RedisSource
from anomaly_assets.storage.database import Database
from anomaly_assets_tests.live.sources.servers import journal

async def main():
    source = RedisSource(RedisOptions(url=sys.argv[1], consumer=sys.argv[4], count=20))
    async with journal(Database(sys.argv[2]), Path(sys.argv[3])) as sink:
        await Pump(source, sink).run()

asyncio.run(main())
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """Return a running server."""
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(folder)
    server.start()
    yield server
    server.kill()


def source_of(server: RedisServer, **options: Any) -> RedisSource:
    """Return a source that reads from a server, impatient enough for tests."""
    options = {
        "consumer": "one",
        "block_seconds": 0.05,
        "claim_idle_seconds": 0.1,
        "first_wait": 0.05,
        "longest_wait": 0.2,
        **options,
    }
    return RedisSource(RedisOptions(url=server.url, **options))


def add(server: RedisServer, numbers: Sequence[int]) -> None:
    """Add readings to the stream."""
    with server.client() as client:
        for number in numbers:
            entry = {"entity_id": "ann", "stream_id": "heart_rate"}
            client.xadd("readings", {**entry, "timestamp": moment(number), "value": value(number)})


def pending(server: RedisServer) -> int:
    """Return how many entries were handed out and not acknowledged."""
    with server.client() as client:
        answer: Any = client.xpending("readings", "anomaly-assets")
        return int(answer["pending"])


def length(server: RedisServer) -> int:
    """Return how many entries the stream has."""
    with server.client() as client:
        return int(client.xlen("readings"))


def test_entries_become_readings_and_are_acknowledged(
    server: RedisServer, database: Database, tmp_path: Path
) -> None:
    """Entries there were before the group, fields or JSON, are stored; bad ones are refused, kept,
    and do not come again.
    """
    document = message(200)[1].replace("{", '{"entity_id": "ann", "stream_id": "heart_rate", ')
    bad: list[dict[str, Any]] = [
        {"json": "[" * 100_000},
        {"entity_id": "ann", "stream_id": "heart_rate", "timestamp": moment(1), "value": "inf"},
        {"entity_id": b"\xff\x00", "stream_id": "x" * 9_000, "timestamp": "now"},
        {"unknown": "field"},
    ]
    add(server, range(200))
    with server.client() as client:
        client.xadd("readings", {"json": document})
        for entry in bad:
            client.xadd("readings", entry)

    async def scenario() -> None:
        async with (
            journal(database, tmp_path) as sink,
            running(Pump(source_of(server), sink)) as pump,
        ):
            await until(lambda: pump.figures.settled == 201 + len(bad), "all are settled")
            await until(lambda: pending(server) == 0, "all are acknowledged")

    asyncio.run(scenario())
    assert stored(database) == expected(range(201))
    assert len(refused(database)) == len(bad)
    assert length(server) == 201 + len(bad)


def test_abandoned_entries_are_taken_over(
    server: RedisServer, database: Database, tmp_path: Path
) -> None:
    """What a consumer took and never stored is stored by another one."""

    async def scenario() -> None:
        async with journal(database, tmp_path) as sink:
            away = Recorder(sink)
            away.away = True
            add(server, range(30))
            async with running(Pump(source_of(server), away, first_wait=0.01)) as pump:
                await until(lambda: pump.figures.retries >= 4, "storing has failed")
            assert pending(server) == 30
            other = source_of(server, consumer="two")
            async with running(Pump(other, sink)) as pump:
                await until(lambda: pump.figures.stored == 30, "all are stored")
                await until(lambda: pending(server) == 0, "all are acknowledged")
            assert other.claimed == 30

    asyncio.run(scenario())
    assert stored(database) == expected(range(30))


def test_own_entries_come_first_after_a_restart(
    server: RedisServer, database: Database, tmp_path: Path
) -> None:
    """A consumer of the same name begins with what it had taken, without waiting for its age."""

    async def scenario() -> None:
        async with journal(database, tmp_path) as sink:
            away = Recorder(sink)
            away.away = True
            add(server, range(30))
            patient = {"claim_idle_seconds": 3_600.0, "count": 7}
            async with running(Pump(source_of(server, **patient), away, first_wait=0.01)) as pump:
                await until(lambda: pump.figures.retries >= 1, "storing has failed")
            assert pending(server) == 7
            recorder = Recorder(sink)
            async with running(Pump(source_of(server, **patient), recorder)) as pump:
                await until(lambda: pump.figures.stored == 30, "all are stored")
                await until(lambda: pending(server) == 0, "all are acknowledged")
            times = [row.timestamp for row in recorder.rows]  # type: ignore[union-attr]
            assert times == [moment(number) for number in range(30)]

    asyncio.run(scenario())


def test_server_killed_and_started_again(
    server: RedisServer, database: Database, tmp_path: Path
) -> None:
    """After each kill -9 of Redis the source connects again, and nothing is missing or doubled."""

    async def scenario() -> None:
        source = source_of(server)
        async with journal(database, tmp_path) as sink, running(Pump(source, sink)) as pump:
            for round_number in range(4):
                await until(lambda: source.connected, "connected")
                numbers = range(round_number * 200, round_number * 200 + 200)
                await asyncio.to_thread(add, server, numbers)
                server.kill()
                await until(lambda: not source.connected, "the loss is noticed")
                server.start()
            await until(lambda: len(stored(database)) == 800, "all are stored")
            await until(lambda: pending(server) == 0, "all are acknowledged")
            assert source.connections == 5
            assert pump.figures.stored == 800

    asyncio.run(scenario())
    assert stored(database) == expected(range(800))


def test_reader_killed_again_and_again(
    server: RedisServer, database: Database, database_url: str, tmp_path: Path
) -> None:
    """However often the reading process is killed, every entry is stored, once."""
    chance = random.Random(6)
    add(server, range(3_000))

    async def scenario() -> None:
        for number in range(2):
            before = len(stored(database))
            arguments = [server.url, database_url, str(tmp_path), f"consumer-{number}"]
            process = subprocess.Popen(  # noqa: ASYNC220 - nothing to wait for
                [sys.executable, "-c", CONSUMER, *arguments]
            )
            try:
                await until(
                    lambda before=before: len(stored(database)) > before,  # type: ignore[misc]
                    "it stores something",
                )
                await asyncio.sleep(chance.random() * 0.05)
            finally:
                process.kill()
                process.wait()
            if len(stored(database)) == 3_000:
                break
        async with journal(database, tmp_path) as sink, running(Pump(source_of(server), sink)):
            await until(lambda: len(stored(database)) == 3_000, "all are stored")
            await until(lambda: pending(server) == 0, "all are acknowledged")

    asyncio.run(scenario())
    assert stored(database) == expected(range(3_000))


def test_lost_group_is_made_again(server: RedisServer, database: Database, tmp_path: Path) -> None:
    """A Redis that has forgotten everything is read again, from the first entry on."""

    async def scenario() -> None:
        source = source_of(server)
        async with journal(database, tmp_path) as sink, running(Pump(source, sink)) as pump:
            add(server, range(5))
            await until(lambda: pump.figures.stored == 5, "they are stored")
            with server.client() as client:
                client.flushall()
            add(server, range(5, 10))
            await until(lambda: pump.figures.stored == 10, "the next ones are stored")

    asyncio.run(scenario())


def test_deleted_pending_entries_are_forgotten(
    server: RedisServer, database: Database, tmp_path: Path
) -> None:
    """An entry that was trimmed away while it was pending does not stop those behind it."""

    async def scenario() -> None:
        async with journal(database, tmp_path) as sink:
            away = Recorder(sink)
            away.away = True
            add(server, range(10))
            async with running(Pump(source_of(server), away, first_wait=0.01)) as pump:
                await until(lambda: pump.figures.retries >= 1, "storing has failed")
            with server.client() as client:
                client.xtrim("readings", maxlen=4, approximate=False)
            async with running(Pump(source_of(server), sink)) as pump:
                await until(lambda: pump.figures.stored == 4, "the others are stored")
                await until(lambda: pending(server) == 0, "none is pending")

    asyncio.run(scenario())
    assert stored(database) == expected(range(6, 10))


def test_acknowledged_entries_are_deleted_on_request(
    server: RedisServer, database: Database, tmp_path: Path
) -> None:
    """Where nobody else reads the stream it does not grow for ever."""

    async def scenario() -> None:
        source = source_of(server, delete_acknowledged=True)
        async with journal(database, tmp_path) as sink, running(Pump(source, sink)) as pump:
            add(server, range(20))
            await until(lambda: pump.figures.stored == 20, "they are stored")
            await until(lambda: length(server) == 0, "they are deleted")

    asyncio.run(scenario())


def test_entry_without_fields_has_no_rows() -> None:
    """A deleted entry is none."""
    assert entry_rows({}) == []
