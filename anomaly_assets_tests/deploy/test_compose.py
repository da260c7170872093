"""docker-compose.yml and the Dockerfile: complete, closed, pinned, and made of what there is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from anomaly_assets.settings import DAGSTER_ENVIRONMENT, Settings, secret_variables, variable_of
from anomaly_assets.state.keys import signing_key

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, one in SERVICES.items() if one["image"].startswith("anomaly_assets:")]
LASTING = [name for name, one in SERVICES.items() if one["restart"] != "no"]
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()

each_service = pytest.mark.parametrize("name", SERVICES)


def compose_command() -> list[str] | None:
    """Return the command that understands docker-compose.yml, of version 2 or newer."""
    # .ci/run puts a recent one into .tools where the system has none.
    for command in (
        ["docker", "compose"],
        ["docker-compose"],
        [str(ROOT / ".tools/docker-compose")],
    ):
        if shutil.which(command[0]) is None:
            continue
        answer = subprocess.run(
            [*command, "version", "--short"], capture_output=True, text=True, check=False
        )
        if answer.returncode == 0 and answer.stdout.strip().lstrip("v")[:2] >= "2.":
            return command
    return None


def test_docker_accepts_the_services(tmp_path: Path) -> None:
    """`docker compose config` finds nothing to complain about, with every profile."""
    command = compose_command()
    if command is None:
        pytest.skip("docker compose is not installed")
    shutil.copy(ROOT / "docker-compose.yml", tmp_path)
    answer = subprocess.run(
        [*command, "--profile", "celery", "--profile", "tools", "config", "--quiet"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (answer.returncode, answer.stderr) == (0, "")


def test_everything_of_the_requirements_is_there() -> None:
    """Database, cache, broker, migrations, Dagster's three, live API, monitoring, workers."""
    assert set(SERVICES) == {
        *("database", "redis", "mqtt", "migrations", "code", "daemon", "webserver", "live"),
        *("reader", "worker", "prometheus", "grafana", "cli"),
    }
    assert SERVICES["worker"]["profiles"] == ["celery"]
    assert "timescale/timescaledb:" in SERVICES["database"]["image"]


@each_service
def test_a_service_waits_for_what_can_come_about(name: str) -> None:
    """What is waited for exists, and has a health check or ends by itself."""
    for needed, how in SERVICES[name].get("depends_on", {}).items():
        if how["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[needed], f"{name} waits for {needed} for ever"
        else:
            assert how["condition"] == "service_completed_successfully"
            assert SERVICES[needed]["restart"] == "no", f"{needed} never completes"
    if name in {"code", "live", "worker"}:
        assert "migrations" in SERVICES[name]["depends_on"]


@each_service
def test_a_service_is_watched_limited_and_stopped_with_patience(name: str) -> None:
    """Health check (unless it ends by itself), limits, an init, time to end, bounded logs."""
    service = SERVICES[name]
    assert ("healthcheck" in service) == (name in LASTING)
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    assert service["init"] is True
    assert int(service["stop_grace_period"].removesuffix("s")) >= 30
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}


@each_service
def test_a_service_cannot_gain_rights(name: str) -> None:
    """None may become more than it is; only the database starts as root on a writable image."""
    service = SERVICES[name]
    assert service["security_opt"] == ["no-new-privileges:true"]
    if name != "database":
        assert service["cap_drop"] == ["ALL"]
        assert service["read_only"] is True
    assert "privileged" not in service


@each_service
def test_an_image_has_an_exact_version(name: str) -> None:
    """At least two numbers, ours with a choice; never what is newest today."""
    image = SERVICES[name]["image"]
    assert "latest" not in image
    _, tag = image.split(":", 1)
    assert re.match(r"(\$\{\w+:-)?v?\d+\.\d+\.\d+", tag), image


def test_our_image_has_the_version_of_the_package() -> None:
    """Whoever sets nothing gets the version that is checked out."""
    assert (
        SERVICES["code"]["image"]
        == f"anomaly_assets:${{ANOMALY_ASSETS_VERSION:-{version('anomaly-assets')}}}"
    )


