"""An entity out of the database takes the recorded actions on its models again."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import TYPE_CHECKING

from anomaly_assets.live.options import PipelineOptions
from anomaly_assets.live.restore import restore_entity
from anomaly_assets.live.verification import changed_since
from anomaly_assets.pipeline.advance import ModelStates
from anomaly_assets.pipeline.retraining import retrain
from anomaly_assets.pipeline.tiers import IndividualTier
from anomaly_assets_tests.pipeline.course_support import at, process, watched, window
from anomaly_assets_tests.pipeline.people import execute

if TYPE_CHECKING:
    from pathlib import Path

    from anomaly_assets.storage.database import Database


def test_a_retraining_is_taken_again(database: Database, tmp_path: Path) -> None:
    """Restored from before a retraining, the live state is the one that Dagster has."""
    deployment = watched(database, tmp_path)
    short = deployment.settings.model_copy(update={"retrain_days": 2})
    deployment = replace(deployment, settings=short)
    process(deployment, 0, 3)
    known = restore_entity(deployment, "ann", PipelineOptions(), at(3))
    assert known is not None
    assert not changed_since(database, "ann", known.live.last_change)
    retrain(deployment, "ann", who="test", why="test", force=True)
    assert changed_since(database, "ann", known.live.last_change)
    process(deployment, 3, 3.5)
    execute(database, "DELETE FROM model_snapshots WHERE as_of > %s", at(2))
    execute(database, "DELETE FROM time_series_data WHERE timestamp >= %s", at(3.5))

    found = restore_entity(deployment, "ann", PipelineOptions(), at(3.5))

    assert found is not None
    assert found.live.closed_until == window(3.5)
    expected = ModelStates(IndividualTier(), deployment).before(
        deployment.reread("ann"), window(3.5)
    )
    state = found.live._learnt.state.individual
    assert pickle.dumps(state.figures()) == pickle.dumps(expected.figures())
    untouched = known.live._learnt.state.individual
    assert pickle.dumps(untouched.figures()) != pickle.dumps(state.figures())
