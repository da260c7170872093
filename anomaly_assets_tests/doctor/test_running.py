"""The doctor's findings on what should be running: Dagster, Redis, the broker, the live API."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    SensorInstigatorData,
)
from dagster._core.test_utils import create_run_for_test
from pydantic import SecretStr

from anomaly_assets_tests.live.api.serving import free_port, serving
from anomaly_assets_tests.live.sources.servers import needs_mosquitto, needs_redis

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anomaly_assets_tests.doctor.patient import Patient
    from anomaly_assets_tests.live.sources.servers import Mosquitto, RedisServer

SECRET = "tell-nobody-of-this"  # noqa: S105 - of nothing


class TestDagster:
    """Home, daemons, sensors, runs, backups."""

    def test_the_configuration_of_another_version(self, patient: Patient) -> None:
        """A changed or missing dagster.yaml is a warning."""
        path = patient.settings.home / "dagster" / "dagster.yaml"
        assert patient.one("dagster home").state == "ok"
        path.write_text(path.read_text() + "# mine\n")
        assert "not the one of this version" in patient.one("dagster home").found
        path.unlink()
        assert patient.one("dagster home").state == "warning"

    def test_a_dead_daemon(self, patient: Patient) -> None:
        """Each daemon without a sign of life is named; none at all has never run."""
        patient.dagster_sql("UPDATE daemon_heartbeats SET timestamp = now() AT TIME ZONE 'UTC'")
        assert patient.one("daemons").state == "ok"
        patient.dagster_sql(
            "UPDATE daemon_heartbeats SET timestamp = timestamp - interval '1 hour' "
            "WHERE daemon_type = 'SENSOR'"
        )
        found = patient.one("daemons")
        assert (found.state, "SENSOR" in found.found) == ("problem", True)
        assert "60 minutes" in found.found
        patient.dagster_sql("DELETE FROM daemon_heartbeats")
        assert "never run" in patient.one("daemons").found

    def test_no_database_of_dagster(
        self, patient: Patient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Before the first start it is not there, and that is said."""
        monkeypatch.setenv(
            "DAGSTER_POSTGRES_URL", patient.database.url.replace("/patient?", "/nowhere?")
        )
        found = patient.one("daemons")
        assert (found.state, "'nowhere' is not there" in found.found) == ("problem", True)

    def test_a_sensor_that_is_off(self, patient: Patient) -> None:
        """Switched off in Dagster's pages it is a problem."""
        assert patient.one("sensors").state == "ok"
        with instance_of(patient) as instance:
            instance.add_instigator_state(switched_off("complete_windows"))
        found = patient.one("sensors")
        assert (found.state, "complete_windows" in found.found) == ("problem", True)

    def test_failed_and_hanging_runs(self, patient: Patient) -> None:
        """The last run that failed is named; three in a row stop the sensor; a stuck one warns."""
        found = patient.one("runs")
        assert (found.state, "process_windows" in found.found) == ("problem", True)
        assert "stopped" not in found.advice
        with instance_of(patient) as instance:
            for _ in range(2):
                create_run_for_test(
                    instance, job_name="process_windows", status=dg.DagsterRunStatus.FAILURE
                )
            stuck = create_run_for_test(
                instance, job_name="upkeep", status=dg.DagsterRunStatus.STARTING
            )
        patient.dagster_sql(
            "UPDATE runs SET update_timestamp = update_timestamp - interval '1 day' "
            "WHERE run_id = %s",
            stuck.run_id,
        )
        failed, hanging = patient.look("runs")
        assert "three runs in a row" in failed.advice
        assert (hanging.state, stuck.run_id[:8] in hanging.found) == ("warning", True)
        patient.dagster_sql("UPDATE runs SET status = 'SUCCESS'")
        assert patient.one("runs").state == "ok"

    def test_backups(self, patient: Patient) -> None:
        """None ever is a warning, and so is one of last week."""
        assert "never" in patient.one("backups").found
        with instance_of(patient) as instance:
            instance.report_runless_asset_event(dg.AssetMaterialization("model_backups"))
        assert patient.one("backups").state == "ok"
        patient.dagster_sql(
            "UPDATE asset_keys SET last_materialization_timestamp = "
            "last_materialization_timestamp - interval '7 days'"
        )
        assert "7 days old" in patient.one("backups").found