@each_service
def test_secrets_come_in_files(name: str) -> None:
    """No environment variable holds one, and every file that is named is mounted and made."""
    service = SERVICES[name]
    mounted = {f"/run/secrets/{one}" for one in service.get("secrets", ())}
    for variable, value in service.get("environment", {}).items():
        if re.search("PASSWORD|KEY|_URL|SECRET", variable) and "PROMETHEUS" not in variable:
            assert variable.endswith("_FILE"), f"{name}: {variable} holds a secret"
            assert value in mounted, f"{name}: {variable} names a file that is not there"
    words = " ".join([*service.get("command", ()), *service.get("entrypoint", ())])
    assert set(re.findall(r"/run/secrets/\w+", words)) <= mounted
    assert set(service.get("secrets", ())) <= set(COMPOSE["secrets"])


def test_every_secret_is_made(tmp_path: Path) -> None:
    """deploy/make_secrets.py makes exactly what is mounted, and the parts it is made of."""
    subprocess.run([sys.executable, DEPLOY / "make_secrets.py", tmp_path / "s"], check=True)
    made = {path.name for path in (tmp_path / "s").iterdir()}
    files = {Path(one["file"]) for one in COMPOSE["secrets"].values()}
    assert {path.parent.as_posix() for path in files} == {"deploy/secrets"}
    assert {path.name for path in files} <= made
    assert set(COMPOSE["secrets"]) == {path.name for path in files}


def test_every_file_variable_is_read_by_somebody() -> None:
    """Ours are settings that may come in files, or what the image's entry point knows."""
    ours = {f"{name}_FILE" for name in (*secret_variables(), "ANOMALY_ASSETS_CELERY_BROKER_URL")}
    known = ours | {variable_of(field) for field in Settings.model_fields}
    known |= {*DAGSTER_ENVIRONMENT, "NUMBA_CACHE_DIR", "MPLCONFIGDIR"}
    for name in OURS:
        assert set(SERVICES[name]["environment"]) <= known


@each_service
def test_mounted_files_and_volumes_exist(name: str) -> None:
    """What is mounted from the project is there, what is a volume is declared."""
    for volume in SERVICES[name].get("volumes", ()):
        source = volume.split(":")[0]
        if source == "./backups":
            continue  # the operator's, made at the first backup
        if source.startswith("."):
            assert (ROOT / source).exists(), f"{name} mounts {source}, which is not there"
        else:
            assert source in COMPOSE["volumes"]


def test_no_port_is_published_twice_and_none_to_everybody() -> None:
    """Each published port is another one, on this machine alone unless somebody chooses."""
    published = [port for one in SERVICES.values() for port in one.get("ports", ())]
    defaults = [re.sub(r"\$\{\w+:-([^}]+)\}", r"\1", port) for port in published]
    assert all(port.startswith("127.0.0.1:") for port in defaults), defaults
    numbers = [port.split(":")[1] for port in defaults]
    assert len(set(numbers)) == len(numbers), numbers


def test_database_and_cache_have_no_way_out() -> None:
    """They are on a network without one, and publish no port."""
    assert COMPOSE["networks"]["inside"]["internal"] is True
    for name in ("database", "redis"):
        assert SERVICES[name]["networks"] == ["inside"]
        assert "ports" not in SERVICES[name]


def test_services_get_what_makes_backfills_fast() -> None:
    """Wherever Dagster runs in a container, its two variables are set."""
    for name in OURS:
        assert DAGSTER_ENVIRONMENT.items() <= SERVICES[name]["environment"].items()


def test_code_server_listens_where_the_workspace_looks() -> None:
    """Host and port of deploy/workspace.yaml are those of the code server."""
    workspace = yaml.safe_load((DEPLOY / "workspace.yaml").read_text())
    server = workspace["load_from"][0]["grpc_server"]
    assert f"--port={server['port']}" in SERVICES[server["host"]]["command"]


