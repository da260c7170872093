"""Shards on Dagster's executors: processes, real Celery workers, Kubernetes up to its API."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.executor.init import InitExecutorContext
from pydantic import SecretStr

from anomaly_assets.automation.executors import celery_options, executor_of
from anomaly_assets.errors import SettingsError
from anomaly_assets.settings import DAGSTER_ENVIRONMENT, Settings
from anomaly_assets.storage.windows import entity_lock
from anomaly_assets_tests.live.sources.servers import RedisServer, needs_redis
from anomaly_assets_tests.pipeline.people import WINDOWS, load_people, run
from anomaly_assets_tests.pipeline.support import deployment_of, fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anomaly_assets.storage.database import Database

PEOPLE = ("ann", "bob", "cat", "dan")
ROOT = Path(__file__).parents[2]


def environment(database: Database, home: Path, executor: str, **further: str) -> dict[str, str]:
    """Return the environment of commands on a deployment whose runs are in three shards."""
    return {
        **os.environ,
        **DAGSTER_ENVIRONMENT,
        "DATABASE_URL": database.url,
        "ANOMALY_ASSETS_HOME": str(home),
        "ANOMALY_ASSETS_WINDOW_START": WINDOWS.start_time.isoformat(),
        "ANOMALY_ASSETS_SHARDS": "3",
        "ANOMALY_ASSETS_EXECUTOR": executor,
        "PYTHONPATH": str(ROOT),
        **further,
    }


class Command:
    """A command of ours in a session of its own."""

    def __init__(self, arguments: list[str], folder: Path, environment: dict[str, str]) -> None:
        self.path = folder / f"{arguments[0]}-{time.monotonic_ns()}.log"
        with self.path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "anomaly_assets", *arguments],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )

    def said(self) -> str:
        """Return what it has written on standard error."""
        return self.path.read_text(errors="replace")

    def ended(self, seconds: float = 180.0) -> dict[str, object]:
        """Return the document that it prints, once it has ended."""
        out, _ = self.process.communicate(timeout=seconds)
        text = out.decode()
        assert "{" in text, text + self.said()[-4000:]
        document: dict[str, object] = json.loads(text[text.index("{") :])
        return document

    def kill(self) -> None:
        """Kill it and all that it has started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 90.0) -> None:
    """Ask until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


@pytest.fixture(scope="module")
def expected(
    module_database: Database, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[int, str]]:
    """Return the rows that the people's windows have, whoever computes them."""
    load_people(module_database, PEOPLE)
    run(deployment_of(module_database, tmp_path_factory.mktemp("home")))
    return fingerprint(module_database)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RedisServer]:
    """Return a running Redis."""
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(folder)
    server.start()
    yield server
    server.kill()


def test_processes_of_their_own_leave_the_same_rows(
    database: Database, tmp_path: Path, expected: dict[str, tuple[int, str]]
) -> None:
    """Three shards in processes of their own leave the rows of one process, to the last bit."""
    load_people(database, PEOPLE)
    outcome = Command(
        ["backfill", "--json"], tmp_path, environment(database, tmp_path, "multiprocess")
    ).ended()
    assert outcome["succeeded"], outcome
    assert fingerprint(database) == expected


@needs_redis
def test_a_killed_worker_s_steps_go_to_another_one(
    database: Database, tmp_path: Path, broker: RedisServer, expected: dict[str, tuple[int, str]]
) -> None:
    """Real Celery workers carry the shards out; one killed amid a step costs time, and no row."""
    load_people(database, PEOPLE)
    variables = environment(
        database,
        tmp_path,
        "celery",
        ANOMALY_ASSETS_CELERY_BROKER_URL=f"redis://127.0.0.1:{broker.port}/0",
        ANOMALY_ASSETS_CELERY_REDELIVERY_SECONDS="5",
    )
    begun: list[Command] = []

    def start(*arguments: str) -> Command:
        begun.append(Command(list(arguments), tmp_path, variables))
        return begun[-1]

    try:
        with (
            database.connect() as connection,
            entity_lock(connection, "ann", "tier1_models"),
        ):
            worker = start("worker", "--processes", "1")
            leader = start("backfill", "--json")
            wait_until(
                lambda: _waits_for_lock(database) or leader.process.poll() is not None,
                "no step has come to the entity that is locked",
            )
            worker.kill()
        start("worker", "--processes", "1")
        outcome = leader.ended()
    finally:
        for one in begun:
            one.kill()
    assert outcome["succeeded"], outcome
    assert fingerprint(database) == expected