class TestServices:
    """Redis, the broker, the live API, Dagster's pages."""

    @needs_redis
    def test_redis(self, patient: Patient, redis: RedisServer) -> None:
        """It answers; a wrong address or password is a problem, and the password is not told."""
        assert patient.one("redis").found == "not set"
        patient.set(redis_url=SecretStr(redis.url))
        assert patient.one("redis").state == "ok"
        patient.set(redis_url=SecretStr(f"redis://:{SECRET}@127.0.0.1:{free_port()}/0"))
        found = patient.one("redis")
        assert (found.state, SECRET in repr(found)) == ("problem", False)

    @needs_mosquitto
    def test_broker(self, patient: Patient, broker: Mosquitto) -> None:
        """It lets us in; one that is away is a problem, without its password."""
        assert patient.one("mqtt").found == "not set"
        patient.set(mqtt_url=SecretStr(f"mqtt://127.0.0.1:{broker.port}"))
        assert patient.one("mqtt").state == "ok"
        patient.set(mqtt_url=SecretStr(f"mqtt://ann:{SECRET}@127.0.0.1:{free_port()}"))
        found = patient.one("mqtt")
        assert (found.state, SECRET in repr(found)) == ("problem", False)

    def test_live_api(self, patient: Patient) -> None:
        """It answers, is away, or is somebody else."""
        patient.set(live_port=free_port())
        assert patient.one("live API").state == "warning"
        with serving(patient.deployment) as served:
            patient.set(live_port=served.port)
            found = patient.one("live API")
            assert (found.state, "database reachable" in found.found) == ("ok", True)
        with answering({"hello": "world"}) as port:
            patient.set(live_port=port)
            assert "another" in patient.one("live API").found
        ill = {"status": "not ready", "database": "away", "sources": {"mqtt": "away"}}
        with answering(ill, status=503) as port:
            patient.set(live_port=port)
            first, second = patient.look("live API")
            assert (first.state, "database away" in first.found) == ("problem", True)
            assert (second.state, "mqtt is away" in second.found) == ("warning", True)

    def test_dagsters_pages(self, patient: Patient) -> None:
        """They answer, are away, or somebody else's."""
        patient.set(port=free_port())
        assert patient.one("dagster pages").state == "warning"
        with answering({"dagster_version": "1.13"}) as port:
            patient.set(port=port)
            assert patient.one("dagster pages").state == "ok"
            assert "somebody listens" in patient.look("ports")[0].found
        with answering([]) as port:
            patient.set(port=port)
            assert patient.one("dagster pages").state == "problem"

    def test_ports(self, patient: Patient) -> None:
        """A free port is fine; an address that leads nowhere is a problem."""
        patient.set(port=free_port(), live_host="name.invalid")
        free, nowhere = patient.look("ports")
        assert (free.state, "free" in free.found) == ("ok", True)
        assert nowhere.state == "problem"


@contextmanager
def answering(document: object, status: int = 200) -> Iterator[int]:
    """Serve one document under every path."""

    class Handler(BaseHTTPRequestHandler):
        """Answers always the same."""

        def do_GET(self) -> None:
            """Answer."""
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield int(server.server_address[1])
        server.shutdown()
        thread.join()


@contextmanager
def instance_of(patient: Patient) -> Iterator[dg.DagsterInstance]:
    """Open the patient's Dagster instance."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_POSTGRES_URL", patient.database.dagster_url())
        home = str(patient.settings.home / "dagster")
        with dg.DagsterInstance.from_config(home) as instance:
            yield instance


def switched_off(name: str) -> InstigatorState:
    """Return the state of a sensor that somebody has stopped."""
    server = GrpcServerCodeLocationOrigin("code", 4000, None, "anomaly_assets")
    origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(server, "__repository__"), name)
    return InstigatorState(
        origin, InstigatorType.SENSOR, InstigatorStatus.STOPPED, SensorInstigatorData()
    )
