"""Two real days of a person and of a server, from files to explanations."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anomaly_assets.detection.health import StreamHealthTracker
from anomaly_assets.evaluation.recordings import (
    DATA_SETTING,
    Recording,
    Shape,
    data_folder,
    recording,
)
from anomaly_assets.ingestion.ingest import IngestOptions, ingest_files
from anomaly_assets.pipeline.replay import range_of_readings
from anomaly_assets.pipeline.tiers import read_block
from anomaly_assets.pipeline.whole import process
from anomaly_assets.storage import results
from anomaly_assets.storage.database import Database
from anomaly_assets.streams.windows import WINDOWS_PER_DAY, BoolArray, WindowRange
from anomaly_assets_tests.pipeline.support import deployment_of

pytestmark = [
    pytest.mark.recordings,
    pytest.mark.skipif(
        not data_folder().is_dir(),
        reason=f"no recordings at {data_folder()}: set {DATA_SETTING} to the folder that has them",
    ),
]

DAYS = 2
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
    return _processed(found, _two_days(found, tmp_path), database, tmp_path)


def _two_days(found: Recording, folder: Path) -> Path:
    table = pd.read_csv(found.files[0])
    if found.shape is Shape.WIDE:
        kept = table.head(DAYS * WINDOWS_PER_DAY)
    else:
        times = pd.to_datetime(table["timestamp"], utc=True)
        kept = table[times < times.min() + pd.Timedelta(days=DAYS)]
    path = folder / "two_days.csv"
    kept.to_csv(path, index=False)
    return path


def _processed(found: Recording, path: Path, database: Database, home: Path) -> Outcome:
    deployment = deployment_of(database, home)
    report = ingest_files(
        database,
        [path],
        catalogue=deployment.catalogue(found.catalogue),
        catalogue_name=found.catalogue,
        entity_id=found.entity,
        options=_options(found),
    )
    assert report.accepted
    assert not report.rejected
    known = range_of_readings(deployment)
    assert known is not None
    windows = WindowRange.between(*known)
    for _ in process(deployment, windows):
        pass
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


def _options(found: Recording) -> IngestOptions:
    if found.shape is Shape.LONG:
        return IngestOptions()
    start: datetime | None = found.start
    return IngestOptions(
        start=start,
        step=timedelta(seconds=found.step_seconds),
        ignore_columns=frozenset({"split", "label"}),
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
