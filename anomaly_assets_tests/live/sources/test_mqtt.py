"""Readings from a real broker: nothing acknowledged before it is durable, nothing lost."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import ssl
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from anomaly_assets.errors import SettingsError
from anomaly_assets.live.readings import ACCEPTED, ENTITY_UNAVAILABLE, RawReading, RowResult
from anomaly_assets.live.sources.mqtt import MqttOptions, MqttSource
from anomaly_assets.live.sources.pump import Pump
from anomaly_assets_tests.live.sources.samples import Recorder, expected, message
from anomaly_assets_tests.live.sources.servers import (
    HOST,
    OPENSSL,
    Mosquitto,
    journal,
    needs_mosquitto,
    publish,
    refused,
    running,
    stored,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import Any

    from anomaly_assets.live.readings import Row
    from anomaly_assets.storage.database import Database

pytestmark = needs_mosquitto
#: Run by a second process: stores what arrives until it is killed.
CONSUMER = """
import asyncio, sys
from pathlib import Path
from anomaly_assets.live.sources.mqtt import MqttOptions, MqttSource
from anomaly_assets.live.sources.pump import Pump
from anomaly_assets.storage.database import Database
from anomaly_assets_tests.live.sources.servers import HOST, journal

async def main():
    source = MqttSource(MqttOptions(host=HOST, port=int(sys.argv[1]), first_wait=0.05))
    async with journal(Database(sys.argv[2]), Path(sys.argv[3])) as sink:
        await Pump(source, sink).run()

asyncio.run(main())
"""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """Return a running broker."""
    folder = tmp_path / "broker"
    folder.mkdir()
    server = Mosquitto(folder)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def durable_broker(broker: Mosquitto) -> Mosquitto:
    """Return a running broker that can be killed at any moment."""
    broker.kill()
    broker.durable = True
    broker.start()
    return broker


def source_of(broker: Mosquitto, **options: Any) -> MqttSource:
    """Return a source that reads from a broker, impatient enough for tests."""
    options = {"first_wait": 0.05, "longest_wait": 0.2, **options}
    return MqttSource(MqttOptions(host=HOST, port=broker.port, **options))


async def subscribed(broker: Mosquitto) -> None:
    """Make the session, so that the broker keeps what is published from now on."""
    source = source_of(broker)

    async def nowhere(rows: Sequence[Row]) -> list[RowResult]:
        return [ACCEPTED] * len(rows)

    async with running(Pump(source, nowhere)):
        await until(lambda: source.connected, "subscribed")


def test_a_session_of_each_shard_is_named_and_shared() -> None:
    """One instance keeps its session; of several each shard has its own, in a group."""
    alone = MqttOptions(prefix="home", client_id="us/1").of_shard(0, 1)
    assert (alone.client_id, alone.filter) == ("us/1", "home/+/+")
    several = [MqttOptions(prefix="home", client_id="us/1").of_shard(n, 2) for n in (0, 1)]
    assert [one.client_id for one in several] == ["us/1", "us/1-1"]
    assert {one.filter for one in several} == {"$share/us-1/home/+/+"}
    assert (alone.other_filter, several[0].other_filter) == (several[0].filter, alone.filter)


def test_instances_share_messages(broker: Mosquitto, database: Database, tmp_path: Path) -> None:
    """Each message is stored by one of them, also where a session was alone before."""

    async def scenario() -> None:
        await subscribed(broker)
        options = MqttOptions(host=HOST, port=broker.port, first_wait=0.05)
        sources = [MqttSource(options.of_shard(shard, 2)) for shard in (0, 1)]
        async with journal(database, tmp_path) as sink:
            first, second = (Pump(source, sink) for source in sources)
            async with running(first), running(second):
                await until(lambda: all(one.connected for one in sources), "connected")
                await publish(broker, [message(number) for number in range(60)])
                await until(lambda: len(stored(database)) == 60, "all are stored")
                done = (first.figures, second.figures)
                assert sum(one.rows for one in done) == 60
                assert all(one.stored > 10 for one in done)

    asyncio.run(scenario())


async def until_stored(pump: Pump, count: int) -> None:
    """Wait until so many readings are stored."""
    await until(lambda: pump.figures.stored >= count, f"{count} are stored")


async def on_disk_or_here(broker: Mosquitto, pump: Pump, number: int) -> None:
    """Wait until a message would survive the broker's end."""
    mark = message(number)[1]
    await until(
        lambda: broker.holds(mark) or pump.figures.stored > number, "the broker has it on disk"
    )


