"""The causal networks that explanations rest on."""

import math
from datetime import UTC, datetime

import dagster as dg
import numpy as np

from anomaly_assets.assets.checks import networks_fresh
from anomaly_assets.assets.common import described
from anomaly_assets.assets.network_graph import network_markdown
from anomaly_assets.assets.partitions import HOURS, WITHIN
from anomaly_assets.assets.resources import DeploymentResource, with_failures
from anomaly_assets.detection.explanation.network.model import CausalNetwork
from anomaly_assets.pipeline.deployment import Deployment
from anomaly_assets.pipeline.network import Fit, fit_networks, hours_ending
from anomaly_assets.storage.tables import StoredNetwork

NETWORK_FRESH = dg.AssetCheckSpec(
    "network_fresh",
    asset="causal_network",
    description="The network of every entity that reports is at most three hours old.",
)
#: Drawings and tables of streams for so many entities; more would swell Dagster's event log.
MOST_SHOWN = 3


@dg.asset(
    partitions_def=HOURS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    **described("explanation", "pgmpy", "postgres", table=StoredNetwork.__table__),
    deps=[dg.AssetDep("raw_readings", partition_mapping=WITHIN)],
    check_specs=[NETWORK_FRESH],
)
def causal_network(
    context: dg.AssetExecutionContext, deployment: DeploymentResource
) -> dg.MaterializeResult:
    """Fit each entity's causal network on its last hours, up to the end of the partition's hour.

    A partition stands for the end of its hour; the span (`ANOMALY_ASSETS_NETWORK_HOURS`, a day by
    default) reaches back further than the hour.
    """
    current = deployment.current
    start, end = context.partition_time_window
    fits = list(fit_networks(current, deployment.entities(), hours_ending(start, end)))
    return dg.MaterializeResult(
        metadata=describe_fits(current, fits, datetime.now(tz=UTC)),
        check_results=[networks_fresh(current, end)],
    )


def describe_fits(
    deployment: Deployment, fits: list[Fit], now: datetime
) -> dict[str, dg.MetadataValue]:
    """Sum up what was fitted, and show the newest network of the first few entities.

    Raises
    ------
    dagster.Failure
        If every entity failed.
    """
    newest = {fit.entity_id: fit.network for fit in fits if fit.network is not None}
    nodes = [len(n.structure.nodes) - len(n.left_out) for n in newest.values()]
    quality = [n.fit_quality for n in newest.values() if np.isfinite(n.fit_quality)]
    ages = [n.age(now.timestamp()) / 3600.0 for n in newest.values()]
    metadata: dict[str, dg.MetadataValue] = {
        "dagster/row_count": dg.MetadataValue.int(sum(fit.network is not None for fit in fits)),
        "entities": dg.MetadataValue.int(len(newest)),
        "nodes": dg.MetadataValue.int(sum(nodes)),
        "edges": dg.MetadataValue.int(sum(len(n.edges) for n in newest.values())),
        "seconds": dg.MetadataValue.float(round(math.fsum(fit.seconds for fit in fits), 3)),
    }
    if ages:
        metadata["age_hours"] = dg.MetadataValue.float(round(max(ages), 2))
        metadata["networks"] = dg.MetadataValue.md(_table(newest, now))
    if quality:
        metadata["fit_quality"] = dg.MetadataValue.float(round(float(np.mean(quality)), 3))
    for entity, network in list(newest.items())[:MOST_SHOWN]:
        metadata[f"fit of {entity}"] = dg.MetadataValue.md(_streams(network))
        metadata[f"graph of {entity}"] = dg.MetadataValue.md(network_markdown(network))
    unfitted = {fit.entity_id: fit.reason for fit in fits if fit.entity_id not in newest}
    if unfitted:
        told = [f"- `{entity}`: {reason}" for entity, reason in sorted(unfitted.items())]
        metadata["not_fitted"] = dg.MetadataValue.md("\n".join(told))
    return with_failures(deployment, metadata, done=bool(fits))


def _table(newest: dict[str, CausalNetwork], now: datetime) -> str:
    lines = [
        "| entity | nodes | edges | windows | fit quality | age, hours |",
        "|---|" + "---:|" * 5,
    ]
    for entity, network in newest.items():
        lines.append(
            f"| {entity} | {len(network.structure.nodes) - len(network.left_out)} "
            f"| {len(network.edges)} | {network.n_windows} | {_share(network.fit_quality)} "
            f"| {network.age(now.timestamp()) / 3600.0:.1f} |"
        )
    return "\n".join(lines)


def _streams(network: CausalNetwork) -> str:
    """Return what each node of a network rests on and how much of it its causes explain."""
    lines = ["| stream | windows with a value | explained by its causes | |", "|---|---:|---:|---|"]
    for node, count, share in zip(
        network.structure.nodes,
        network.n_observed.tolist(),
        network.r_squared.tolist(),
        strict=True,
    ):
        left_out = network.left_out.get(node, "")
        lines.append(f"| {node} | {count} | {_share(share)} | {left_out} |")
    return "\n".join(lines)


def _share(value: float) -> str:
    return f"{value:.0%}" if np.isfinite(value) else ""
