"""Behaviour of tier 2."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from anomaly_assets.detection.cross_stream.detector import VOICES, CrossStreamDetector
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
    """After a day less than 1 % of clean windows are above 0.8; in the first day still few are.

    Above 0.7 are those with unusual levels, which alone raise no alarm.

    With the real tier 1 and gap detector: their p-values are no uniform draws. Gaps are ranked
    among hours, so that nearly all windows of a clean day have a p-value near 1.
    """
    values = simulate(N, 10, seed)
    block, streams = block_of(values), catalogue(N)
    individual = IndividualDetector(streams).process(block)
    gap = GapDetector(streams).process(block)
    score = CrossStreamDetector(streams).process(block, individual, gap).score
    assert (score[288:] > 0.7).mean() < 0.12
    assert (score[288:] > 0.8).mean() < 0.005
    assert (score[:288] > 0.7).mean() < 0.1


def test_the_gap_voice_alone_can_call_a_window_odd() -> None:
    """A gap score of 0.8, a p-value of 0.003 among hours, makes tier 2 anomalous; an ordinary one
    makes it no more so than an unknown one.
    """
    values = simulate(N, 3, 0)
    scores = {}
    for name, gap in (("odd", 0.8), ("ordinary", 0.1), ("unknown", np.nan)):
        given = np.full(len(values), np.nan)
        given[-1] = gap
        detector = CrossStreamDetector(catalogue(N))
        scores[name] = detector.process(block_of(values), tier_1(values), gaps(given)).score[-1]
    assert scores["odd"] > 0.7
    assert scores["ordinary"] <= scores["unknown"] < scores["odd"]


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
    anomalous, and relationships further off than in 99 of 100 windows of five clean days.
    """

    def change(values: np.ndarray, spread: np.ndarray) -> None:
        rng = np.random.default_rng(0)
        values[:8, 9:36:6] += 1.5 * spread[9:36:6]
        values[:8, 0:36:6] += 1.5 * spread[0:36:6]
        values[:8, [3, 9, 15]] = 60 + 2 * rng.standard_normal((8, 3))

    result = after(trained, change, 8)
    usual = trained.scores.voices["relationships"][288:]
    assert result.voices["relationships"].max() > np.quantile(usual, 0.99)
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


def test_a_lasting_shift_of_everything_stays_found_while_it_lasts(trained: Trained) -> None:
    """A large shift of everything is found at once, and is still flagged six hours later."""

    def change(values: np.ndarray, spread: np.ndarray) -> None:
        values += 5 * spread

    score = after(trained, change, 72).score
    assert score[:3].max() > 0.85
    assert (score[12:] > 0.7).mean() > 0.95


def test_a_lasting_shift_of_one_stream_is_normal_again(trained: Trained) -> None:
    """One stream of 36 at a new level is no unusual state: the level voice says no more of it, from
    the second hour on, than in the worst windows of clean days.
    """

    def change(values: np.ndarray, spread: np.ndarray) -> None:
        values[:, 5] += 5 * spread[5]

    levels = after(trained, change, 72).voices["levels"]
    assert levels[12:].max() <= np.nanmax(trained.scores.voices["levels"][288:])


def test_voices_are_those_that_are_named(trained: Trained) -> None:
    """Each has a score a window; each speaks within the first hours."""
    voices = trained.scores.voices
    assert tuple(voices) == VOICES
    assert "deviations" not in voices
    for name, voice in voices.items():
        assert voice.shape == (TRAINED,), name
        assert np.isfinite(voice[60:]).all(), name


def test_evidence_is_known_where_a_stream_is(trained: Trained) -> None:
    """It is NaN where the stream is missing and at least 0 elsewhere."""
    evidence = trained.scores.evidence
    assert evidence is not None
    np.testing.assert_array_equal(np.isnan(evidence), np.isnan(trained.values[:TRAINED]))
    assert (evidence[~np.isnan(evidence)] >= 0.0).all()


def test_infinite_deviations_of_tier_1_are_unknown() -> None:
    """They are treated as missing by the relationships, without a warning."""
    values = simulate(6, 1, 0)
    individual, known = tier_1(values), tier_1(values)
    individual.deviation[100:110, :3] = np.inf
    known.deviation[100:110, :3] = np.nan
    voices = []
    for given_scores in (individual, known):
        detector = CrossStreamDetector(catalogue(6))
        result = detector.process(block_of(values), given_scores, clean_gaps(len(values), 0))
        assert np.isfinite(result.score[2:]).all()
        voices.append(result.voices["relationships"])
    np.testing.assert_array_equal(voices[0], voices[1])


def test_state_is_small() -> None:
    """The pickled state of 36 streams is below 200 kB."""
    detector = CrossStreamDetector(catalogue(N))
    values = simulate(N, 3, 0)
    detector.process(block_of(values), tier_1(values), clean_gaps(len(values), 0))
    assert len(pickle.dumps(detector)) < 200_000


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
