"""The assets beside the windows, run as Dagster runs them, and what their pages show."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from anomaly_assets.assets.causal_network import MOST_SHOWN, describe_fits
from anomaly_assets.pipeline.network import Fit
from anomaly_assets.pipeline.stateless import aggregate_windows
from anomaly_assets.settings import settings
from anomaly_assets.streams.windows import WindowRange
from anomaly_assets_tests.pipeline.people import load_people, query
from anomaly_assets_tests.pipeline.support import deployment_of
from anomaly_assets_tests.storage.networks import FITTED, small_network

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anomaly_assets.pipeline.deployment import Deployment
    from anomaly_assets.storage.database import Database

#: Recent enough for Dagster's partitions whenever this runs.
END = datetime.now(tz=UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=2)
WINDOWS = WindowRange.between(END - timedelta(hours=3), END)


@pytest.fixture
def deployment(database: Database, tmp_path: Path) -> Deployment:
    """Return a deployment with three recent hours of two people."""
    load_people(database, ["ann", "bob"], WINDOWS)
    deployment = deployment_of(database, tmp_path)
    assert list(aggregate_windows(deployment, deployment.entities(), WINDOWS))
    return deployment


@contextmanager
def settings_of(deployment: Deployment) -> Iterator[None]:
    """Make the deployment that of the process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", deployment.database.url)
        patch.setenv("ANOMALY_ASSETS_HOME", str(deployment.settings.home))
        settings.cache_clear()
        yield
    settings.cache_clear()


def execute_job(
    deployment: Deployment, job: str, **options: Any
) -> tuple[dict[str, Any], list[dg.AssetCheckEvaluation]]:
    """Run a job of one asset, and return its metadata and checks."""
    from anomaly_assets.definitions import defs  # noqa: PLC0415 - loaded by few tests only

    with settings_of(deployment), dg.DagsterInstance.ephemeral() as instance:
        result = defs.resolve_job_def(job).execute_in_process(instance=instance, **options)
    assert result.success
    (event,) = result.get_asset_materialization_events()
    metadata: dict[str, Any] = {
        name: value.value for name, value in event.materialization.metadata.items()
    }
    return metadata, list(result.get_asset_check_evaluations())


def test_an_hour_of_networks_shows_what_they_are(deployment: Deployment) -> None:
    """A partition ends with its hour: networks are stored as of then, and the page shows their
    size, age and fit, node by node, and a drawing.
    """
    pytest.importorskip("pgmpy", reason="needs the extra `causal`")
    key = (END - timedelta(hours=1)).strftime("%Y-%m-%d-%H:%M")
    metadata, (check,) = execute_job(deployment, "refit_networks", partition_key=key)
    rows = query(deployment.database, "SELECT entity_id, fitted_at FROM causal_networks ORDER BY 1")
    assert rows == [("ann", END), ("bob", END)]
    assert (metadata["dagster/row_count"], metadata["entities"]) == (2, 2)
    assert metadata["nodes"] >= 30
    assert metadata["edges"] >= 20
    assert 0.0 < metadata["fit_quality"] <= 1.0
    assert 47.0 < metadata["age_hours"] < 50.0
    assert "| ann |" in metadata["networks"]
    assert "| heart_rate | " in metadata["fit of ann"]
    assert "data:image/svg+xml;base64," in metadata["graph of bob"]
    assert "failed_entities" not in metadata
    assert check.passed
    assert check.check_name == "network_fresh"


def test_a_day_of_suggestions(deployment: Deployment) -> None:
    """A short history suggests nothing, which is said; the run is a success."""
    metadata, checks = execute_job(
        deployment, "suggest_structure", partition_key=END.strftime("%Y-%m-%d")
    )
    assert (metadata["dagster/row_count"], metadata["new"]) == (0, 0)
    assert metadata["entities"] == 2
    assert metadata["suggestions"] == "nothing suggested"
    assert checks == []


def test_many_entities_are_summed_up(deployment: Deployment) -> None:
    """Only a few are drawn, all are in the table; who could not be fitted says why."""
    fits = [Fit(f"e{number}", small_network(), "", 0.1) for number in range(5)]
    fits.append(Fit("new", None, "12 windows; a causal network needs 24", 0.0))
    metadata = describe_fits(deployment, fits, FITTED + timedelta(hours=2))
    shown = {name: value.value for name, value in metadata.items()}
    assert (shown["entities"], shown["nodes"], shown["edges"]) == (5, 10, 5)
    assert (shown["age_hours"], shown["fit_quality"]) == (2.0, 0.64)
    assert str(shown["networks"]).count("\n") == 6
    assert sum(name.startswith("graph of") for name in shown) == MOST_SHOWN
    assert shown["not_fitted"] == "- `new`: 12 windows; a causal network needs 24"
    assert "too few values: 3" in str(shown["fit of e0"])


def test_nobody_fitted_at_all_is_a_failure(deployment: Deployment) -> None:
    """With every entity failed there is no success to record; without any entity there is."""
    assert "failed_entities" not in describe_fits(deployment, [], FITTED)
    deployment.fail("ann", ValueError("gone"))
    with pytest.raises(dg.Failure, match="every entity failed"):
        describe_fits(deployment, [], FITTED)
    some = describe_fits(deployment, [Fit("bob", small_network(), "", 0.1)], FITTED)
    assert some["failed_entities"].value == "- `ann`: ValueError: gone"
