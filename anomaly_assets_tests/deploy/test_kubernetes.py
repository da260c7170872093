"""deploy/kubernetes: what `kubectl kustomize` makes of it fits the image, and Dagster takes it."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster import Shape
from dagster._config import process_config
from dagster._core.instance.config import dagster_instance_config

from anomaly_assets.settings import DAGSTER_ENVIRONMENT, secret_variables

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
HOME = "/var/lib/anomaly_assets/dagster"
IMAGE = f"anomaly_assets:{version('anomaly-assets')}"
KUBECTL = shutil.which("kubectl")

pytestmark = pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed")


@cache
def rendered() -> list[dict[str, Any]]:
    """Return the objects that are applied."""
    assert KUBECTL is not None
    answer = subprocess.run(
        [KUBECTL, "kustomize", FOLDER], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    return list(yaml.safe_load_all(answer.stdout))


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    """Return the objects of a kind by name."""
    return {one["metadata"]["name"]: one for one in rendered() if one["kind"] == kind}


def pods() -> dict[str, dict[str, Any]]:
    """Return the pods of all deployments by name."""
    return {name: one["spec"]["template"]["spec"] for name, one in of_kind("Deployment").items()}


def containers() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return every container with its pod."""
    return [
        (pod, container)
        for pod in pods().values()
        for container in [*pod["initContainers"], *pod["containers"]]
    ]


def test_the_services_are_those_of_docker_compose() -> None:
    """Code server, daemon, web server and live API, started by the same commands."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert set(pods()) == {"code", "daemon", "webserver", "live"}
    for name, pod in pods().items():
        (container,) = pod["containers"]
        expected = [word.replace("/opt/anomaly_assets", HOME) for word in compose[name]["command"]]
        assert container["args"] == expected, name
        assert "command" not in container  # the image's entry point brings the secrets


def test_every_container_is_closed_limited_and_of_one_version() -> None:
    """No root, no writing to the image, no rights to gain, bounded memory and time."""
    for pod, container in containers():
        assert container["image"] == IMAGE
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] is True
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert set(container["resources"]) == {"requests", "limits"}
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
    for pod in pods().values():
        assert "livenessProbe" in pod["containers"][0]


def test_mounts_and_settings_lead_somewhere() -> None:
    """Each mount has its volume, each ConfigMap is made, secrets are files that settings read."""
    maps = of_kind("ConfigMap")
    for pod, container in containers():
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
        assert [one["configMapRef"]["name"] for one in container["envFrom"]] == [
            "anomaly-assets-settings"
        ]
        assert volumes["dagster"]["configMap"]["name"] in maps
        assert volumes["secrets"]["secret"]["secretName"] == "anomaly-assets"
    settings = maps["anomaly-assets-settings"]["data"]
    assert DAGSTER_ENVIRONMENT.items() <= settings.items()
    files = {name for name in settings if name.endswith("_FILE")}
    assert files <= {f"{name}_FILE" for name in secret_variables()}
    for name in files:
        assert settings[name].startswith("/run/secrets/anomaly-assets/")


def test_one_migrates_and_the_others_wait() -> None:
    """Only the code server's pod changes the schema, and there is one of it at a time."""
    migrating = {
        name for name, pod in pods().items() if pod["initContainers"][0]["args"][1:] == ["migrate"]
    }
    assert migrating == {"code"}
    deployment = of_kind("Deployment")["code"]["spec"]
    assert (deployment["replicas"], deployment["strategy"]["type"]) == (1, "Recreate")


def test_services_lead_to_pods() -> None:
    """Each service selects the pods of one deployment, by a port that it has."""
    deployments = of_kind("Deployment")
    for name, service in of_kind("Service").items():
        labels = deployments[name]["spec"]["template"]["metadata"]["labels"]
        assert service["spec"]["selector"].items() <= labels.items()
        ports = {one["name"] for one in pods()[name]["containers"][0]["ports"]}
        assert service["spec"]["ports"][0]["targetPort"] in ports


