"""The NAB score, by hand and against published results."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from anomaly_assets.errors import EvaluationError
from anomaly_assets.evaluation.datasets import load
from anomaly_assets.evaluation.metrics.nab import best_threshold, learning_rows, nab_score
from anomaly_assets.evaluation.recordings import data_folder


@dataclass(frozen=True)
class File:
    """A file of the benchmark."""

    name: str
    known: tuple[tuple[int, int], ...]


FILE = File("file", ((40, 49), (80, 89)))


def alarms(*rows: int, size: int = 100) -> np.ndarray:
    """Return scores of 1 at some rows."""
    scores = np.zeros(size)
    scores[list(rows)] = 1.0
    return scores


def test_perfect_is_100_and_silence_0() -> None:
    """An alarm at the left edge of every window is perfect; one more in a window adds nothing."""
    assert nab_score([FILE], [alarms(40, 80)], 1.0) == pytest.approx(100.0)
    assert nab_score([FILE], [alarms(40, 45, 80)], 1.0) == pytest.approx(100.0)
    assert nab_score([FILE], [alarms()], 1.0) == 0.0
    assert nab_score([FILE], [np.full(100, np.nan)], 1.0) == 0.0


def test_late_and_false_alarms_by_hand() -> None:
    """The sigmoid of the paper, in a window and after it; the learning part is free."""
    late = (2 / (1 + np.exp(-0.5 * 5)) - 1) / (2 / (1 + np.exp(-5)) - 1)
    assert nab_score([FILE], [alarms(45)], 1.0) == pytest.approx(100 * (late + 1) / 4)
    assert nab_score([FILE], [alarms(20)], 1.0) == pytest.approx(-100 * 0.11 / 4)
    after = 0.11 * (2 / (1 + np.exp(5 * 1 / 9)) - 1)
    assert nab_score([FILE], [alarms(50)], 1.0) == pytest.approx(100 * after / 4)
    assert nab_score([FILE], [alarms(*range(15))], 1.0) == 0.0
    assert (learning_rows(100), learning_rows(20_000)) == (15, 750)


def test_the_best_threshold_is_the_best_of_all() -> None:
    """Trying every score as the threshold of both files finds nothing better."""
    generator = np.random.default_rng(4)
    files = [FILE, File("other", ((30, 60),))]
    scores = [np.round(generator.random(100), 2), np.round(generator.random(100), 2)]
    scores[0][41] = scores[1][33] = 1.5
    best = best_threshold(files, scores)
    tried = {t: nab_score(files, scores, t) for t in np.unique(np.concatenate(scores))}
    assert best.score == pytest.approx(max(tried.values()))
    assert nab_score(files, scores, best.threshold) == pytest.approx(best.score)


def test_it_may_be_best_never_to_alarm() -> None:
    """Scores that only ever alarm outside of windows are best never heard."""
    outside = np.ones(100)
    outside[99] = 0.0
    found = best_threshold([File("f", ((99, 99),))], [outside])
    assert found == (float("inf"), 0.0)


def test_what_does_not_fit_is_refused() -> None:
    """Windows beyond the file, no window at all, and files without scores."""
    with pytest.raises(EvaluationError, match="outside"):
        nab_score([File("f", ((90, 120),))], [alarms()], 1.0)
    with pytest.raises(EvaluationError, match="no file has a labelled window"):
        nab_score([File("f", ())], [alarms()], 1.0)
    with pytest.raises(EvaluationError, match="1 files but 0"):
        nab_score([FILE], [], 1.0)


@pytest.mark.recordings
@pytest.mark.skipif(not (data_folder() / "nab").is_dir(), reason="no nab recordings")
@pytest.mark.parametrize(
    ("name", "rows", "published"),
    [
        (
            "realAWSCloudwatch/ec2_cpu_utilization_24ae8d",
            [730, 1019, 1310, 1598, 3547, 3548, 3778],
            1.27956648491,
        ),
        (
            "realAWSCloudwatch/ec2_disk_write_bytes_c0d644",
            [1861, 1862, 1892, 2094, 2294, 2306, 2637],
            0.556842909788,
        ),
        ("realAWSCloudwatch/elb_request_count_8c0756", [785, 786, 1974, 3682], 1.60595613499),
        (
            "realKnownCause/ambient_temperature_system_failure",
            [1131, 1209, 1800, 1820, 1825, 3697, 3698, 3752, 5058],
            -0.758599859273,
        ),
    ],
)
def test_published_scores_are_reproduced(name: str, rows: list[int], published: float) -> None:
    """The rows at which Numenta HTM alarmed, and its published raw score of the file (NAB ea702d7).

    The raw score counts -1 for each missed window; scaled, silence is 0 and perfection 100.
    """
    series = next(one for one in load("nab") if one.name == name)
    n_windows = len(series.known)
    expected = 100.0 * (published + n_windows) / (2 * n_windows)
    scores = alarms(*rows, size=len(series.block))
    assert nab_score([series], [scores], 1.0) == pytest.approx(expected, abs=1e-8)
