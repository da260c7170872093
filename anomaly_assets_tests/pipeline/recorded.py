"""Two real days of a recording, from files to explanations."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from anomaly_assets.evaluation.recordings import DATA_SETTING, Recording, Shape, data_folder
from anomaly_assets.ingestion.ingest import IngestOptions, ingest_files
from anomaly_assets.pipeline.replay import range_of_readings
from anomaly_assets.pipeline.whole import process
from anomaly_assets.streams.windows import WINDOWS_PER_DAY, WindowRange

if TYPE_CHECKING:
    from pathlib import Path

    from anomaly_assets.pipeline.deployment import Deployment

DAYS = 2
NEEDS_RECORDINGS = [
    pytest.mark.recordings,
    pytest.mark.skipif(
        not data_folder().is_dir(),
        reason=f"no recordings at {data_folder()}: set {DATA_SETTING} to the folder that has them",
    ),
]


def process_two_days(deployment: Deployment, found: Recording) -> WindowRange:
    """Ingest and process the first two days of a recording, and return their windows."""
    report = ingest_files(
        deployment.database,
        [_two_days(found, deployment.settings.home)],
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
    return windows


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


def _options(found: Recording) -> IngestOptions:
    if found.shape is Shape.LONG:
        return IngestOptions()
    start: datetime | None = found.start
    return IngestOptions(
        start=start,
        step=timedelta(seconds=found.step_seconds),
        ignore_columns=frozenset({"split", "label"}),
    )
