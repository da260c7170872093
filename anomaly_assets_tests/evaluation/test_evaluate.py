"""The system beside the baselines on small labelled sets, and the command around it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from anomaly_assets.cli import app
from anomaly_assets.evaluation.baselines import BASELINES, baselines_for, run_baseline
from anomaly_assets.evaluation.datasets import LabelledSeries, load
from anomaly_assets.evaluation.evaluate import evaluate
from anomaly_assets.evaluation.metrics.vus import period, vus_pr
from anomaly_assets.evaluation.prequential import run_ours
from anomaly_assets.evaluation.recordings import DATA_SETTING, data_folder
from anomaly_assets.streams.windows import WindowBlock
from anomaly_assets_tests.evaluation.datasets.layouts import write_asd, write_nab, write_own


@pytest.fixture
def server(tmp_path: Path) -> LabelledSeries:
    """Return a small server with an anomaly at its end."""
    write_asd(tmp_path, rows=1600)
    return load("asd", folder=tmp_path)[0]


def shortened(series: LabelledSeries, stop: int) -> LabelledSeries:
    """Return the first windows of a series."""
    return LabelledSeries(
        series.name,
        series.catalogue,
        series.block.part(0, stop),
        series.n_train,
        series.labels[:stop],
        (),
        series.rows_per_day,
    )


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_score_before_they_learn(name: str, server: LabelledSeries) -> None:
    """Later windows change no score before them; all are finite and of the right shape."""
    whole = run_baseline(name, server)
    part = run_baseline(name, shortened(server, 1000))
    assert whole.score.shape == (1600,)
    assert np.isfinite(whole.score[server.n_train :]).all()
    if name != "random":
        np.testing.assert_allclose(whole.score[:1000], part.score, rtol=1e-9)
        assert whole.score[-3] > np.nanmedian(whole.score[server.n_train :])
    if whole.evidence is not None:
        assert whole.evidence.shape == (1600, 3)


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_take_missing_values(name: str, server: LabelledSeries) -> None:
    """Holes and a stream that was never seen neither fail nor give infinities."""
    values = server.block.values.copy()
    values[100:130] = np.nan
    values[:, 2] = np.nan
    block = WindowBlock("x", "UTC", server.block.windows, values)
    holes = LabelledSeries("x", server.catalogue, block, server.n_train, server.labels, ())
    assert not np.isinf(run_baseline(name, holes).score).any()


def test_one_stream_has_no_residual_of_components(tmp_path: Path) -> None:
    """PCA of a single stream would explain it wholly."""
    write_nab(tmp_path)
    names = baselines_for(load("nab", folder=tmp_path)[0])
    assert "pca" not in names
    assert "ew_z" in names


def test_ours_names_streams_and_looks_at_no_label(server: LabelledSeries) -> None:
    """Evidence is finite, at least 0, and high where streams are off; labels change nothing."""
    scored = run_ours(server)
    assert scored.evidence is not None
    assert scored.evidence.shape == (1600, 3)
    assert scored.evidence.min() >= 0.0
    assert np.isfinite(scored.evidence).all()
    assert scored.evidence[-1].min() > np.median(scored.evidence)
    unlabelled = shortened(server, 1600)
    np.testing.assert_array_equal(run_ours(unlabelled).score, scored.score)


def test_a_report_is_json_without_nulls(server: LabelledSeries) -> None:
    """Ours by file and in the mean, the baselines beside it."""
    told: list[str] = []
    report = evaluate("asd", [server], progress=told.append)
    document = json.loads(json.dumps(report.document(), allow_nan=False))
    assert set(document["files"]) == {"omi-77"}
    assert {"vus_pr", "roc", "pr", "best_f1", "hit100", "hit150", "event_recall"} <= set(
        document["mean"]
    )
    assert tuple(document["baselines"]) == BASELINES
    assert "event_recall" not in document["baselines"]["pca"]
    assert document["mean"]["roc"] > 0.9
    assert "null" not in json.dumps(document)
    assert told[0] == "ours: omi-77, 1,600 windows"


def test_nab_is_of_all_files_together(tmp_path: Path) -> None:
    """The score at the best threshold is no worse than that at 0.7; one stream has no blame."""
    write_nab(tmp_path)
    report = evaluate("nab", load("nab", folder=tmp_path), compare=False)
    assert report.mean["nab"] >= report.mean["nab_at_0.7"]
    assert report.mean["nab"] == pytest.approx(report.files["real/one"]["nab"])
    assert "hit100" not in report.mean
    assert report.baselines == {}


def test_the_command_prints_one_object_on_its_last_line(tmp_path: Path) -> None:
    """Progress goes to standard error."""
    write_own(tmp_path)
    result = CliRunner().invoke(app, ["evaluate", str(tmp_path), "--json", "--no-compare"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout.splitlines()[-1])
    assert document["dataset"] == str(tmp_path)
    assert document["baselines"] == {}
    assert len(result.stdout.splitlines()) == 1
    assert "400 windows" in result.stderr


def test_the_command_prints_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --json it is for people."""
    write_asd(tmp_path)
    monkeypatch.setenv(DATA_SETTING, str(tmp_path))
    result = CliRunner().invoke(app, ["evaluate", "asd", "--no-compare"])
    assert result.exit_code == 0, result.output
    assert "omi-77" in result.stdout
    assert "mean" in result.stdout


@pytest.mark.recordings
@pytest.mark.skipif(not (data_folder() / "asd").is_dir(), reason="no asd recordings")
def test_simple_baselines_reach_what_they_are_known_to_reach() -> None:
    """VUS-PR on asd: z-scores against the time of day beat random by far."""
    means = {}
    for name in ("random", "seasonal_ew_z"):
        figures = []
        for one in load("asd"):
            score = run_baseline(name, one).score[one.n_train :]
            width = period(one.block.values[one.n_train :, 0])
            figures.append(vus_pr(one.labels[one.n_train :], score, width))
        means[name] = np.mean(figures)
    assert means["random"] < 0.15
    assert means["seasonal_ew_z"] > 0.4