def test_dagster_takes_the_instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dagster.yaml of the cluster passes Dagster's validation, with our limits."""
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", "postgresql+psycopg2://nobody@localhost/none")
    shutil.copy(FOLDER / "dagster.yaml", tmp_path)
    config, _ = dagster_instance_config(str(tmp_path))
    ours = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    assert config["concurrency"] == ours["concurrency"]
    theirs = yaml.safe_load((FOLDER / "dagster.yaml").read_text())
    # A run is a job of the cluster, which sees to its end.
    elsewhere = {"run_launcher", "run_monitoring", "compute_logs"}
    assert {name: theirs[name] for name in theirs if name not in elsewhere} == {
        name: ours[name] for name in ours if name not in elsewhere
    }


def test_dagster_k8s_takes_the_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """The launcher is made from its configuration, with the image and account of the manifests."""
    k8s = pytest.importorskip("dagster_k8s", reason="needs the extra `kubernetes`")
    clusters = pytest.importorskip("kubernetes.config")

    described = yaml.safe_load((FOLDER / "dagster.yaml").read_text())["run_launcher"]
    shape = Shape(k8s.K8sRunLauncher.config_type())  # type: ignore[no-untyped-call]
    checked = process_config(shape, described["config"])
    assert checked.success, checked.errors
    monkeypatch.setattr(clusters, "load_incluster_config", lambda: None)
    launcher = k8s.K8sRunLauncher.from_config_value(None, checked.value)
    assert launcher.job_image == IMAGE
    assert launcher.service_account_name in of_kind("ServiceAccount")
    assert launcher.dagster_home == HOME
    assert set(described["config"]["env_config_maps"]) <= set(of_kind("ConfigMap"))
    assert described["config"]["instance_config_map"] in of_kind("ConfigMap")
    assert described["config"]["job_namespace"] in of_kind("Namespace")


def test_runs_may_start_jobs_and_nothing_more() -> None:
    """Dagster's account creates jobs and looks at pods; no secret can be read with it."""
    (role,) = of_kind("Role").values()
    allowed = {resource for rule in role["rules"] for resource in rule["resources"]}
    assert allowed == {"jobs", "jobs/status", "pods", "pods/log", "pods/status", "events"}
    (binding,) = of_kind("RoleBinding").values()
    assert binding["subjects"][0]["name"] in of_kind("ServiceAccount")


class TestHelmValues:
    """helm-values.yaml, for Dagster's own chart."""

    values: dict[str, Any] = yaml.safe_load((FOLDER / "helm-values.yaml").read_text())

    def test_the_chart_is_dagsters_version(self) -> None:
        """The version to install is said, and is that of the locked Dagster."""
        text = (FOLDER / "helm-values.yaml").read_text()
        assert f"--version {version('dagster')}" in text

    def test_images_and_code_are_ours(self) -> None:
        """One image everywhere, our definitions, the port of the workspace."""
        (deployment,) = self.values["dagster-user-deployments"]["deployments"]
        assert f"{deployment['image']['repository']}:{deployment['image']['tag']}" == IMAGE
        assert deployment["dagsterApiGrpcArgs"] == ["--module-name", "anomaly_assets.definitions"]
        for part in ("dagsterWebserver", "dagsterDaemon"):
            image = self.values[part]["image"]
            assert f"{image['repository']}:{image['tag']}" == IMAGE
        launcher = self.values["runLauncher"]["config"]["k8sRunLauncher"]
        assert launcher["envConfigMaps"] == [{"name": "anomaly-assets-settings"}]

    def test_limits_are_those_of_the_instance(self) -> None:
        """One writer of model state at a time, runs that died are failed and not resumed."""
        daemon = self.values["dagsterDaemon"]
        assert daemon["runCoordinator"]["type"] == "QueuedRunCoordinator"
        assert daemon["runMonitoring"]["maxResumeRunAttempts"] == 0
        text = yaml.safe_dump(self.values)
        assert not re.search(r"(?i)password: \S", text)
