"""The project around the package: make targets, dependencies, Dagster's instance."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from dagster import AssetMaterialization, DagsterInstance
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.instance.config import dagster_instance_config
from dagster._core.run_coordinator import QueuedRunCoordinator
from dagster._core.scheduler.instigation import TickStatus
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.workspace.load import location_origins_from_yaml_paths

from anomaly_assets.settings import DAGSTER_ENVIRONMENT, Settings
from anomaly_assets.storage.database import Database, ensure_database

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
TARGETS = {
    "help": "the default",
    "demo": "see it work",
    "dev": "start everything",
    "test": "run the tests",
    "lint": "check style",
    "types": "check types",
    "format": "rewrite the code",
    "bench": "run a benchmark",
    "docs": "build the documentation",
    "evaluate": "score a labelled set",
    "topology": "run the containers' services as processes",
    "clean": "remove what the others made",
}

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def read_yaml(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def read_toml(name: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / name).read_text())


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    # Nested in `make test`, the outer make's flags would be handed on.
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    # --old-file: the set-up is not what is tested here, and needs the network.
    installed = [f"--old-file=.venv/.installed-to-{what}" for what in ("run", "develop")]
    command = ["make", "--no-print-directory", *installed, *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def instance(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DagsterInstance]:
    """Dagster's instance as ``dagster.yaml`` describes it, on a fresh database."""
    url = Database(empty_database_url).dagster_url()
    ensure_database(empty_database_url, Database(url).name)
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", url)
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    with DagsterInstance.from_config(str(tmp_path)) as made:
        yield made


@needs_make
def test_make_alone_explains_every_target() -> None:
    """`make` without a target lists all targets, each with a sentence."""
    answer = make()
    assert answer.returncode == 0, answer.stderr
    listed = re.findall(r"^  ([a-z]+) +\S", answer.stdout, flags=re.MULTILINE)
    assert set(listed) == set(TARGETS)


@needs_make
@pytest.mark.parametrize("target", sorted(TARGETS))
def test_make_knows_target(target: str) -> None:
    """Every target a newcomer guesses can be made."""
    answer = make("--dry-run", target, "NAME=some")
    assert answer.returncode == 0, answer.stderr


@needs_make
def test_unknown_benchmark_is_answered_with_the_known_ones() -> None:
    """`make bench` with a wrong name fails and lists the right ones, without private modules."""
    answer = make("bench", "NAME=nonsense")
    assert answer.returncode != 0
    assert "no benchmark 'nonsense'" in answer.stderr
    folder = ROOT / "benchmarks"
    names = {path.stem for path in folder.glob("*.py")}
    names |= {path.parent.name for path in folder.glob("*/__main__.py")}
    listed = set(re.findall(r"^  (\S+)$", answer.stderr, flags=re.MULTILINE))
    assert listed == {name for name in names if not name.startswith("_")}


@needs_make
def test_evaluate_asks_for_the_data_set() -> None:
    """`make evaluate` without a name fails and says how to find one."""
    answer = make("evaluate")
    assert answer.returncode != 0
    assert "make evaluate NAME=" in answer.stderr


def test_makefile_sets_what_makes_backfills_fast() -> None:
    """The Makefile exports the same Dagster variables as the package sets."""
    exported = dict(
        re.findall(
            r"^export (DAGSTER_\w+) := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE
        )
    )
    assert exported == DAGSTER_ENVIRONMENT


def test_shell_scripts_have_no_syntax_errors() -> None:
    """The scripts of CI and set-up parse."""
    for shell, script in (("bash", ".ci/run"), ("sh", "scripts/uv.sh")):
        answer = subprocess.run([shell, "-n", ROOT / script], capture_output=True, check=False)
        assert answer.returncode == 0, answer.stderr
        assert os.access(ROOT / script, os.X_OK)


