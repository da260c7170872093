"""Labelled data sets are read as they are laid out, and what is wrong with them is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anomaly_assets.errors import EvaluationError
from anomaly_assets.evaluation.datasets import NAMES, LabelKind, load
from anomaly_assets_tests.evaluation.datasets.layouts import (
    write_asd,
    write_nab,
    write_own,
    write_smd,
)


def test_asd(tmp_path: Path) -> None:
    """Rows are windows; three columns get a catalogue of three streams as shipped."""
    write_asd(tmp_path)
    (series,) = load("asd", folder=tmp_path)
    assert series.name == "omi-77"
    assert series.block.values.shape == (600, 3)
    assert (series.n_train, series.rows_per_day) == (300, 288)
    assert series.catalogue.stream_ids == ("d01", "d02", "d03")
    assert np.flatnonzero(series.labels).tolist() == [597, 598, 599]
    (segment,) = series.segments
    assert (segment.start, segment.end, segment.streams) == (597, 600, ("d01", "d02"))


def test_smd_keeps_the_clock_of_the_minutes(tmp_path: Path) -> None:
    """The test file follows the train file on a clock where 60 rows are an hour."""
    write_smd(tmp_path)
    (series,) = load("smd", folder=tmp_path)
    assert (len(series.block), series.n_train, series.rows_per_day) == (800, 400, 1440)
    assert series.block.calendar.hour[[0, 60, 450]].tolist() == [0.0, 1.0, 7.5]
    assert series.block.calendar.weekday[0] == 0
    assert series.labels.sum() == 3
    assert series.segments[0].start == 797


def test_nab_keeps_the_clock_of_the_timestamps(tmp_path: Path) -> None:
    """Rows are windows whatever lies between them; 15 % are for learning."""
    write_nab(tmp_path)
    (series,) = load("nab", folder=tmp_path)
    assert series.name == "real/one"
    assert (len(series.block), series.n_train, series.rows_per_day) == (300, 45, 48)
    assert series.known == ((280, 299),)
    assert series.labels.sum() == 20
    assert series.block.calendar.hour[1] == pytest.approx(40 / 60)
    assert series.block.calendar.weekday[0] == 1


def test_own_folder(tmp_path: Path) -> None:
    """Readings are aggregated, labels become windows with the streams blamed."""
    write_own(tmp_path)
    (series,) = load(str(tmp_path))
    assert (len(series.block), series.n_train) == (400, 60)
    (segment,) = series.segments
    assert segment.streams == ("pulse", "steps")
    assert (segment.start, segment.end) == (397, 399)
    assert series.kind is LabelKind.ANOMALIES


def test_train_until_by_option_and_by_file(tmp_path: Path) -> None:
    """The option wins over evaluation.json; both are UTC without a zone."""
    write_own(tmp_path)
    (tmp_path / "evaluation.json").write_text('{"train_until": "2026-01-05T10:00"}')
    assert load(str(tmp_path))[0].n_train == 120
    assert load(str(tmp_path), train_until="2026-01-06")[0].n_train == 288
    with pytest.raises(EvaluationError, match="--train-until"):
        load(str(tmp_path), train_until="soon")
    with pytest.raises(EvaluationError, match="at least one must remain"):
        load(str(tmp_path), train_until="2027-01-01")


def test_entities_are_series_of_their_own(tmp_path: Path) -> None:
    """A label with an entity is that entity's only."""
    write_own(tmp_path)
    readings = pd.read_csv(tmp_path / "readings.csv")
    both = pd.concat([readings.assign(entity_id="ann"), readings.assign(entity_id="bob")])
    both.to_csv(tmp_path / "readings.csv", index=False)
    labels = pd.read_csv(tmp_path / "labels.csv").assign(entity_id="bob")
    labels.to_csv(tmp_path / "labels.csv", index=False)
    ann, bob = load(str(tmp_path))
    assert (ann.name, ann.labels.sum()) == ("ann", 0)
    assert (bob.name, bob.labels.sum()) == ("bob", 2)
    labels.assign(entity_id="eve").to_csv(tmp_path / "labels.csv", index=False)
    with pytest.raises(EvaluationError, match=r"labels.csv, row 2, column entity_id"):
        load(str(tmp_path))


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("readings.csv", "never,pulse,1.0", "row 802, column timestamp: 'never'"),
        ("readings.csv", "2026-01-05T00:00:00Z,pulse,inf", "row 802, column value: 'inf'"),
        ("readings.csv", "2026-01-05T00:00:00Z,pulse,", "row 802, column value: ''"),
        ("readings.csv", "2026-01-05T00:00:00Z,mood,1", "row 802, column stream_id: 'mood'"),
        ("labels.csv", "x,2026-01-05,pulse", "row 3, column start: 'x'"),
        ("labels.csv", "2026-01-06,2026-01-05,pulse", "row 3, column end: '2026-01-05'"),
        ("labels.csv", "2026-01-05,2026-01-06,pulse mood", "row 3, column streams: names 'mood'"),
        ("labels.csv", "2027-01-05,2027-01-06,pulse", "row 3, column start: lies outside"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, file: str, line: str, message: str) -> None:
    """File, row as an editor counts, and column."""
    write_own(tmp_path)
    with (tmp_path / file).open("a") as opened:
        opened.write(line + "\n")
    with pytest.raises(EvaluationError, match=f"{file}, {message}"):
        load(str(tmp_path))


