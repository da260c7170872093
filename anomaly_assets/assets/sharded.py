"""The assets of the pipeline as one graph, whose steps are shards of the entities.

``plan_shards`` finds out which shards have entities, ``process_shard`` takes those of one shard
from readings to explanations, and ``record`` says for each asset what all shards did. The assets
are described by the very specs of the single steps, so that nobody who looks at them, waits for
them or asks for a range of them can tell the difference.

Steps hand nothing over but figures, as metadata of their outputs in the run's event log: no folder
has to be shared between the machines that they run on.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, cast

import dagster as dg
import psycopg

from anomaly_assets.assets.checks import (
    anomaly_rate,
    batch_time,
    scores_valid,
    streams_available,
    windows_complete,
)
from anomaly_assets.assets.common import STATE_POOL
from anomaly_assets.assets.explanations import show_picture, start_of_run
from anomaly_assets.assets.measures import measured, of_process
from anomaly_assets.assets.partitions import windows_of
from anomaly_assets.assets.resources import DeploymentResource, figures, with_reasons
from anomaly_assets.pipeline.deployment import Deployment
from anomaly_assets.pipeline.handover import Handover
from anomaly_assets.pipeline.progress import ShardProgress
from anomaly_assets.pipeline.whole import STEPS
from anomaly_assets.storage.entities import list_entities
from anomaly_assets.storage.windows import entity_lock
from anomaly_assets.streams.shards import shard_of
from anomaly_assets.streams.windows import WindowRange

GRAPH = "window_assets"
#: A database that cannot be reached is asked again so often, and after so many seconds.
_RETRIES = 2
_RETRY_SECONDS = 10
_PROGRESS = "progress"


@dataclass(frozen=True)
class Shard:
    """One of some shards.

    Parameters
    ----------
    number, of
        Which one, of how many.
    """

    number: int
    of: int

    @property
    def key(self) -> str:
        """What its step is called, which is all that the step is told."""
        return f"shard_{self.number}_of_{self.of}"

    @classmethod
    def from_key(cls, key: str) -> Self:
        """Return the shard of a step."""
        _, number, _, of = key.split("_")
        return cls(int(number), int(of))

    def __contains__(self, entity_id: str) -> bool:
        """Whether an entity belongs to it."""
        return shard_of(entity_id, self.of) == self.number


def sharded(assets: Sequence[dg.AssetsDefinition], shards: int) -> dg.AssetsDefinition:
    """Return the assets as one definition that is carried out in shards.

    Parameters
    ----------
    assets
        The pipeline's assets, a definition a step, in the order in which they are made.
    shards
        How many parts the entities are cut into.
    """
    specs = [spec for one in assets for spec in one.specs]
    checks = {_check_output(spec): spec for one in assets for spec in one.check_specs}
    outputs = {spec.key.path[-1]: spec.key for spec in specs}
    nothing = {name: dg.Out(dg.Nothing) for name in (*outputs, *checks)}
    plan, process, record = _plan_shards(shards), _process_shard(), _record(nothing)

    @dg.graph(name=GRAPH, out=dict.fromkeys(nothing, dg.GraphOut()))
    def window_assets() -> dict[str, Any]:
        made = record(plan().map(process).collect())
        return {name: getattr(made, name) for name in nothing}

    return dg.AssetsDefinition(
        node_def=window_assets,
        keys_by_input_name={},
        keys_by_output_name=outputs,
        specs=specs,
        check_specs_by_output_name=checks,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )


def _plan_shards(shards: int) -> dg.OpDefinition:
    @dg.op(out=dg.DynamicOut(dg.Nothing))
    def plan_shards(deployment: DeploymentResource) -> Iterator[dg.DynamicOutput[None]]:
        """Find the shards that have entities; an empty deployment has one."""
        with deployment.current.database.connect() as connection:
            rows = list_entities(connection)
        for number in sorted({shard_of(row.entity_id, shards) for row in rows} or {0}):
            yield dg.DynamicOutput(None, mapping_key=Shard(number, shards).key)

    return plan_shards


def _process_shard() -> dg.OpDefinition:
    @dg.op(pool=STATE_POOL, ins={"planned": dg.In(dg.Nothing)}, out=dg.Out(dg.Nothing))
    def process_shard(
        context: dg.OpExecutionContext, deployment: DeploymentResource
    ) -> Iterator[dg.Output[None]]:
        """Take the entities of one shard through the whole pipeline."""
        key = context.get_mapping_key() or ""
        database = deployment.current.database
        step = f"{context.run_id}\x1f{key}"
        try:
            # A queue may hand out a step twice. The second one waits, and finds it done.
            with database.connect() as connection, entity_lock(connection, step, GRAPH):
                told = progress_of_steps(context.instance, [context.run_id]).get(key)
                if told is None:
                    told = _processed(deployment.current, Shard.from_key(key), windows_of(context))
                metadata = {_PROGRESS: dg.MetadataValue.json(told.document())}
                yield dg.Output(None, metadata={**metadata, **_sums(told)})
        except psycopg.OperationalError as error:
            raise dg.RetryRequested(_RETRIES, _RETRY_SECONDS) from error

    return process_shard


def _record(outputs: Mapping[str, dg.Out]) -> dg.OpDefinition:
    @dg.op(ins={"processed": dg.In(dg.Nothing)}, out=dict(outputs))
    def record(
        context: dg.OpExecutionContext, deployment: DeploymentResource
    ) -> Iterator[dg.Output[None] | dg.AssetCheckResult]:
        """Say of each asset what all shards have done, and check it."""
        runs = [context.run_id, *_parents(context)]
        told = sum(progress_of_steps(context.instance, runs).values(), start=ShardProgress())
        windows = windows_of(context)
        yield from _recorded(deployment.current, told, windows, start_of_run(context))
        show_picture(context, deployment.current, windows)

    return record


def _processed(deployment: Deployment, shard: Shard, windows: WindowRange) -> ShardProgress:
    # Failures and results at hand are the shard's own, also where shards share a process.
    own = replace(deployment, failures={}, handover=Handover())
    return ShardProgress.of(own, own.entities(only=shard.__contains__), windows)


def _recorded(
    deployment: Deployment, told: ShardProgress, windows: WindowRange, started: float | None
) -> Iterator[dg.Output[None] | dg.AssetCheckResult]:
    """Yield outputs and checks in the order of the single steps.

    Where a check that blocks does not pass, what follows is not recorded, as it would not have been
    made by single steps.
    """
    readings, tier_1, gaps, tier_2, final, explained = (
        dg.Output(None, name, metadata=_metadata(told, name)) for name in STEPS
    )
    for outputs, checks in (
        (
            (_with(readings, measured(deployment, "readings", windows)),),
            (windows_complete(deployment, windows), streams_available(deployment, windows)),
        ),
        (
            (
                tier_1,
                dg.Output(None, "tier1_scores"),
                dg.Output(None, "stream_health", metadata=measured(deployment, "health", windows)),
            ),
            (scores_valid(deployment, windows, "tier1_scores", "river_individual"),),
        ),
        ((gaps, dg.Output(None, "gap_features")), ()),
        (
            (tier_2, dg.Output(None, "cross_stream_scores")),
            (scores_valid(deployment, windows, "cross_stream_scores", "river_multivariate"),),
        ),
        (
            (_with(final, measured(deployment, "ensemble", windows)),),
            (
                scores_valid(deployment, windows, "ensemble_results", "ensemble"),
                anomaly_rate(deployment, windows),
            ),
        ),
    ):
        yield from outputs
        yield from checks
        for check in checks:
            if not check.passed and check.severity is dg.AssetCheckSeverity.ERROR:
                # Returning would not do: Dagster takes outputs that were not mentioned for made.
                msg = (
                    f"check {check.check_name} of {check.asset_key} did not pass: its results say "
                    "what is wrong; nothing that comes after it is recorded"
                )
                raise dg.Failure(msg)
    yield _with(explained, of_process())
    yield batch_time(deployment, windows, started, time.time())


def _with(output: dg.Output[None], metadata: Mapping[str, dg.MetadataValue]) -> dg.Output[None]:
    return dg.Output(None, output.output_name, metadata={**output.metadata, **metadata})


def progress_of_steps(
    instance: dg.DagsterInstance, runs: Sequence[str]
) -> dict[str, ShardProgress]:
    """Return what the steps of some runs have said of their shards, by the steps' keys.

    Parameters
    ----------
    instance
        Where the runs are recorded.
    runs
        Identifiers; of a shard that several of them have processed, the first one counts.
    """
    found: dict[str, ShardProgress] = {}
    for run_id in reversed(runs):
        entries = instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_OUTPUT)
        for entry in entries:
            event = entry.get_dagster_event()
            handle = event.step_output_data.step_output_handle
            metadata = event.step_output_data.metadata or {}
            document = metadata.get(_PROGRESS)
            if isinstance(document, dg.JsonMetadataValue):
                key = handle.step_key.partition("[")[2].removesuffix("]")
                found[key] = ShardProgress.from_document(cast("dict[str, Any]", document.data))
    return found


def _parents(context: dg.OpExecutionContext) -> Iterator[str]:
    """Yield the runs that this one takes up after a failure, the latest first."""
    run: dg.DagsterRun | None = context.run
    while run is not None and run.parent_run_id is not None:
        yield run.parent_run_id
        run = context.instance.get_run_by_id(run.parent_run_id)


def _metadata(told: ShardProgress, step: str) -> dict[str, dg.MetadataValue]:
    progress = told.steps[step]
    return with_reasons(told.failed_by(step), figures(progress), done=progress.entities > 0)


def _sums(told: ShardProgress) -> dict[str, dg.MetadataValue]:
    """Return the figures of a shard's step that are worth a look."""
    return {
        "entities": dg.MetadataValue.int(told.steps[STEPS[0]].entities),
        "rows": dg.MetadataValue.int(sum(step.rows for step in told.steps.values())),
        "failed_entities": dg.MetadataValue.int(len(told.failed_by(STEPS[-1]))),
    }


def _check_output(spec: dg.AssetCheckSpec) -> str:
    return f"{spec.asset_key.path[-1]}_{spec.name}"
