"""What the data suggest for the catalogues."""

import math
from datetime import timedelta

import dagster as dg

from anomaly_assets.assets.common import described
from anomaly_assets.assets.partitions import DAYS, WITHIN
from anomaly_assets.assets.resources import DeploymentResource, with_failures
from anomaly_assets.pipeline.suggestions import Suggested, suggest_structure
from anomaly_assets.storage.tables import StoredSuggestion

#: Lines of the list in Dagster; everything is in `anomaly-assets suggestions list`.
MOST_SHOWN = 30


@dg.asset(
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=1),
    **described("explanation", "postgres", table=StoredSuggestion.__table__),
    deps=[dg.AssetDep("raw_readings", partition_mapping=WITHIN), "ensemble_results"],
)
def structure_suggestions(
    context: dg.AssetExecutionContext, deployment: DeploymentResource
) -> dg.MaterializeResult:
    """Suggest causal edges and courses of events that the catalogue lacks, for approval.

    Edges come from the week up to the partition's end, courses of events from the anomalies of the
    last thirty days. Nothing is changed: see `anomaly-assets suggestions`.
    """
    current = deployment.current
    start, end = context.partition_time_window
    ends = [max(end, start + timedelta(days=1))]
    suggested = list(suggest_structure(current, deployment.entities(), ends))
    metadata = describe_suggestions(suggested)
    return dg.MaterializeResult(metadata=with_failures(current, metadata, done=bool(suggested)))


def describe_suggestions(suggested: list[Suggested]) -> dict[str, dg.MetadataValue]:
    """Sum up what was suggested, and list the best supported."""
    rows = [
        (one.entity_id, proposal)
        for one in suggested
        for proposal in sorted((*one.edges, *one.patterns), key=lambda p: -p.support)
    ]
    lines = ["| entity | kind | suggestion | support |", "|---|---|---|---:|"]
    lines += [
        f"| {entity} | {proposal.kind} | {proposal.subject} | {proposal.support:.2f} |"
        for entity, proposal in rows[:MOST_SHOWN]
    ]
    return {
        "dagster/row_count": dg.MetadataValue.int(len(rows)),
        "entities": dg.MetadataValue.int(len(suggested)),
        "edges": dg.MetadataValue.int(sum(len(one.edges) for one in suggested)),
        "patterns": dg.MetadataValue.int(sum(len(one.patterns) for one in suggested)),
        "new": dg.MetadataValue.int(sum(one.new for one in suggested)),
        "seconds": dg.MetadataValue.float(round(math.fsum(one.seconds for one in suggested), 3)),
        "suggestions": dg.MetadataValue.md("\n".join(lines) if rows else "nothing suggested"),
    }
