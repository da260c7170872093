"""Behaviour of tier 2."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from anomaly_assets.detection.cross_stream.detector import CrossStreamDetector
from anomaly_assets.detection.gaps.detector import GapDetector
from anomaly_assets.detection.individual.detector import IndividualDetector
from anomaly_assets.detection.results import CrossStreamScores
from anomaly_assets.errors import InputError
from anomaly_assets_tests.detection.cross_stream.lives import (
    block_of,
    catalogue,
    clean_gaps,
    gaps,
    part,
    simulate,
    tier_1,
)

N = 36
TRAINED = 288 * 6
#: What happens, from which window of the day.
NOON = 140


def test_the_gaps_speak_alone_when_everything_is_missing() -> None:
    """With no stream at all only the gap voice is known; where it is unknown too, nothing is."""
    values = np.full((50, N), np.nan)
    score = np.full(50, 0.95)
    score[:10] = np.nan
    result = CrossStreamDetector(catalogue(N)).process(
        block_of(values), tier_1(values), gaps(score)
    )
    assert np.isnan(result.score[:10]).all()
    assert (result.score[10:] > 0.8).all()
    assert all(np.isnan(v).all() for name, v in result.voices.items() if name != "gaps")


def test_a_group_never_seen_is_unknown() -> None:
    """Its detector says nothing while no stream of it is there."""
    values = simulate(12, 1, 0)
    values[:, 1::6] = np.nan
    detector = CrossStreamDetector(catalogue(12))
    group_score = detector.process(
        block_of(values), tier_1(values), clean_gaps(len(values), 1)
    ).group_score
    assert np.isnan(group_score[:, 1]).all()
    assert np.isfinite(group_score[-1, 2])


def test_the_seed_decides_the_forests() -> None:
    """Another seed gives other forests, the same seed the same."""
    values = simulate(6, 1, 0)

    def forest(seed: int) -> np.ndarray:
        detector = CrossStreamDetector(catalogue(6), seed=seed)
        result = detector.process(block_of(values), tier_1(values), clean_gaps(len(values), 0))
        return result.voices["half_space_trees"]

    assert np.array_equal(forest(1), forest(1), equal_nan=True)
    assert not np.array_equal(forest(1), forest(2), equal_nan=True)


@pytest.mark.parametrize("seed", [0, 1])
def test_clean_days_rarely_score_high(seed: int) -> None:
    """After a day about 1 % of clean windows are above 0.7; in the first day still few are.

    With the real tier 1 and gap detector: their p-values are no uniform draws. Gaps are ranked
    among hours, so that nearly all windows of a clean day have a p-value near 1.
    """
    values = simulate(N, 10, seed)
    block, streams = block_of(values), catalogue(N)
    individual = IndividualDetector(streams).process(block)
    gap = GapDetector(streams).process(block)
    score = CrossStreamDetector(streams).process(block, individual, gap).score
    assert (score[288:] > 0.7).mean() < 0.012
    assert (score[288:] > 0.85).mean() < 0.004
    assert (score[:288] > 0.7).mean() < 0.1


def test_the_gap_voice_alone_can_call_a_window_odd() -> None:
    """A gap score of 0.8, a p-value of 0.003 among hours, makes tier 2 anomalous; an ordinary one
    does not.
    """
    values = simulate(N, 3, 0)
    scores = {}
    for name, gap in (("odd", 0.8), ("ordinary", 0.1)):
        given = np.full(len(values), np.nan)
        given[-1] = gap
        detector = CrossStreamDetector(catalogue(N))
        scores[name] = detector.process(block_of(values), tier_1(values), gaps(given)).score[-1]
    assert scores["odd"] > 0.7
    assert scores["ordinary"] < 0.5


@dataclass(frozen=True)
class Trained:
    """The state after six days, what was said of them, and eight days of values."""

    state: bytes
    values: np.ndarray
    scores: CrossStreamScores


@pytest.fixture(scope="module")
def trained() -> Trained:
    """Return a detector that has learnt six days."""
    values = simulate(N, 8, 3)
    detector = CrossStreamDetector(catalogue(N))
    scores = detector.process(
        block_of(values[:TRAINED]),
        part(tier_1(values), 0, TRAINED),
        gaps(np.full(TRAINED, 0.2)),
    )
    return Trained(pickle.dumps(detector), values, scores)


Change = Callable[[np.ndarray, np.ndarray], None]


def after(trained: Trained, change: Change, n_windows: int) -> CrossStreamScores:
    """Change the values from noon of the seventh day on, and process from there."""
    values = trained.values.copy()
    start = TRAINED
    at = start + NOON
    change(values[at:], np.nanstd(values[:TRAINED], axis=0))
    individual = tier_1(values)
    detector = pickle.loads(trained.state)
    stop = at + n_windows
    result = detector.process(
        block_of(values[start:stop], start),
        part(individual, start, stop),
        gaps(np.full(stop - start, 0.2)),
    )
    return CrossStreamScores(
        result.score[NOON:],
        result.group_score[NOON:],
        {name: voice[NOON:] for name, voice in result.voices.items()},
    )


def test_a_broken_relationship_is_found_with_every_value_in_range(
    trained: Trained,
) -> None:
    """Three streams at rest while the nine others that follow the same activity are not: tier 2 is
    anomalous, and relationships further off than in any window of five clean days.
    """

    def change(values: np.ndarray, spread: np.ndarray) -> None:
        rng = np.random.default_rng(0)
        values[:8, 9:36:6] += 1.5 * spread[9:36:6]
        values[:8, 0:36:6] += 1.5 * spread[0:36:6]
        values[:8, [3, 9, 15]] = 60 + 2 * rng.standard_normal((8, 3))

    result = after(trained, change, 8)
    assert result.voices["relationships"].max() > trained.scores.voices["relationships"][288:].max()
    assert result.score.max() > 0.7


def test_many_small_deviations_at_once_are_found(trained: Trained) -> None:
    """Eighteen streams, each off by what is nothing special for one stream."""

    def change(values: np.ndarray, spread: np.ndarray) -> None:
        sign = np.where(np.arange(N) % 4 < 2, 1.5, -1.5)
        values[:3, ::2] += (sign * spread)[::2]

    assert after(trained, change, 3).score.max() > 0.7


def test_a_group_outage_is_found_without_the_gap_voice(trained: Trained) -> None:
    """The forest sees the availability bits: six streams that go missing together are odd."""

    def change(values: np.ndarray, spread: np.ndarray) -> None:  # noqa: ARG001 - one signature
        values[:24, 1::6] = np.nan

    assert after(trained, change, 24).voices["half_space_trees"].max() > 0.7


def test_a_lasting_shift_is_normal_again_within_an_hour(trained: Trained) -> None:
    """A large shift of everything is found at once, and hardly ever flagged after 12 windows."""

    def change(values: np.ndarray, spread: np.ndarray) -> None:
        values += 5 * spread

    score = after(trained, change, 72).score
    assert score[:3].max() > 0.85
    assert (score[12:] > 0.7).mean() < 0.06


def test_state_is_small() -> None:
    """The pickled state of 36 streams is below 150 kB."""
    detector = CrossStreamDetector(catalogue(N))
    values = simulate(N, 3, 0)
    detector.process(block_of(values), tier_1(values), clean_gaps(len(values), 0))
    assert len(pickle.dumps(detector)) < 150_000


def test_arrays_that_do_not_belong_together_are_refused() -> None:
    """Wrong shapes are errors that name the entity."""
    values = simulate(6, 1, 0)
    detector = CrossStreamDetector(catalogue(7))
    with pytest.raises(InputError, match="someone"):
        detector.process(block_of(values), tier_1(values), clean_gaps(len(values), 0))
    with pytest.raises(InputError, match="gap scores"):
        CrossStreamDetector(catalogue(6)).process(
            block_of(values), tier_1(values), clean_gaps(len(values) - 1, 0)
        )
    with pytest.raises(InputError, match="max_features"):
        CrossStreamDetector(catalogue(6), max_features=0)
