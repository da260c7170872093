"""The benchmark of many streams, in small: windows are taken every way, and figures add up."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from anomaly_assets.evaluation.simulator.faults import FaultKind
from anomaly_assets.evaluation.simulator.generic import synthetic_catalogue
from anomaly_assets_tests.pipeline.people import query
from benchmarks.entities.bed import STREAMS, Bed, windows_of, write_catalogue
from benchmarks.streams import Place, show

if TYPE_CHECKING:
    from pathlib import Path

    from anomaly_assets.storage.database import Database


def test_windows_of_each_size_are_taken_in_one_process_and_apart(
    server_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two sizes with two windows each way: all are stored, and the last line has the figures."""
    places = [Place(server_url, tmp_path, size, warm=12, windows=6) for size in (30, 100)]
    for keep in (False, True, True):
        for place in places:
            place.time(apart=False, keep=keep)
            place.time(apart=True, keep=keep)
    show(places, 2)
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["streams"] == [30, 100]
    for size in (30, 100):
        seconds = found["window_s"][str(size)]
        assert 0.0 < seconds <= found["slowest_s"][str(size)]
        assert found["apart_s"][str(size)] > 0.0
        assert found["ms_a_stream"][str(size)] == pytest.approx(seconds * 1e3 / size)
        assert found["dagster_s"][str(size)] is None
    each = found["ms_a_stream"]
    assert found["ratio_100_to_30"] == pytest.approx(each["100"] / each["30"])
    assert found["peak_mb"]["100"] >= found["peak_mb"]["30"] > 10.0
    for place in places:
        assert (len(place.single), len(place.apart)) == (2, 2)
        assert all(len(seconds) == 2 for seconds in place.steps.values())


@pytest.mark.parametrize("streams", [5, STREAMS])
def test_bed_has_a_reading_of_every_stream(
    database: Database, tmp_path: Path, streams: int
) -> None:
    """The written catalogue is that of so many generic streams, and each of them reports."""
    bed = Bed(write_catalogue(tmp_path, streams), kinds=(FaultKind.LEVEL_SHIFT,))
    wanted = synthetic_catalogue(streams)
    assert [(s.id, s.type, s.group, s.aggregation) for s in bed.catalogue.streams] == [
        (s.id, s.type, s.group, s.aggregation) for s in wanted.streams
    ]
    assert len(bed.faults) >= 2
    bed.watch(database, 2, windows_of(0, 12))
    rows = query(database, "SELECT entity_id, count(DISTINCT stream_id) FROM readings GROUP BY 1")
    assert sorted(rows) == [("entity-00000", streams), ("entity-00001", streams)]
