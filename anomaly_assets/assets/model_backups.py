"""A backup of the models every day, to wherever the settings say."""

import dagster as dg

from anomaly_assets.assets.common import described
from anomaly_assets.assets.partitions import DAYS
from anomaly_assets.assets.resources import DeploymentResource
from anomaly_assets.pipeline.backups import backup, verify_backup


@dg.asset(
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    **described("models", "fsspec", "postgres"),
    deps=["tier1_models", "gap_patterns", "cross_stream_models"],
    check_specs=[
        dg.AssetCheckSpec(
            "backup_sound",
            asset="model_backups",
            description="Every model in the backup passes verification when it is read back.",
        )
    ],
)
def model_backups(
    context: dg.AssetExecutionContext, deployment: DeploymentResource
) -> dg.MaterializeResult:
    """Newest and pinned models, labels, networks and decisions, signed, as they are now.

    A partition says on which day it was made; an earlier state cannot be backed up later.
    """
    made = backup(deployment.current, who=context.run.run_id)
    refused = [one for one in verify_backup(deployment.current) if one.reason]
    return dg.MaterializeResult(
        metadata={
            "name": made.name,
            "url": made.url,
            "entities": made.entities,
            "models": made.snapshots,
            "bytes": made.size,
            "rows": dg.MetadataValue.json(made.rows),
            "deleted": dg.MetadataValue.json(list(made.pruned)),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="backup_sound",
                passed=not refused,
                severity=dg.AssetCheckSeverity.WARN,
                metadata={
                    "refused": dg.MetadataValue.md("\n".join(f"- {one.refusal}" for one in refused))
                },
            )
        ],
    )