def _waits_for_lock(database: Database) -> bool:
    with database.connect() as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND wait_event_type = 'Lock' AND wait_event = 'advisory'"
        ).fetchone()
    return row is not None and row[0] > 0


def test_one_process_is_the_default() -> None:
    """Whoever sets nothing gets Dagster's in-process executor."""
    assert executor_of(Settings(_env_file=None)) is dg.in_process_executor


def test_celery_without_a_broker_is_refused_with_what_to_set() -> None:
    """The error names the setting, with an example."""
    with pytest.raises(SettingsError, match="ANOMALY_ASSETS_CELERY_BROKER_URL=redis://"):
        executor_of(Settings(_env_file=None, executor="celery"))
    with pytest.raises(SettingsError, match="begins with redis://"):
        executor_of(
            Settings(
                _env_file=None, executor="celery", redis_url=SecretStr("unix:///run/redis.sock")
            )
        )


def test_celery_takes_the_redis_of_the_deployment_and_verifies_it() -> None:
    """Without a broker of its own it is the deployment's Redis; TLS is verified unless told so."""
    options = celery_options(
        Settings(
            _env_file=None,
            executor="celery",
            redis_url=SecretStr("rediss://:secret@redis.example:6380"),
        )
    )
    assert options["broker"] == "rediss://:secret@redis.example:6380?ssl_cert_reqs=required"
    assert options["backend"] == options["broker"]


def test_the_broker_s_password_is_no_part_of_what_dagster_stores() -> None:
    """The executor has no configuration, so that nobody reads the address off a run."""
    settings = Settings(
        _env_file=None,
        executor="celery",
        celery_broker_url=SecretStr("redis://:hush-4711@redis.example/1"),
    )

    @dg.op
    def nothing() -> None: ...

    @dg.job(executor_def=executor_of(settings))
    def job() -> None:
        nothing()

    assert "hush-4711" not in repr(job.get_job_snapshot())


def test_a_missing_package_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the error says how to get it."""
    monkeypatch.setattr("anomaly_assets.automation.executors.find_spec", lambda _: None)
    for executor in ("celery", "kubernetes"):
        with pytest.raises(SettingsError, match=rf"pip install anomaly-assets\[{executor}\]"):
            executor_of(Settings.model_validate({"executor": executor}))


def test_kubernetes_steps_are_jobs_as_the_settings_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The executor of dagster-k8s is made with our image, namespace, account and secrets."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    token, authority = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text("token")
    authority.write_text("certificate")
    monkeypatch.setattr("kubernetes.config.incluster_config.SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr("kubernetes.config.incluster_config.SERVICE_CERT_FILENAME", str(authority))
    definition = executor_of(
        Settings(
            _env_file=None,
            executor="kubernetes",
            executor_concurrency=4,
            kubernetes_namespace="watch",
            kubernetes_image="registry.example/anomaly-assets:1",
            kubernetes_service_account="steps",
            kubernetes_secrets=("database",),
        )
    )

    @dg.op
    def nothing() -> None: ...

    @dg.job(executor_def=definition)
    def job() -> None:
        nothing()

    with dg.DagsterInstance.ephemeral() as instance:
        context = InitExecutorContext(
            job=InMemoryJob(job),
            executor_def=definition,
            executor_config=_configured(definition),
            instance=instance,
        )
        assert definition.executor_creation_fn is not None
        executor: Any = definition.executor_creation_fn(context)
    handler = executor._step_handler
    container = handler._executor_container_context
    assert handler._executor_image == "registry.example/anomaly-assets:1"
    pod = container.run_k8s_config.pod_spec_config
    assert (container.namespace, pod["service_account_name"]) == ("watch", "steps")
    assert "'name': 'database'" in str(container.run_k8s_config.container_config["env_from"])
    assert executor._max_concurrent == 4


def _configured(definition: dg.ExecutorDefinition) -> dict[str, object]:
    evaluated: Any = definition.apply_config_mapping({"config": {}})
    assert evaluated.success, evaluated.errors
    document: dict[str, object] = evaluated.value["config"]
    return document
