"""What the assets are given: the deployment of a run, and the models' IO manager."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import dagster as dg
from pydantic import PrivateAttr

from anomaly_assets.logs import bind, unbind
from anomaly_assets.pipeline.advance import Commit, ModelStates
from anomaly_assets.pipeline.deployment import Deployment, Entity
from anomaly_assets.pipeline.progress import Progress
from anomaly_assets.pipeline.tiers import tier_of
from anomaly_assets.settings import settings
from anomaly_assets.storage.connect import connect_database


class DeploymentResource(dg.ConfigurableResource[Any]):
    """The deployment as the settings describe it; one object a run, so that all steps share it."""

    _deployment: Deployment | None = PrivateAttr(default=None)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Connect to the database of the settings."""
        run_id = context.run.run_id if context.run else "library"
        if context.run:
            bind(run_id=run_id)
        self._deployment = Deployment(settings(), connect_database(settings()), run_id=run_id)

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Have what this process says next be of no run."""
        del context
        unbind("run_id")

    @property
    def current(self) -> Deployment:
        """The run's deployment."""
        if self._deployment is None:
            msg = "DeploymentResource is used outside of a run"
            raise dg.DagsterInvariantViolationError(msg)
        return self._deployment

    def entities(self) -> list[Entity]:
        """Return the entities that can be processed."""
        return self.current.entities()


class ModelStateIOManager(dg.IOManager):
    """Keeps River model state as signed snapshots, together with the results it came with.

    An input is the state as of any window: the nearest earlier snapshot, verified, and the windows
    since replayed. An output is the progress of a range: each block it yields has been committed,
    results and state in one transaction.

    Parameters
    ----------
    deployment
        The run's deployment.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    def load_input(self, context: dg.InputContext) -> ModelStates:
        """Return the states of one model asset."""
        tier = tier_of(context.asset_key.path[-1], self._deployment.settings)
        return ModelStates(tier, self._deployment)

    def handle_output(self, context: dg.OutputContext, obj: Iterator[Commit]) -> None:
        """Drive the commits to the end of the range and describe what was stored."""
        context.add_output_metadata(describe(self._deployment, obj))


@dg.io_manager(required_resource_keys={"deployment"})
def model_state(context: dg.InitResourceContext) -> ModelStateIOManager:
    """Return the models' IO manager of a run; it shares the run's deployment with the assets."""
    return ModelStateIOManager(context.resources.deployment.current)


def describe(deployment: Deployment, commits: Iterable[Commit]) -> dict[str, dg.MetadataValue]:
    """Drive `commits` to their end and sum them up for Dagster.

    Raises
    ------
    dagster.Failure
        If every entity failed; a single one's failure leaves the run going.
    """
    progress = Progress.of(commits)
    return with_failures(deployment, figures(progress), done=progress.entities > 0)


def figures(progress: Progress) -> dict[str, dg.MetadataValue]:
    """Return what a step has done as an asset's metadata."""
    metadata: dict[str, dg.MetadataValue] = {
        "dagster/row_count": dg.MetadataValue.int(progress.rows),
        "windows": dg.MetadataValue.int(progress.windows),
        "entities": dg.MetadataValue.int(progress.entities),
        "seconds": dg.MetadataValue.float(round(progress.seconds, 3)),
    }
    if progress.windows:
        each = progress.seconds / progress.windows
        metadata["seconds_per_window"] = dg.MetadataValue.float(round(each, 6))
    if progress.snapshot_bytes:
        metadata["snapshot_bytes"] = dg.MetadataValue.int(progress.snapshot_bytes)
    if progress.refused:
        refused = "\n".join(f"- {reason}" for reason in progress.refused)
        metadata["refused_snapshots"] = dg.MetadataValue.md(refused)
    return metadata


def with_failures(
    deployment: Deployment, metadata: dict[str, dg.MetadataValue], *, done: bool
) -> dict[str, dg.MetadataValue]:
    """Add to an asset's metadata who failed, and why.

    Raises
    ------
    dagster.Failure
        If somebody failed and nothing was `done`.
    """
    return with_reasons(deployment.failures, metadata, done=done)


def with_reasons(
    failures: Mapping[str, str], metadata: dict[str, dg.MetadataValue], *, done: bool
) -> dict[str, dg.MetadataValue]:
    """Add the reasons why some entities failed; see :func:`with_failures`."""
    if failures:
        failed = [f"- `{entity}`: {why}" for entity, why in sorted(failures.items())]
        metadata["failed_entities"] = dg.MetadataValue.md("\n".join(failed))
        if not done:
            raise dg.Failure(description="every entity failed", metadata=metadata)
    return metadata