def test_messages_become_readings_and_bad_ones_are_recorded(
    broker: Mosquitto, database: Database, tmp_path: Path
) -> None:
    """What arrives is stored under its topic's names; whatever else arrives is refused, kept, and
    does not come again.
    """
    bad = [
        ("ann/nonsense", message(1)[1]),
        ("ann/heart_rate", "no number"),
        ("ann/heart_rate", '{"timestamp": "2026-01-01T00:00:00Z", "value": NaN}'),
        ("ann/heart_rate", "[" * 100_000),
        ("ann/heart_rate", "61.5"),
        ("ann/heart_rate", ""),
    ]
    array = f"[{message(300)[1]}, {message(301)[1]}]"

    async def scenario() -> None:
        await subscribed(broker)
        await publish(broker, [*map(message, range(300)), *bad, ("ann/heart_rate", array)])
        async with journal(database, tmp_path) as sink:
            async with running(Pump(source_of(broker), sink)) as pump:
                await until(lambda: pump.figures.settled == 302 + len(bad), "all are settled")
            await until(lambda: broker.forgot("timestamp"), "all are acknowledged")
            recorder = Recorder(sink)
            await publish(broker, [message(400)])
            async with running(Pump(source_of(broker), recorder)):
                await until(lambda: bool(recorder.rows), "the next one has arrived")
        assert len(recorder.rows) == 1, "acknowledged messages came again"

    asyncio.run(scenario())
    assert stored(database) == expected([*range(302), 400])
    assert len(refused(database)) == len(bad)


def test_payload_cannot_speak_for_another_entity(
    broker: Mosquitto, database: Database, tmp_path: Path
) -> None:
    """Names within a message do not count, those of the topic do."""
    forged = message(1)[1].replace("{", '{"entity_id": "bob", "stream_id": "steps", ')

    async def scenario() -> None:
        await subscribed(broker)
        await publish(broker, [("ann/heart_rate", forged)])
        async with (
            journal(database, tmp_path) as sink,
            running(Pump(source_of(broker), sink)) as pump,
        ):
            await until(lambda: pump.figures.stored == 1, "it is stored")

    asyncio.run(scenario())
    assert stored(database) == expected([1])


def test_nothing_is_acknowledged_while_the_database_is_away(
    broker: Mosquitto, database: Database, tmp_path: Path
) -> None:
    """Messages that could not be stored before the process ended come again, all of them."""

    async def scenario() -> None:
        await subscribed(broker)
        await publish(broker, [*map(message, range(50))])
        async with journal(database, tmp_path) as sink:
            away = Recorder(sink)
            away.away = True
            async with running(Pump(source_of(broker), away, first_wait=0.01)) as pump:
                await until(lambda: pump.figures.retries >= 5, "storing has failed")
            assert stored(database) == []
            async with running(Pump(source_of(broker), sink)) as pump:
                await until(lambda: pump.figures.stored == 50, "all are stored")

    asyncio.run(scenario())
    assert stored(database) == expected(range(50))


def test_pump_goes_on_when_the_database_is_back(
    broker: Mosquitto, database: Database, tmp_path: Path
) -> None:
    """A batch is offered until it is stored; what arrives meanwhile waits at the broker."""

    async def scenario() -> None:
        await subscribed(broker)
        async with journal(database, tmp_path) as sink:
            recorder = Recorder(sink)
            recorder.away = True
            options = {"most_unacknowledged": 10}
            async with running(
                Pump(source_of(broker, **options), recorder, first_wait=0.01)
            ) as pump:
                await publish(broker, [*map(message, range(100))])
                await until(lambda: pump.figures.retries >= 5, "storing has failed")
                assert pump.figures.rows <= 10
                recorder.away = False
                await until(lambda: pump.figures.stored == 100, "all are stored")
            assert pump.figures.duplicate == 0

    asyncio.run(scenario())
    assert stored(database) == expected(range(100))