def test_missing_files_and_columns_are_named(tmp_path: Path) -> None:
    """A folder without labels, and labels without an end."""
    write_own(tmp_path)
    (tmp_path / "labels.csv").write_text("start\n2026-01-05\n")
    with pytest.raises(EvaluationError, match="column 'end' is missing"):
        load(str(tmp_path))
    (tmp_path / "labels.csv").unlink()
    with pytest.raises(EvaluationError, match=r"labels.csv is missing"):
        load(str(tmp_path))


def test_unknown_names_and_absent_data_are_clear(tmp_path: Path) -> None:
    """The names are listed, and the setting is named."""
    with pytest.raises(EvaluationError, match=", ".join(NAMES)):
        load("adsd")
    with pytest.raises(EvaluationError, match="ANOMALY_ASSETS_DATA"):
        load("asd", folder=tmp_path / "none")
    with pytest.raises(EvaluationError, match="no recording of nab"):
        load("nab", folder=tmp_path)
    with pytest.raises(EvaluationError, match="leave out --train-until"):
        load("asd", folder=tmp_path, train_until="2026-01-01")


def test_a_series_without_its_window_list_is_refused(tmp_path: Path) -> None:
    """A series that nobody labelled would score as if it were clean."""
    write_nab(tmp_path)
    (tmp_path / "nab" / "combined_windows.json").write_text("{}")
    with pytest.raises(EvaluationError, match=r"no entry 'real/one\.csv'"):
        load("nab", folder=tmp_path)


def test_persons_have_contexts(tmp_path: Path) -> None:
    """Exercise of fitbit1 is a proxy label, other contexts are not; days are local."""
    folder = tmp_path / "wearable" / "fitbit1"
    folder.mkdir(parents=True)
    times = pd.date_range("2020-03-19", periods=3 * 288, freq="5min").strftime("%Y-%m-%dT%H:%M:%SZ")
    pd.DataFrame({"timestamp": times, "stream_id": "hr", "value": 60.0}).to_csv(
        folder / "one.csv.gz", index=False
    )
    (folder / "one_events.csv").write_text(
        "start,end,label\n"
        "2020-03-20T12:00:00Z,2020-03-20T12:10:00Z,exercise:Bike\n"
        "2020-03-20T22:00:00Z,2020-03-20T23:00:00Z,sleep\n"
    )
    (series,) = load("fitbit1", folder=tmp_path)
    assert series.kind is LabelKind.PROXY
    assert series.labels.sum() == 2
    assert series.n_train == 432
    assert series.block.time_zone == "America/Chicago"
