"""The meta-learner says what was fitted, and later alarms alone decide whether it may speak."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anomaly_assets.detection.feedback.adjustment import Adjustment
from anomaly_assets.detection.feedback.decision import decide
from anomaly_assets.detection.feedback.labelled import Labelled
from anomaly_assets.detection.feedback.series import HISTORY, as_series, recent_scores
from anomaly_assets.detection.feedback.training import fit, train
from anomaly_assets.errors import InputError, StateError
from anomaly_assets_tests.detection.feedback.made import ENSEMBLE, alarms

N_CHANNELS = 6


def story(n: int, *, tells: bool, seed: int = 0) -> Labelled:
    """Return alarms whose history tells the two kinds apart, or does not."""
    rng = np.random.default_rng(seed)
    kinds = rng.random(n) < 0.5
    labelled = alarms([(0, 0.97, bool(kind)) for kind in kinds])
    recent = rng.random((n, HISTORY, N_CHANNELS))
    recent[rng.random(recent.shape) < 0.1] = np.nan
    if tells:
        recent[kinds, 4:, 2] = 0.9 + 0.1 * rng.random((int(kinds.sum()), HISTORY - 4))
    return replace(labelled, evidence=replace(labelled.evidence, recent=recent))


def option_a(labelled: Labelled) -> np.ndarray:
    """Return scores that know nothing."""
    return np.random.default_rng(1).random(len(labelled))


def test_the_compiled_forest_says_what_was_fitted() -> None:
    """Probabilities are sktime's, and a window's do not depend on what it is asked with."""
    tsf = pytest.importorskip("sktime.classification.interval_based")
    labelled = story(60, tells=True)
    recent = labelled.evidence.recent
    assert recent is not None
    forest = fit(labelled, seed=3)
    theirs = tsf.TimeSeriesForestClassifier(
        n_estimators=100, inner_series_length=HISTORY, random_state=3, n_jobs=1
    ).fit(as_series(recent)[:, np.newaxis, :], labelled.confirmed.astype(int))
    expected = theirs.predict_proba(as_series(recent)[:, np.newaxis, :])[:, 1]
    assert forest.probability(recent) == pytest.approx(expected, abs=1e-9)
    alone = [float(forest.probability(recent[row : row + 1])[0]) for row in range(60)]
    assert forest.probability(recent).tolist() == alone


def test_training_is_deterministic_and_better_where_there_is_something_to_learn() -> None:
    """The same alarms and seed give the same forest, which ranks later alarms better."""
    pytest.importorskip("sktime")
    labelled = story(100, tells=True)
    forest, found = train(labelled, option_a(labelled), seed=7)
    again, same = train(labelled, option_a(labelled), seed=7)
    assert same == found
    assert again.share.tobytes() == forest.share.tobytes()
    assert found.average_precision_b > 0.95 > found.average_precision_a
    assert found.is_better(0.05)
    assert (found.n_earlier, found.n_later) == (70, 30)


def test_where_there_is_nothing_to_learn_option_a_stays() -> None:
    """A forest of noise is not better by a margin on later alarms."""
    pytest.importorskip("sktime")
    labelled = story(100, tells=False)
    perfect = labelled.confirmed.astype(float)
    assert not train(labelled, perfect, seed=7)[1].is_better(0.05)


def test_one_kind_is_not_enough() -> None:
    """Without both kinds among the earlier alarms, or their history, nothing is trained."""
    labelled = story(20, tells=True)
    false = replace(labelled, confirmed=np.zeros(20, dtype=np.bool_))
    with pytest.raises(InputError, match="both kinds"):
        train(false, option_a(false), seed=7)


def test_the_forest_speaks_of_alarms_alone() -> None:
    """Option B decides what option A would raise; its score stands on the side it decided for."""
    pytest.importorskip("sktime")
    labelled = story(60, tells=True)
    forest = replace(fit(labelled, seed=3), cut=0.5)
    quiet = replace(labelled.evidence, final=np.full(60, 0.5))
    made = decide(labelled.evidence, Adjustment(), threshold=0.7, ensemble=ENSEMBLE, forest=forest)
    assert made.by_meta.all()
    assert np.array_equal(made.alarm, labelled.confirmed)
    assert ((made.score >= 0.0) & (made.score <= 1.0)).all()
    silent = decide(quiet, Adjustment(), threshold=0.7, ensemble=ENSEMBLE, forest=forest)
    assert not silent.by_meta.any()
    assert silent.score.tobytes() == quiet.final.tobytes()
    with pytest.raises(StateError, match="train it again"):
        forest.probability(np.zeros((1, HISTORY, 2)))


def test_history_without_a_past_is_unknown() -> None:
    """What lies before the first window is NaN, and a channel of its own says so."""
    recent = recent_scores(np.array([[0.5], [0.6]]), np.array([0, 1]), np.empty((0, 1)))
    assert np.isnan(recent[0, :-1]).all()
    assert recent[1, -2:, 0].tolist() == [0.5, 0.6]
    series = as_series(recent)
    assert series.shape == (2, 2 * HISTORY)
    assert series[0].tolist() == [0.0] * 11 + [0.5] + [0.0] * 11 + [1.0]