def test_broker_killed_and_started_again(
    durable_broker: Mosquitto, database: Database, tmp_path: Path
) -> None:
    """After each kill -9 of the broker the source connects again, and no message that the broker
    had on disk is missing or doubled.
    """
    broker = durable_broker

    async def scenario() -> None:
        source = source_of(broker)
        async with journal(database, tmp_path) as sink, running(Pump(source, sink)) as pump:
            await until(lambda: source.connected, "subscribed")
            for round_number in range(3):
                numbers = range(round_number * 40, round_number * 40 + 40)
                await publish(broker, [*map(message, numbers)])
                await on_disk_or_here(broker, pump, numbers[-1])
                broker.kill()
                await until(lambda: not source.connected, "the loss is noticed")
                broker.start()
                await until(lambda: source.connected, "connected again")
                await until_stored(pump, numbers[-1] + 1)
            assert source.connections == 4

    asyncio.run(scenario())
    assert stored(database) == expected(range(120))


def test_acknowledgement_of_a_lost_connection_does_no_harm(
    durable_broker: Mosquitto, database: Database, tmp_path: Path
) -> None:
    """A commit that ends after the connection broke acknowledges nothing on the next one, where the
    same number may mean another message.
    """
    broker = durable_broker

    async def scenario() -> None:
        await subscribed(broker)
        await publish(broker, [*map(message, range(20))])
        await until(lambda: broker.holds(message(19)[1]), "the broker has it on disk")
        gate = asyncio.Event()
        entered = asyncio.Event()
        source = source_of(broker)
        async with journal(database, tmp_path) as sink:

            async def slow(rows: Sequence[Row]) -> Sequence[RowResult]:
                entered.set()
                await gate.wait()
                return await sink(rows)

            async with running(Pump(source, slow)) as pump:
                await entered.wait()
                broker.kill()
                broker.start()
                await publish(broker, [*map(message, range(20, 60))])
                gate.set()
                await until(lambda: pump.figures.stored == 60, "all are stored")

    asyncio.run(scenario())
    assert stored(database) == expected(range(60))


def test_reader_killed_again_and_again(
    broker: Mosquitto, database: Database, database_url: str, tmp_path: Path
) -> None:
    """However often the reading process is killed, every message is stored, once."""
    chance = random.Random(5)

    async def scenario() -> None:
        await subscribed(broker)
        sending = asyncio.create_task(publish(broker, [*map(message, range(2_000))]))
        arguments = [sys.executable, "-c", CONSUMER, str(broker.port), database_url, str(tmp_path)]
        for _ in range(2):
            before = len(stored(database))
            process = subprocess.Popen(arguments)  # noqa: ASYNC220 - nothing to wait for
            try:
                await until(
                    lambda before=before: len(stored(database)) > before,  # type: ignore[misc]
                    "it stores something",
                )
                await asyncio.sleep(chance.random() * 0.05)
            finally:
                process.kill()
                process.wait()
            if len(stored(database)) == 2_000:
                break
        await sending
        async with journal(database, tmp_path) as sink, running(Pump(source_of(broker), sink)):
            await until(lambda: len(stored(database)) == 2_000, "all are stored")

    asyncio.run(scenario())
    assert stored(database) == expected(range(2_000))


