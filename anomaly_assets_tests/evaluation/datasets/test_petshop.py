"""The PetShop recordings are read as they are laid out, and what is wrong with them is named."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from anomaly_assets.errors import EvaluationError
from anomaly_assets.evaluation.datasets.petshop import load_petshop
from anomaly_assets.evaluation.recordings import data_folder
from anomaly_assets_tests.evaluation.datasets.petshop_layout import (
    CALLS,
    NORMAL_ROWS,
    SERVICES,
    START,
    write_petshop,
)


def test_scenarios_faults_and_their_roots(tmp_path: Path) -> None:
    """Every fault of the list is there, what was measured about it, and its root."""
    write_petshop(tmp_path)
    busy, quiet = load_petshop(tmp_path)
    assert (busy.name, quiet.name) == ("busy", "quiet")
    assert busy.services == SERVICES
    assert set(busy.calls) == set(CALLS)
    assert [issue.name for issue in busy.issues] == ["issue_0", "issue_1"]
    slow, failing = busy.issues
    assert (slow.target, slow.root, slow.since) == ("web", "db", START + 400)
    assert failing.layer == ("availability", "Average")
    assert slow.run.starts.tolist() == [START + 300 * row for row in range(5)]
    np.testing.assert_allclose(failing.run.layers[failing.layer][2], [96.0, 95.0, 90.0, np.nan])


def test_a_scenario_need_not_have_a_normal_run(tmp_path: Path) -> None:
    """Two of the published scenarios have none."""
    write_petshop(tmp_path)
    busy, quiet = load_petshop(tmp_path)
    assert busy.normal is not None
    assert busy.normal.layers["latency", "Average"].shape == (NORMAL_ROWS, 4)
    assert quiet.normal is None


def test_a_service_that_was_not_measured_is_unknown(tmp_path: Path) -> None:
    """A service of the call graph without a column has no values, rather than zeros."""
    root = write_petshop(tmp_path)
    path = root / "busy" / "noissue" / "metrics.csv.gz"
    lines = _read(path).splitlines()
    first = [",".join(line.split(",")[:3]) for line in lines]
    _write(path, "\n".join(first) + "\n")
    busy, _ = load_petshop(tmp_path)
    assert busy.normal is not None
    known = np.isfinite(busy.normal.layers["latency", "Average"]).any(axis=0)
    assert known.tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    "missing", ["targets.csv", "busy/graph.csv.gz", "busy/train/issue_1/metrics.csv.gz"]
)
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    """The message says which file, and which setting points to it."""
    root = write_petshop(tmp_path)
    (root / missing).unlink()
    with pytest.raises(EvaluationError, match=rf"{missing} is missing.*ANOMALY_ASSETS_DATA"):
        load_petshop(tmp_path)


def _header(text: str) -> str:
    return text.replace("statistic,", "stat,", 1)


def _word(text: str) -> str:
    lines = text.splitlines()
    lines[5] = f"{lines[5].split(',')[0]},fast" + "".join(
        f",{cell}" for cell in lines[5].split(",")[2:]
    )
    return "\n".join(lines)


def _gap(text: str) -> str:
    lines = text.splitlines()
    return "\n".join(lines[:5] + lines[6:])


def _no_time(text: str) -> str:
    lines = text.splitlines()
    return "\n".join([*lines[:4], lines[4].removeprefix(f"{START}.0")])


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (_header, "header beginning with microservice, metric, statistic"),
        (lambda text: "\n".join(text.splitlines()[:4]), "then rows"),
        (_word, "row 6, column web latency Average: 'fast' is no number"),
        (_gap, "row 6, column unix_timestamp: rows are not 300 s apart"),
        (_no_time, "row 5, column unix_timestamp"),
        (lambda text: text.replace("mail", "fax"), "column fax: is no service of the call graph"),
        (lambda text: text.replace("mail", "db"), "db latency Average: is there twice"),
    ],
)
def test_a_spoilt_run_is_refused(
    tmp_path: Path, spoil: Callable[[str], str], complaint: str
) -> None:
    """The message names the file and, where there is one, line and column."""
    root = write_petshop(tmp_path)
    path = root / "busy" / "train" / "issue_0" / "metrics.csv.gz"
    _write(path, spoil(_read(path)))
    with pytest.raises(EvaluationError, match=complaint) as raised:
        load_petshop(tmp_path)
    assert str(path) in str(raised.value)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    """A copy that was cut off is told from a wrong layout."""
    root = write_petshop(tmp_path)
    path = root / "busy" / "graph.csv.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(EvaluationError, match="cannot be read as CSV"):
        load_petshop(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("web,0.0", "web,0.5", "row 2, column web: '0.5' is neither 0 nor 1"),
        ("web,0.0", "web,", "row 2, column web: '' is neither 0 nor 1"),
        ("web,0.0", "shop,0.0", "same services in one order"),
    ],
)
def test_a_spoilt_graph_is_refused(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    """A call is there or not, and rows and columns are the same services."""
    root = write_petshop(tmp_path)
    path = root / "busy" / "graph.csv.gz"
    _write(path, _read(path).replace(old, new))
    with pytest.raises(EvaluationError, match=complaint):
        load_petshop(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("root_cause_node", "culprit", "column 'root_cause_node' is missing"),
        (",db\n", ",disk\n", "row 2, column root_cause_node: 'disk' is not in the call graph"),
        (",web,", ",page,", "row 2, column target_node: 'page' is not in the call graph"),
        (f"{START + 400}", "noon", "row 2, column timestamp: 'noon' is no time"),
        (f"{START + 400}", f"{START - 1}", "row 2, column timestamp: .* outside of the rows"),
        ("latency,Average", "latency,p99", "row 2, column target_metric: latency p99 is not among"),
    ],
)
def test_a_spoilt_list_of_faults_is_refused(
    tmp_path: Path, old: str, new: str, complaint: str
) -> None:
    """The message names the row as an editor counts it."""
    root = write_petshop(tmp_path)
    path = root / "targets.csv"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(EvaluationError, match=complaint):
        load_petshop(tmp_path)


def test_a_list_without_faults_is_refused(tmp_path: Path) -> None:
    """Nothing to rank is a mistake, not a result."""
    root = write_petshop(tmp_path)
    path = root / "targets.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    with pytest.raises(EvaluationError, match="names no fault"):
        load_petshop(tmp_path)


@pytest.mark.recordings
def test_the_published_shop() -> None:
    """Twenty faults in four scenarios, two of them with a normal run of two days."""
    if not (data_folder() / "petshop").is_dir():
        pytest.skip("no recordings of petshop; set ANOMALY_ASSETS_DATA")
    scenarios = load_petshop(data_folder())
    assert [len(scenario.issues) for scenario in scenarios] == [8, 8, 2, 2]
    assert [scenario.normal is not None for scenario in scenarios] == [True, True, False, False]
    assert {len(issue.run.starts) for scenario in scenarios for issue in scenario.issues} == {5}


def _read(path: Path) -> str:
    return gzip.decompress(path.read_bytes()).decode()


def _write(path: Path, text: str) -> None:
    path.write_bytes(gzip.compress(text.encode()))
