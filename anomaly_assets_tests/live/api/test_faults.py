"""The database away, dead, full or slow: refused and said so, and well again by itself."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from anomaly_assets.live.writer import JournalWriter
from anomaly_assets.storage.database import Database
from anomaly_assets.storage.embedded import EmbeddedServer
from anomaly_assets.storage.migrate import upgrade
from anomaly_assets_tests.live.api.cable import Cable, cabled
from anomaly_assets_tests.live.api.serving import (
    NDJSON,
    URL,
    Served,
    count,
    ndjson,
    reading,
    serving,
    wait_until,
)
from anomaly_assets_tests.pipeline.support import deployment_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx


@pytest.fixture
def behind_cable(database: Database, tmp_path: Path) -> Iterator[tuple[Served, Cable]]:
    """Serve a database behind a cable, with a writer that loses patience after 2 s."""
    # A socket's path has room for about 100 characters.
    with (
        tempfile.TemporaryDirectory(prefix="aa-") as folder,
        cabled(database, Path(folder)) as (far, cable),
    ):
        deployment = deployment_of(far, tmp_path)
        with serving(deployment, writer=JournalWriter(deployment, patience=2.0)) as served:
            yield served, cable


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """Return a file system that has room for little more than a database."""
    mount = shutil.which("mount")
    if mount is None:
        pytest.skip("there is no mount command to make a small file system with")
    # Not pytest's own folder: that one is closed to the user the server runs as under root.
    folder = Path(tempfile.mkdtemp(prefix="aa-"))
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=256m,mode=711", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        folder.rmdir()
        pytest.skip(f"a small file system cannot be mounted here: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


def fill(path: Path) -> None:
    """Let a file take all the room that is left."""
    for size in (1 << 20, 1 << 12):
        try:
            with path.open("ab", buffering=0) as file:
                while file.write(b"x" * size):
                    pass
        except OSError:
            continue


def test_cut_cable_is_answered_503_until_it_is_mended(
    behind_cable: tuple[Served, Cable], database: Database
) -> None:
    """Without the database nothing is acknowledged; with it again, all goes on without restart."""
    served, cable = behind_cable
    assert served.client.post(URL, json=reading(0)).status_code == 202
    assert served.client.get("/v1/health/ready").status_code == 200
    cable.cut()
    for number in range(1, 4):
        answer = served.client.post(URL, json=reading(number))
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
    streamed = served.client.post(URL, content=ndjson([reading(9)]), headers=NDJSON)
    assert streamed.status_code == 503
    assert served.client.get("/v1/anomalies").status_code == 503
    wait_until(lambda: served.client.get("/v1/health/ready").status_code == 503, "it is not ready")
    assert served.client.get("/v1/health/live").status_code == 200
    assert "anomaly_assets_database_up 0.0" in served.client.get("/metrics").text
    assert count(database) == 1
    cable.mend()
    wait_until(
        lambda: served.client.post(URL, json=reading(1)).status_code == 202, "it takes readings"
    )
    wait_until(lambda: served.client.get("/v1/health/ready").status_code == 200, "it is ready")
    assert count(database) == 2


def test_dead_cable_is_answered_503_until_it_is_mended(
    behind_cable: tuple[Served, Cable], database: Database
) -> None:
    """A database that answers nothing does not hold the writer for ever."""
    served, cable = behind_cable
    assert served.client.post(URL, json=reading(0)).status_code == 202
    cable.deaden()
    assert served.client.post(URL, json=reading(1)).status_code == 503
    cable.mend()
    wait_until(
        lambda: served.client.post(URL, json=reading(2)).status_code == 202, "it takes readings"
    )
    assert count(database) in {2, 3}


def test_old_connection_is_no_failure(served: Served, database: Database) -> None:
    """After the server has closed the idle connection the next request succeeds at once."""
    assert served.client.post(URL, json=reading(0)).status_code == 202
    with database.connect() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'anomaly_assets_live' AND datname = current_database()"
        )
    answer = served.client.post(URL, json=reading(1))
    assert answer.status_code == 202
    assert answer.json()["accepted"] == 1


def test_full_disk_loses_nothing_and_is_over_once_there_is_room(
    small_disk: Path, tmp_path: Path
) -> None:
    """Of a full disk: refused with 503, what was acknowledged stays, and then it goes on."""
    server = EmbeddedServer(small_disk / "postgres")
    try:
        database = Database(server.start())
        upgrade(database.url)
        with serving(deployment_of(database, tmp_path)) as served:
            acknowledged = 0

            def send() -> httpx.Response:
                return served.client.post(
                    URL, json=[reading(500 * acknowledged + i) for i in range(500)]
                )

            # What the tables have room for by themselves is soon used up.
            while (answer := send()).status_code == 202 and acknowledged < 1000:
                acknowledged += 1
                fill(small_disk / "ballast")
            assert acknowledged > 0
            assert answer.status_code == 503
            assert "no space left" in answer.json()["detail"].lower()
            assert int(answer.headers["retry-after"]) >= 1
            assert send().status_code == 503
            assert count(database) == 500 * acknowledged
            (small_disk / "ballast").unlink()
            wait_until(lambda: send().status_code == 202, "it takes readings again")
            assert count(database) == 500 * (acknowledged + 1)
    finally:
        server.stop()


def test_full_disk_is_refused_and_said(served: Served, database: Database) -> None:
    """With no space left nothing is acknowledged; once there is, the same request succeeds."""
    with database.connect() as connection:
        connection.execute(
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = '53100'; END $$"
        )
        connection.execute(
            "CREATE TRIGGER full_disk BEFORE INSERT ON readings EXECUTE FUNCTION full_disk()"
        )
        answer = served.client.post(URL, json=reading())
        assert answer.status_code == 503
        assert "no space left" in answer.json()["detail"]
        connection.execute("DROP TRIGGER full_disk ON readings")
    assert served.client.post(URL, json=reading()).json()["accepted"] == 1


def test_entities_fault_leaves_the_others_alone(served: Served, database: Database) -> None:
    """Rows of an entity that cannot be stored fail alone, also when committed with others."""
    with database.connect() as connection:
        connection.execute(
            "CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF NEW.entity_id = 'bad' THEN RAISE EXCEPTION 'poisoned'; END IF; "
            "RETURN NEW; END $$"
        )
        connection.execute(
            "CREATE TRIGGER poison BEFORE INSERT ON readings FOR EACH ROW EXECUTE FUNCTION poison()"
        )
    mixed = served.client.post(URL, json=[reading(0, "ann"), reading(0, "bad"), reading(0, "zoe")])
    assert mixed.status_code == 503
    assert count(database) == 2
    with ThreadPoolExecutor(8) as pool:
        names = ["bad" if i % 4 == 0 else f"e{i}" for i in range(16)]
        codes = list(
            pool.map(lambda name: served.client.post(URL, json=reading(0, name)).status_code, names)
        )
    assert codes == [503 if name == "bad" else 202 for name in names]


def test_unusable_catalogue_refuses_only_its_entity(served: Served, database: Database) -> None:
    """An entity whose catalogue is gone is told so; other rows of the batch are stored."""
    with database.connect() as connection:
        connection.execute("INSERT INTO entities (entity_id, catalogue) VALUES ('bad', 'nowhere')")
    mixed = served.client.post(URL, json=[reading(0, "ann"), reading(0, "bad")])
    assert mixed.status_code == 202
    assert [row["reason"] for row in mixed.json()["rows"]] == ["entity_unavailable"]
    alone = served.client.post(URL, json=reading(0, "bad"))
    assert alone.status_code == 503
    assert "retry-after" in alone.headers


def test_crowd_is_held_off_and_loses_nothing(database: Database, tmp_path: Path) -> None:
    """With the queue full, more is answered 429; what was answered 202 is stored, and only that."""
    deployment = deployment_of(database, tmp_path)
    with serving(deployment, writer=JournalWriter(deployment, most_pending_rows=50)) as served:
        gate = threading.Barrier(16)
        served.client.post(URL, json=reading(0, "first"))

        def send(sender: int) -> list[int]:
            gate.wait()
            return [
                served.client.post(
                    URL, json=[reading(100 * turn + i, f"e{sender}") for i in range(20)]
                ).status_code
                for turn in range(5)
            ]

        with ThreadPoolExecutor(16) as pool:
            codes = [code for some in pool.map(send, range(16)) for code in some]
    assert set(codes) <= {202, 429}
    assert 429 in codes
    assert count(database) == 1 + 20 * codes.count(202)


def test_shutdown_answers_what_it_has_taken(database: Database, tmp_path: Path) -> None:
    """Requests in progress when the API is stopped are either answered 202 and stored, or not."""
    deployment = deployment_of(database, tmp_path)
    codes: list[int] = []
    stop = threading.Event()
    with serving(deployment) as served:

        def send(sender: int) -> None:
            number = 0
            with served.as_token(served.tokens.create("sender")) as client:
                while not stop.is_set():
                    try:
                        code = client.post(URL, json=reading(number, f"e{sender}")).status_code
                    except OSError:
                        return
                    except Exception:  # noqa: BLE001 - the connection was refused or closed
                        return
                    codes.append(code)
                    number += 1

        threads = [threading.Thread(target=send, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(codes) > 40, "readings are taken")
    stop.set()
    for thread in threads:
        thread.join(10)
    assert count(database) >= codes.count(202)
    assert count(database) - codes.count(202) <= len(threads)