def test_every_import_is_a_declared_dependency() -> None:
    """What the package imports is in pyproject.toml, so that an installation has it."""
    project = read_toml("pyproject.toml")["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(one for extra in extras.values() for one in extra)]
    declared = {_normal(re.split(r"[\[<>=]", one)[0]) for one in wanted}
    distributions = packages_distributions()
    undeclared = {
        name
        for path in (ROOT / "anomaly_assets").rglob("*.py")
        for name in _imported(path)
        if not declared & {_normal(one) for one in distributions.get(name, [name])}
    }
    assert undeclared - set(sys.stdlib_module_names) - {"anomaly_assets"} == set()


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_dependencies_are_bounded_on_both_sides() -> None:
    """Each dependency says from where and up to where it is known to work."""
    project = read_toml("pyproject.toml")["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(one for extra in extras for one in extra)]
    # tzdata counts years and never breaks.
    unbounded = [one for one in wanted if not re.search(r">=.+,<", one)]
    assert [one for one in unbounded if not one.startswith("tzdata>=")] == []


def test_lock_names_only_public_hosts() -> None:
    """uv.lock works everywhere: it names no mirror and no file of one machine."""
    packages = read_toml("uv.lock")["package"]
    sources = {
        package["source"]["registry"] for package in packages if "registry" in package["source"]
    }
    assert sources == {"https://pypi.org/simple"}
    files = [
        one for package in packages for one in (*package.get("wheels", []), package.get("sdist"))
    ]
    hosts = {one["url"].split("/")[2] for one in files if one}
    assert hosts == {"files.pythonhosted.org"}


def test_pre_commit_and_lock_have_the_same_ruff() -> None:
    """Pre-commit formats as CI checks."""
    locked = {one["name"]: one.get("version") for one in read_toml("uv.lock")["package"]}
    repositories = read_yaml(".pre-commit-config.yaml")["repos"]
    (rev,) = (one["rev"] for one in repositories if one["repo"].endswith("/ruff-pre-commit"))
    assert rev == f"v{locked['ruff']}"


def test_example_environment_matches_the_settings() -> None:
    """.env.example names only settings there are, and sets what Dagster needs."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    pairs = dict(re.findall(r"^(?:# )?([A-Z_]+)=(.*)$", "\n".join(lines), re.MULTILINE))
    ours = {name.removeprefix("ANOMALY_ASSETS_").lower() for name in pairs if "ANOMALY" in name}
    compose = (ROOT / "docker-compose.yml").read_text()
    unknown = ours - set(Settings.model_fields)
    assert {
        name for name in unknown if f"${{ANOMALY_ASSETS_{name.upper()}:-" not in compose
    } == set()
    assert {name: pairs[name] for name in DAGSTER_ENVIRONMENT} == DAGSTER_ENVIRONMENT


def test_dagster_accepts_its_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """dagster.yaml passes Dagster's own validation and sends nothing home."""
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", "postgresql+psycopg2://nobody@localhost/none")
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    config, _ = dagster_instance_config(str(tmp_path))
    assert config["telemetry"] == {"enabled": False}
    assert config["concurrency"]["pools"] == {"default_limit": 1, "granularity": "run"}


def test_dagster_stores_events_in_postgresql(instance: DagsterInstance) -> None:
    """An event recorded through the configured instance comes back, notification included."""
    instance.report_runless_asset_event(AssetMaterialization("readings"))
    assert [key.to_user_string() for key in instance.all_asset_keys()] == ["readings"]


def test_dagster_queues_runs_quickly_and_serialises_pools(instance: DagsterInstance) -> None:
    """The queue is looked at each second, and a pool holds one run."""
    coordinator = instance.run_coordinator
    assert isinstance(coordinator, QueuedRunCoordinator)
    assert coordinator.dequeue_interval_seconds == 1
    concurrency = instance.get_concurrency_config()
    assert concurrency.pool_config.default_pool_limit == 1
    assert concurrency.run_queue_config is not None
    assert concurrency.run_queue_config.max_concurrent_runs == 4


def test_dagster_watches_runs_and_never_resumes_them(instance: DagsterInstance) -> None:
    """A run that died is failed, so that its pool is free again, and not resumed."""
    assert instance.run_monitoring_enabled
    assert instance.run_monitoring_max_resume_run_attempts == 0


@pytest.mark.parametrize("kind", [InstigatorType.SCHEDULE, InstigatorType.SENSOR])
def test_dagster_forgets_ticks_but_no_failures(
    instance: DagsterInstance, kind: InstigatorType
) -> None:
    """Ticks that did nothing are kept for a week, failures for ever."""
    days = instance.get_tick_retention_settings(kind)
    assert days[TickStatus.SKIPPED] == 7
    assert days[TickStatus.FAILURE] == -1


def test_dagster_keeps_logs_in_its_home(instance: DagsterInstance, tmp_path: Path) -> None:
    """Logs of runs lie in DAGSTER_HOME/storage, which docker-compose.yml keeps in a volume."""
    manager = instance.compute_log_manager
    assert isinstance(manager, LocalComputeLogManager)
    path = manager.get_captured_local_path(["run", "compute_logs", "step"], "out")
    assert Path(path).is_relative_to(tmp_path / "storage")


@pytest.mark.parametrize("name", ["workspace.yaml", "deploy/workspace.yaml"])
def test_workspace_has_one_code_location(name: str) -> None:
    """Dagster reads each workspace file as one location of the same name."""
    origins = location_origins_from_yaml_paths([str(ROOT / name)])
    assert [origin.location_name for origin in origins] == ["anomaly_assets"]