@pytest.mark.parametrize("name", OURS)
def test_a_command_of_ours_exists(name: str) -> None:
    """What is started, and what asks for its health, is installed with the package."""
    installed = {path.name for path in Path(sys.executable).parent.iterdir()} | {"with-secrets"}
    service = SERVICES[name]
    words = [service.get("entrypoint", service["command"])[0]]
    _, *check = service.get("healthcheck", {}).get("test", ["NONE"])
    words += " ".join(check).split()[:1]
    assert set(words) <= installed


def test_every_choice_is_documented() -> None:
    """Each variable that docker-compose.yml asks for is in .env.example or a setting."""
    text = (ROOT / "docker-compose.yml").read_text()
    example = (ROOT / ".env.example").read_text()
    settings = {variable_of(field) for field in Settings.model_fields}
    asked = set(re.findall(r"(?<!\$)\$\{(\w+)", text)) - settings
    assert {name for name in asked if f"# {name}=" not in example} == set()


class TestImage:
    """deploy/Dockerfile."""

    def test_hadolint_has_no_complaint(self) -> None:
        """The checker of Dockerfiles passes, where it is installed."""
        hadolint = shutil.which("hadolint")
        if hadolint is None:
            pytest.skip("hadolint is not installed")
        answer = subprocess.run(
            [hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False
        )
        assert answer.returncode == 0, answer.stdout

    def test_it_is_built_from_an_exact_version_and_runs_as_nobody_special(self) -> None:
        """The base has three numbers, the last user is one without a name to be looked up."""
        base = r"^ARG PYTHON_IMAGE=python:\d+\.\d+\.\d+-slim-\w+$"
        assert re.search(base, DOCKERFILE, re.MULTILINE)
        assert re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE)[-1] == "10001"
        assert DOCKERFILE.count("\nFROM ") == 2
        assert "\nHEALTHCHECK " in DOCKERFILE

    def test_everything_copied_is_in_the_context(self) -> None:
        """Files that are copied exist, and .dockerignore lets them through."""
        allowed = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
        copied = re.findall(r"^COPY (?!--from)(?:--\S+ )?(.+) \S+$", DOCKERFILE, re.MULTILINE)
        for name in " ".join(copied).split():
            if name != ".":
                assert (ROOT / name).exists()
                assert name in allowed

    def test_no_secret_gets_in(self) -> None:
        """Neither the secrets nor .env are in what the image is built from."""
        allowed = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
        assert not [name for name in allowed if "secret" in name and "with_secrets" not in name]
        assert not {"deploy/", ".env"} & set(allowed)

    def test_its_extras_exist(self) -> None:
        """Each extra that is installed is one of pyproject.toml, pg_dump's among them."""
        extras = set(re.findall(r"--extra (\w+)", DOCKERFILE))
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        assert extras <= set(project["optional-dependencies"])
        assert {"causal", "live", "dashboard", "celery", "embedded"} <= extras

    def test_its_uv_is_the_one_of_the_project(self) -> None:
        """One version reads uv.lock everywhere."""
        (pinned,) = re.findall(r"uv==([\d.]+)", DOCKERFILE)
        assert f"version={pinned}\n" in (ROOT / "scripts" / "uv.sh").read_text()


def test_the_settings_understand_what_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the variables of a service and the files of make_secrets.py, the settings are whole."""
    monkeypatch.chdir(tmp_path)
    subprocess.run([sys.executable, DEPLOY / "make_secrets.py", tmp_path / "s"], check=True)
    for variable, value in SERVICES["live"]["environment"].items():
        monkeypatch.setenv(variable, value.replace("/run/secrets", str(tmp_path / "s")))
    settings = Settings()
    assert settings.database_url is not None
    assert settings.database_url.endswith("@database:5432/anomaly_assets")
    assert len(signing_key(settings)) == 64
    assert settings.redis_url is not None
    assert settings.mqtt_url is not None
    assert settings.mqtt_url.get_secret_value().endswith("@mqtt:1883")
