"""What all window assets have in common."""

from __future__ import annotations

import warnings
from importlib import metadata
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._utils.warnings import BetaWarning

from anomaly_assets.assets.partitions import WINDOWS

if TYPE_CHECKING:
    from sqlalchemy import FromClause

# Backfill policies are beta in Dagster 1.13, which is pinned; once a line for each asset is enough.
warnings.filterwarnings("ignore", message=".*backfill_policy.*", category=BetaWarning)

OWNERS = ["team:anomaly-assets"]
#: State and results of one tier are written by one run at a time.
STATE_POOL = "model_state"
CODE_VERSION = metadata.version("anomaly-assets")


def column_schema(table: FromClause) -> dg.TableSchema:
    """Describe a table's columns for the Dagster UI, from the table's own definition."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=column.name,
                type=str(column.type).lower(),
                description=column.comment,
                constraints=dg.TableColumnConstraints(nullable=bool(column.nullable)),
            )
            for column in table.columns
        ]
    )


def described(group: str, *kinds: str, table: FromClause | None = None) -> dict[str, Any]:
    """Return what every asset carries: group, owners, kinds, tags, version, columns."""
    about: dict[str, Any] = {
        "group_name": group,
        "owners": OWNERS,
        "kinds": {"python", *kinds},
        "tags": {"domain": "anomaly_detection"},
        "code_version": CODE_VERSION,
    }
    if table is not None:
        about["metadata"] = {
            "dagster/column_schema": column_schema(table),
            "dagster/table_name": f"public.{table.description}",
        }
    return about


def over_windows() -> dict[str, Any]:
    """Return how every window asset is partitioned and backfilled.

    One run over a whole range, since state moves through the windows in order.
    """
    return {"partitions_def": WINDOWS, "backfill_policy": dg.BackfillPolicy.single_run()}