def test_unavailable_entity_waits_and_leaves_others_alone(broker: Mosquitto) -> None:
    """Messages of an entity that cannot be watched are not acknowledged, and come again; those of
    others are stored meanwhile.
    """
    repaired = False
    seen: list[tuple[str, bool]] = []

    async def sink(rows: Sequence[Row]) -> list[RowResult]:
        results = []
        for row in rows:
            assert isinstance(row, RawReading)
            well = repaired or row.entity_id != "sick"
            seen.append((row.entity_id, well))
            results.append(
                ACCEPTED if well else RowResult(accepted=False, reason=ENTITY_UNAVAILABLE)
            )
        return results

    async def scenario() -> None:
        nonlocal repaired
        await subscribed(broker)
        await publish(broker, [message(1, "sick"), message(2), message(3)])
        source = source_of(broker, retry_unsettled_seconds=0.1)
        async with running(Pump(source, sink)) as pump:
            await until(lambda: seen.count(("sick", False)) >= 2, "the sick one has come again")
            assert seen.count(("ann", True)) == 2
            repaired = True
            await until(lambda: ("sick", True) in seen, "it is stored")
            connections = source.connections
            await publish(broker, [message(4)])
            await until(lambda: seen.count(("ann", True)) == 3, "the next one is stored")
            assert source.connections - connections <= 1
        assert pump.figures.unsettled >= 2

    asyncio.run(scenario())


def test_number_alone_has_the_time_of_its_arrival_on_request(broker: Mosquitto) -> None:
    """A bare number is stamped when that was asked for, and has no time otherwise."""
    rows: list[Row] = []

    async def sink(some: Sequence[Row]) -> list[RowResult]:
        rows.extend(some)
        return [ACCEPTED] * len(some)

    async def scenario() -> None:
        await subscribed(broker)
        for stamp in (False, True):
            await publish(broker, [("ann/heart_rate", "61")])
            async with running(Pump(source_of(broker, stamp_arrivals=stamp), sink)):
                await until(lambda stamp=stamp: len(rows) == 1 + stamp, "it arrived")  # type: ignore[misc]

    asyncio.run(scenario())
    times = [row.timestamp for row in rows if isinstance(row, RawReading)]
    assert times[0] == ""
    assert times[1].startswith("20")


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """Return a folder with a certificate of this host, and one of a stranger."""
    if OPENSSL is None:
        pytest.skip("openssl is not installed")
    for name in ("server", "stranger"):
        subprocess.run(
            [
                *f"{OPENSSL} req -x509 -newkey rsa:2048 -nodes -days 2".split(),
                "-subj",
                f"/CN={name}",
                "-addext",
                f"subjectAltName=IP:{HOST}",
                "-keyout",
                str(tmp_path / f"{name}.key"),
                "-out",
                str(tmp_path / f"{name}.pem"),
            ],
            check=True,
            capture_output=True,
        )
    return tmp_path


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_tls_is_checked(
    certificates: Path, database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Over TLS readings arrive from a broker that is known, and none from a stranger."""
    folder = tmp_path / "broker"
    folder.mkdir()
    broker = Mosquitto(folder)
    broker.tls = certificates / "server.pem", certificates / "server.key"
    broker.start()
    context = ssl.create_default_context(cafile=str(certificates / "server.pem"))

    def source(authority: str) -> MqttSource:
        url = f"mqtts://{HOST}:{broker.port}"
        return MqttSource(MqttOptions.from_url(url, ca_file=certificates / authority))

    async def scenario() -> None:
        async with journal(database, tmp_path) as sink:
            known = source("server.pem")
            async with running(Pump(known, sink)) as pump:
                await until(lambda: known.connected, "subscribed")
                await publish(broker, [message(1)], context)
                await until(lambda: pump.figures.stored == 1, "it is stored")
            stranger = source("stranger.pem")
            with caplog.at_level(logging.WARNING):
                async with running(Pump(stranger, sink)):
                    await until(lambda: "certificate verify failed" in caplog.text, "refused")
            assert stranger.connections == 0

    try:
        asyncio.run(scenario())
    finally:
        broker.kill()
    # paho leaves the socket of a failed handshake to the collector.
    gc.collect()
    assert stored(database) == expected([1])


@pytest.mark.parametrize(
    "url",
    ["http://host", "mqtt://", "mqtt://host:nonsense", "mqtt://host/a/+/b", "mqtt://host/a#b"],
)
def test_unusable_address_is_refused(url: str) -> None:
    """An address that names no broker, or would subscribe to something else, is an error."""
    with pytest.raises(SettingsError, match="broker's address"):
        MqttOptions.from_url(url)


def test_password_is_not_shown() -> None:
    """Options can be logged."""
    assert "secret" not in repr(MqttOptions.from_url("mqtt://ann:secret@host"))
