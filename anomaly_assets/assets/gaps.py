"""Gap pattern learning: which absences are normal and which are not."""

from collections.abc import Iterator

import dagster as dg

from anomaly_assets.assets.common import STATE_POOL, described, over_windows
from anomaly_assets.assets.partitions import PREVIOUS_WINDOW, windows_of
from anomaly_assets.pipeline.advance import ModelStates
from anomaly_assets.storage.tables import GapPattern, ModelSnapshot

READINGS = dg.AssetKey("raw_readings")


@dg.multi_asset(
    **over_windows(),
    pool=STATE_POOL,
    ins={
        "gap_patterns": dg.AssetIn(partition_mapping=PREVIOUS_WINDOW),
        "raw_readings": dg.AssetIn(dagster_type=dg.Nothing),
    },
    outs={
        "gap_patterns": dg.AssetOut(
            io_manager_key="model_state",
            description=(
                "Learnt availability by hour and week-end, transitions and lengths of gaps, as "
                "signed snapshots; depends on its own previous window."
            ),
            **described("gaps", "river", "postgres", table=ModelSnapshot.__table__),
        ),
        "gap_features": dg.AssetOut(
            dagster_type=dg.Nothing,
            description=(
                "How unusual the absences of each window are, overall and by group; coordinated "
                "failures of a group."
            ),
            **described("gaps", "postgres", table=GapPattern.__table__),
        ),
    },
    internal_asset_deps={
        "gap_patterns": {READINGS, dg.AssetKey("gap_patterns")},
        "gap_features": {READINGS},
    },
)
def gap_detection(
    context: dg.AssetExecutionContext, gap_patterns: ModelStates
) -> Iterator[dg.Output[object]]:
    """Score the window's absences against what is normal then, and learn."""
    yield dg.Output(gap_patterns.advance(windows_of(context)), output_name="gap_patterns")
    yield dg.Output(None, output_name="gap_features")
