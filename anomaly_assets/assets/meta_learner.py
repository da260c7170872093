"""Option B of the ensemble: what the labels of everybody have taught."""

import math

import dagster as dg

from anomaly_assets.assets.common import described
from anomaly_assets.assets.resources import DeploymentResource, with_failures
from anomaly_assets.pipeline.meta_learner import Training, train_meta_learners
from anomaly_assets.storage.tables import StoredFeedback


@dg.asset(
    **described("ensemble", "sktime", "postgres", table=StoredFeedback.__table__),
    deps=["ensemble_results"],
)
def meta_learner(deployment: DeploymentResource) -> dg.MaterializeResult:
    """Train the meta-learner on people's labels; it takes over only where it is better.

    It is held against the health-aware ensemble on labels later than those it was trained on, and
    speaks only of windows that the ensemble would raise an alarm for. Which option speaks is a
    version of the feedback: see `anomaly-assets feedback`.
    """
    current = deployment.current
    trainings = list(train_meta_learners(current, current.entities()))
    metadata = describe_trainings(trainings)
    return dg.MaterializeResult(metadata=with_failures(current, metadata, done=bool(trainings)))


def describe_trainings(trainings: list[Training]) -> dict[str, dg.MetadataValue]:
    """Sum up what was trained, and say of each set of streams what was decided and why."""
    lines = [
        "| entities | confirmed | false | average precision, A | B | decided |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for one in trainings:
        found = one.validation
        a = "" if found is None else _share(found.average_precision_a)
        b = "" if found is None else _share(found.average_precision_b)
        names = ", ".join(one.entities[:5]) + (", ..." if len(one.entities) > 5 else "")
        lines.append(f"| {names} | {one.n_confirmed} | {one.n_false} | {a} | {b} | {one.why} |")
    return {
        "dagster/row_count": dg.MetadataValue.int(
            sum(one.version is not None for one in trainings)
        ),
        "judged_alarms": dg.MetadataValue.int(
            sum(one.n_confirmed + one.n_false for one in trainings)
        ),
        "meta_learners": dg.MetadataValue.md("\n".join(lines)),
        "seconds": dg.MetadataValue.float(round(math.fsum(one.seconds for one in trainings), 3)),
    }


def _share(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "unknown"
