"""The array half-space trees equal River's."""

from __future__ import annotations

import pickle
import random
from collections.abc import Hashable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import anomaly, checks, datasets

from anomaly_assets.detection.cross_stream.half_space_trees import (
    ArrayHalfSpaceTrees,
    ForestBundle,
    ForestPlan,
    planned_splits,
)
from anomaly_assets.errors import InputError, StateError

NAMES = ["a", "b", "c", "d"]


class _LabelledPoints:
    """Stands in for River's credit-card data, which would be downloaded."""

    def __iter__(self) -> Iterator[tuple[dict[str, float], bool]]:
        return self.take(1000)

    @staticmethod
    def take(n: int) -> Iterator[tuple[dict[str, float], bool]]:
        rng = random.Random(5)
        for _ in range(n):
            odd = rng.random() < 0.02
            middle = 0.95 if odd else 0.4
            yield {f"v{i}": rng.gauss(middle, 0.08) for i in range(10)}, odd


@pytest.fixture
def offline_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn", reason="River's checks need scikit-learn (extra `meta`)")
    monkeypatch.setattr(datasets, "CreditCard", _LabelledPoints)


rows = st.lists(
    st.dictionaries(
        st.sampled_from([*NAMES, "unknown"]),
        st.one_of(st.floats(-0.5, 1.5), st.sampled_from([0.0, 1.0, float("nan"), float("inf")])),
    ),
    min_size=1,
    max_size=60,
)


@settings(deadline=None)
@given(
    rows=rows,
    settings_=st.fixed_dictionaries(
        {
            "n_trees": st.integers(1, 8),
            "height": st.integers(1, 8),
            "window_size": st.integers(1, 25),
            "seed": st.integers(0, 2**31),
            "limits": st.sampled_from([None, {"a": (-1.0, 2.0)}]),
        }
    ),
    cut=st.integers(0, 60),
)
def test_every_score_equals_rivers(
    rows: list[dict[Hashable, float]], settings_: dict[str, Any], cut: int
) -> None:
    """Same seed, same data, same scores to the last bit, missing keys and pickles included."""
    rows = [{**dict.fromkeys(NAMES, 0.5)}, *rows]
    theirs = anomaly.HalfSpaceTrees(**settings_)
    ours = ArrayHalfSpaceTrees(**settings_)
    for i, x in enumerate(rows):
        assert ours.score_one(x) == theirs.score_one(x)
        ours.learn_one(x)
        theirs.learn_one(x)
        if i == cut:
            ours = pickle.loads(pickle.dumps(ours))


def test_rivers_own_checks_pass(offline_checks: None) -> None:  # noqa: ARG001 - replaces the data
    """The detector is a River estimator by River's own definition."""
    checks.check_estimator(ArrayHalfSpaceTrees(n_trees=5, height=4, window_size=50, seed=1))


def bundle(window_sizes: tuple[int, ...] = (20,)) -> ForestBundle:
    main = ForestPlan((0, 1, 2, 3), (1.0,) * 4, n_trees=10, height=6, seed=7)
    pair = ForestPlan((1, 3), (1.0, 1.0), n_trees=5, height=4, seed=8)
    return ForestBundle([main, pair], window_sizes)


def test_a_bundle_equals_its_forests_one_by_one() -> None:
    """One walk over several forests gives what River's forests give on their own features."""
    together = bundle()
    main = anomaly.HalfSpaceTrees(n_trees=10, height=6, window_size=20, seed=7)
    pair = anomaly.HalfSpaceTrees(n_trees=5, height=4, window_size=20, seed=8)
    rng = np.random.default_rng(1)
    both = np.array([True, True])
    main.learn_one(dict.fromkeys(NAMES, 0.5))
    pair.learn_one(dict.fromkeys(("b", "d"), 0.5))
    together.score_and_learn(np.full(4, 0.5), both)
    for number in range(200):
        x = rng.random(4)
        x[rng.random(4) < 0.3] = np.nan
        named = {name: v for name, v in zip(NAMES, x.tolist(), strict=True) if v == v}  # noqa: PLR0124
        scores = together.score_and_learn(x, both)
        if number >= 20:
            own = {name: v for name, v in named.items() if name in {"b", "d"}}
            assert scores.tolist() == [main.score_one(named), pair.score_one(own)]
        main.learn_one(named)
        pair.learn_one({name: v for name, v in named.items() if name in {"b", "d"}})


def test_progressive_windows_speak_early() -> None:
    """With growing windows the forest scores after 5 observations and keeps a long memory later."""
    forest = bundle((5, 10, 40))
    x = np.full(4, 0.5)
    scores = [forest.score_and_learn(x, np.array([True, False])) for _ in range(60)]
    assert np.isnan(scores[4][0])
    assert not np.isnan(scores[5][0])
    assert all(np.isnan(score[1]) for score in scores)


def test_a_pickle_holds_no_splits_and_changes_nothing() -> None:
    """Splits are drawn again from the seed, masses are restored, later scores are equal."""
    rng = np.random.default_rng(2)
    straight, pickled = bundle((5, 10, 40)), bundle((5, 10, 40))
    for _ in range(90):
        x = rng.random(4)
        active = rng.random(2) < 0.8
        expected = straight.score_and_learn(x, active)
        assert np.array_equal(pickled.score_and_learn(x, active), expected, equal_nan=True)
        pickled = pickle.loads(pickle.dumps(pickled))
    assert len(pickle.dumps(pickled)) < 3000


def test_masses_of_another_forest_are_refused() -> None:
    """State that does not fit is an error that says what to do."""
    state = bundle().__getstate__()
    state["plans"] = state["plans"][:1]
    with pytest.raises(StateError, match="replay"):
        ForestBundle.__new__(ForestBundle).__setstate__(state)


def test_forests_must_come_by_falling_height() -> None:
    """The walk needs the higher forests first, and says so."""
    low, high = (ForestPlan((0,), (1.0,), 2, height, 0) for height in (2, 3))
    with pytest.raises(InputError, match="falling height"):
        ForestBundle([low, high])


def test_wider_features_are_split_more_often() -> None:
    """A feature's weight decides how often it is chosen, and its splits stay within [0, 1]."""
    splits = planned_splits(ForestPlan((5, 9), (9.0, 1.0), 50, 3, 1))
    assert (splits.feature[:, 0] == 5).mean() > 0.7
    assert ((splits.threshold > 0.0) & (splits.threshold < 1.0)).all()
