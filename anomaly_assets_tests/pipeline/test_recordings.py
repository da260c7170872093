"""Two real days of a person and of a server, from files to explanations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest

from anomaly_assets.detection.health import StreamHealthTracker
from anomaly_assets.evaluation.recordings import recording
from anomaly_assets.pipeline.tiers import read_block
from anomaly_assets.storage import results
from anomaly_assets_tests.pipeline.recorded import NEEDS_RECORDINGS, process_two_days
from anomaly_assets_tests.pipeline.support import deployment_of

if TYPE_CHECKING:
    from pathlib import Path

    from anomaly_assets.storage.database import Database
    from anomaly_assets.streams.windows import BoolArray

pytestmark = NEEDS_RECORDINGS

NAMES = ("extrasensory/es_098A72A5", "asd/omi-01")


@dataclass(frozen=True)
class Outcome:
    """What the tables hold of one recording."""

    failures: dict[str, str]
    catalogue_streams: int
    observed: BoolArray
    predictable: BoolArray
    scored: BoolArray
    final_known: BoolArray
    scores_valid: bool


@pytest.fixture(params=NAMES)
def outcome(request: pytest.FixtureRequest, database: Database, tmp_path: Path) -> Outcome:
    """Process two days of a recording and read back what was stored."""
    found = recording(request.param)
    deployment = deployment_of(database, tmp_path)
    windows = process_two_days(deployment, found)
    entity = deployment.entity(found.entity)
    with database.connect() as connection:
        observed = read_block(connection, entity, windows).available
        individual = results.read_individual(
            connection, entity.entity_id, windows, entity.catalogue
        )
        final = results.read_ensemble(connection, entity.entity_id, windows)
    every = np.concatenate([individual.score.ravel(), final.score])
    known_scores = every[np.isfinite(every)]
    return Outcome(
        failures=deployment.failures,
        catalogue_streams=len(entity.catalogue.streams),
        observed=observed,
        predictable=StreamHealthTracker(entity.catalogue).presence(observed).predictable,
        scored=np.isfinite(individual.score),
        final_known=np.isfinite(final.score),
        scores_valid=bool(((known_scores >= 0.0) & (known_scores <= 1.0)).all()),
    )


def test_real_days_are_scored_where_due_and_unknown_elsewhere(outcome: Outcome) -> None:
    """A stream is scored exactly where it is observed and predictable; missing ones are unknown,
    and every window with such a stream has a final score.
    """
    due = outcome.observed & outcome.predictable
    assert not outcome.failures
    assert due.any()
    np.testing.assert_array_equal(outcome.scored, due)
    assert outcome.final_known[due.any(axis=1)].all()
    assert outcome.scores_valid
    assert outcome.observed.shape[1] == outcome.catalogue_streams
