"""How old an asset may get before Dagster shows it red: a pipeline that has stalled says nothing.

Dagster's daemon judges by when an asset was last materialised, whichever partition that was. As
windows follow the clock, each asset of the pipeline is due every five minutes, readings or not.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import dagster as dg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anomaly_assets.settings import Settings

#: For warnings and for failures, by how often an asset is due.
EVERY_WINDOW: Final = (timedelta(minutes=30), timedelta(hours=1))
EVERY_HOUR: Final = (timedelta(hours=2), timedelta(hours=4))
EVERY_DAY: Final = (timedelta(hours=27), timedelta(hours=50))
_BESIDE: Final = {
    "causal_network": EVERY_HOUR,
    "daily_report": EVERY_DAY,
    "structure_suggestions": EVERY_DAY,
    "model_backups": EVERY_DAY,
    "meta_learner": EVERY_DAY,
}


def with_freshness(
    assets: Sequence[dg.AssetsDefinition], settings: Settings
) -> list[dg.AssetsDefinition]:
    """Give every asset its policy; none where the windows end, as with old recordings."""
    if settings.window_end is not None:
        return list(assets)
    return list(dg.map_asset_specs(_fresh, assets))


def _fresh(spec: dg.AssetSpec) -> dg.AssetSpec:
    warn, fail = _BESIDE.get(spec.key.path[-1], EVERY_WINDOW)
    policy = dg.FreshnessPolicy.time_window(fail_window=fail, warn_window=warn)
    return dg.apply_freshness_policy(spec, policy)
