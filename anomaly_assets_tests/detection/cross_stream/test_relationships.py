"""The voice for broken relationships."""

from __future__ import annotations

import numpy as np

from anomaly_assets.detection.cross_stream.relationships import RelationshipModel


def feed(model: RelationshipModel, values: np.ndarray) -> np.ndarray:
    """Return the p-value of each window."""
    p = []
    for x in values:
        available = np.isfinite(x).astype(np.float64)
        z = model.standardise(x)
        raw = model.residuals(z, available)
        p.append(model.p(raw))
        model.learn(x, z, raw, available)
    return np.array(p)


def related(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    common = rng.standard_normal(n)
    values = common[:, None] * [1.0, -2.0, 3.0, 0.0] + 0.2 * rng.standard_normal((n, 4))
    values[:, 3] = rng.standard_normal(n)
    return values


def test_a_break_stands_out_although_each_value_is_ordinary() -> None:
    """Streams that always move together and now do not are far outside of what was ever seen."""
    model = RelationshipModel(4, 4)
    usual = feed(model, related(1500))[100:]
    broken = feed(model, np.array([[1.5, -3.0, -4.5, 0.0]]))[0]
    assert broken < 1e-5
    assert broken < 0.01 * usual.min()


def test_missing_streams_do_not_hide_a_break_of_the_others() -> None:
    """The residual is taken given the streams that are there."""
    model = RelationshipModel(4, 4)
    usual = feed(model, related(1500))[100:]
    broken = feed(model, np.array([[1.5, np.nan, -4.5, np.nan]]))[0]
    assert broken < 1e-5
    assert broken < 0.01 * usual.min()


def test_nothing_is_said_before_there_is_evidence() -> None:
    """The first fifty windows are unknown, then all is known, but for windows without a stream."""
    values = related(61)
    values[60] = np.nan
    p = feed(RelationshipModel(4, 4), values)
    assert np.isnan(p[:50]).all()
    assert np.isfinite(p[50:60]).all()
    assert np.isnan(p[60])


def test_windows_in_which_nothing_breaks_rarely_have_a_small_p_value() -> None:
    """Small p-values come about as often as they state, although the streams are dependent."""
    p = feed(RelationshipModel(4, 4), related(4000))[500:]
    assert ((p > 0.0) & (p <= 1.0)).all()
    assert (p < 0.01).mean() < 0.012
    assert (p < 0.001).mean() < 0.0015


def test_relationships_that_are_no_straight_lines_do_not_cry_wolf() -> None:
    """A stream whose residual is heavy by nature gets a tail of its own; the others keep theirs."""
    rng = np.random.default_rng(1)
    values = related(4000)
    values[:, 1] += np.where(rng.random(4000) < 0.03, 4.0, 0.0) * rng.standard_normal(4000)
    model = RelationshipModel(4, 4)
    p = feed(model, values)[1500:]
    assert (p < 0.003).mean() < 0.006
    assert feed(model, np.array([[1.5, -3.0, -4.5, 0.0]]))[0] < 1e-3


def test_related_streams_are_the_predictive_ones() -> None:
    """The unrelated stream comes last."""
    model = RelationshipModel(4, 4)
    feed(model, related(600))
    assert model.predictiveness().argmin() == 3


def test_reselection_keeps_what_is_known_of_pairs() -> None:
    """A stream newly tracked brings its correlations with those tracked before."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((600, 6))
    values[:, 5] = values[:, 0] + 0.1 * rng.standard_normal(600)
    model = RelationshipModel(6, 4)
    feed(model, values)
    model.reselect(model.predictiveness(), 1)
    assert 5 in model.columns
    column = model.columns.tolist().index(5)
    assert model.correlations()[0, column] > 0.8
    assert np.isfinite(feed(model, values[:50])).all()


def test_copies_of_one_signal_and_constants_are_no_trouble() -> None:
    """A singular covariance is regularised."""
    signal = np.random.default_rng(0).standard_normal((300, 1))
    values = np.concatenate([signal, signal, signal, np.zeros((300, 1))], axis=1)
    assert np.isfinite(feed(RelationshipModel(4, 4), values)[50:]).all()
