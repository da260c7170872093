"""The list of real recordings, and their labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anomaly_assets.errors import EvaluationError
from anomaly_assets.evaluation.recordings import (
    DATA_SETTING,
    RecordingSet,
    Shape,
    contexts,
    data_folder,
    labels,
    recording,
    recordings,
    segments,
)
from anomaly_assets.streams.loading import load_catalogue

needs_data = pytest.mark.skipif(
    not data_folder().is_dir(),
    reason=f"no recordings at {data_folder()}: set {DATA_SETTING} to the folder that holds them",
)


def test_the_setting_names_the_folder(tmp_path: Path) -> None:
    """The setting wins over the default place."""
    assert data_folder({DATA_SETTING: str(tmp_path)}) == tmp_path
    assert data_folder({}).name == "data"


def test_an_absent_folder_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    """The message says what to set."""
    with pytest.raises(EvaluationError, match=DATA_SETTING):
        recordings(tmp_path / "none")


def test_an_unknown_recording_is_an_error(tmp_path: Path) -> None:
    """The message says that there is none of that name."""
    with pytest.raises(EvaluationError, match="asd/omi-99"):
        recording("asd/omi-99", tmp_path)


def test_a_small_asd_recording_is_read(tmp_path: Path) -> None:
    """Labels, the start of the test part and the segments come from the files."""
    folder = tmp_path / "asd"
    folder.mkdir()
    pd.DataFrame(
        {
            "t": range(4),
            "d01": [0.1, 0.2, 0.3, 0.4],
            "split": ["train", "train", "test", "test"],
            "label": [0, 0, 0, 1],
        }
    ).to_csv(folder / "omi-01.csv.gz", index=False)
    (folder / "omi-01_interpretation.csv").write_text("start,end,dims,type\n1,2,d01 d02,metric\n")
    (found,) = recordings(tmp_path)
    assert (found.name, found.entity, found.catalogue) == ("asd/omi-01", "omi-01", "asd")
    assert (found.test_from, found.step_seconds) == (2, 300)
    assert found.stream_columns == ("d01",)
    assert labels(found).tolist() == [False, False, False, True]
    (segment,) = segments(found)
    assert (segment.start, segment.end, segment.streams) == (3, 4, ("d01", "d02"))
    with pytest.raises(EvaluationError, match="labels"):
        contexts(found)


@needs_data
def test_every_set_is_listed_with_files_that_exist() -> None:
    """All four sets are there, and each names a shipped catalogue of its zone."""
    found = recordings()
    assert {r.set for r in found} == set(RecordingSet)
    for each in found:
        assert all(path.is_file() for path in each.files)
        assert load_catalogue(each.catalogue).time_zone == each.time_zone


@needs_data
def test_wide_recordings_fit_their_catalogue() -> None:
    """Columns are the catalogue's streams; labels cover every row and only the test part."""
    for each in (recording("asd/omi-01"), recording("smd/machine-2-7")):
        assert each.stream_columns == load_catalogue(each.catalogue).stream_ids
        anomalous = labels(each)
        rows = sum(len(pd.read_csv(path, usecols=["d01"])) for path in each.files)
        assert anomalous.shape == (rows,)
        assert not anomalous[: each.test_from].any()
        assert 0.01 < anomalous[each.test_from :].mean() < 0.2


@needs_data
def test_labelled_segments_lie_on_labelled_rows() -> None:
    """Segments, counted from the start of the recording, meet the labels."""
    each = recording("asd/omi-01")
    anomalous = labels(each)
    for segment in segments(each):
        assert anomalous[segment.start : segment.end].any()
        assert set(segment.streams) <= set(each.stream_columns)


@needs_data
def test_wearables_have_contexts_instead_of_labels() -> None:
    """Contexts are ordered pairs of times in UTC, and asking for labels is an error."""
    each = next(r for r in recordings() if r.set is RecordingSet.EXTRASENSORY)
    assert each.shape is Shape.LONG
    table = contexts(each)
    assert list(table.columns) == ["start", "end", "label"]
    assert np.all(table["end"] >= table["start"])
    with pytest.raises(EvaluationError, match="contexts"):
        labels(each)
