"""Behaviour of tier 2."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import numpy as np
import pytest

from anomaly_assets.detection.cross_stream.detector import VOICES, CrossStreamDetector
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


def run(values: np.ndarray, chunk: int, *, pickled: bool = False) -> CrossStreamScores:
    detector = CrossStreamDetector(catalogue(values.shape[1]))
    individual, gap = tier_1(values), clean_gaps(len(values), 1)
    results = []
    for start in range(0, len(values), chunk):
        stop = min(start + chunk, len(values))
        results.append(
            detector.process(
                block_of(values[start:stop], start),
                part(individual, start, stop),
                gaps(gap.score[start:stop]),
            )
        )
        if pickled:
            detector = pickle.loads(pickle.dumps(detector))
    return CrossStreamScores(
        np.concatenate([r.score for r in results]),
        np.concatenate([r.group_score for r in results]),
        {name: np.concatenate([r.voices[name] for r in results]) for name in VOICES},
    )


def assert_identical(a: CrossStreamScores, b: CrossStreamScores) -> None:
    assert np.array_equal(a.score, b.score, equal_nan=True)
    assert np.array_equal(a.group_score, b.group_score, equal_nan=True)
    for name in VOICES:
        assert np.array_equal(a.voices[name], b.voices[name], equal_nan=True)


@pytest.mark.parametrize(("n_streams", "chunk"), [(36, 1), (36, 7), (36, 288), (60, 5), (1, 11)])
def test_results_do_not_depend_on_how_the_windows_are_cut(n_streams: int, chunk: int) -> None:
    """One call, calls of 1, 7 or 288 windows, pickled in between: the same to the last bit."""
    values = simulate(n_streams, 3, 0)
    whole = run(values, len(values))
    assert_identical(run(values, chunk, pickled=True), whole)


def strange(kind: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((400, 7))
    drawn = rng.random(values.shape)
    return {
        "constant": np.full((400, 7), 5.0),
        "huge": values * 1e300,
        "tiny": values * 1e-300,
        "mixed": np.where(drawn < 0.3, values * 1e305, values),
        "one": values[:, :1],
        "half missing": np.where(drawn < 0.5, np.nan, values),
        "missing": np.full((400, 7), np.nan),
    }[kind]


@pytest.mark.parametrize(
    "kind", ["constant", "huge", "tiny", "mixed", "one", "half missing", "missing"]
)
@pytest.mark.filterwarnings("error")
def test_scores_are_scores_whatever_the_values(kind: str) -> None:
    """Every score is in [0, 1] or unknown, from the first window on and without a warning."""
    values = strange(kind)
    individual = tier_1(np.random.default_rng(1).standard_normal(values.shape))
    individual.deviation[np.isnan(values)] = np.nan
    individual.score[np.isnan(values)] = np.nan
    detector = CrossStreamDetector(catalogue(values.shape[1]))
    result = detector.process(block_of(values), individual, clean_gaps(len(values), 0))
    assert tuple(result.voices) == VOICES
    assert result.group_score.shape == (400, 6)
    assert np.isfinite(result.score).all()
    for scores in (result.score, result.group_score, *result.voices.values()):
        known = scores[np.isfinite(scores)]
        assert ((known >= 0.0) & (known <= 1.0)).all()


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
    group_score = run(values, 288).group_score
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
    """After a day about 1 % of clean windows are above 0.7; in the first day still few are."""
    values = simulate(N, 10, seed)
    score = run(values, 288).score
    assert (score[288:] > 0.7).mean() < 0.012
    assert (score[288:] > 0.85).mean() < 0.004
    assert (score[:288] > 0.7).mean() < 0.1


@pytest.fixture(scope="module")
def trained() -> tuple[bytes, np.ndarray]:
    """Return a detector that has learnt six days, and eight days of values."""
    values = simulate(N, 8, 3)
    detector = CrossStreamDetector(catalogue(N))
    detector.process(
        block_of(values[:TRAINED]),
        part(tier_1(values), 0, TRAINED),
        clean_gaps(TRAINED, 0),
    )
    return pickle.dumps(detector), values


Change = Callable[[np.ndarray, np.ndarray], None]


def after(trained: tuple[bytes, np.ndarray], change: Change, n_windows: int) -> CrossStreamScores:
    """Change the values from noon of the seventh day on, and process from there."""
    state, values = trained
    values = values.copy()
    start = TRAINED
    at = start + NOON
    change(values[at:], np.nanstd(values[:TRAINED], axis=0))
    individual = tier_1(values)
    detector = pickle.loads(state)
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
    trained: tuple[bytes, np.ndarray],
) -> None:
    """Three streams at rest while the nine others that follow the same activity are not."""

    def change(values: np.ndarray, spread: np.ndarray) -> None:
        rng = np.random.default_rng(0)
        values[:8, 9:36:6] += 1.5 * spread[9:36:6]
        values[:8, 0:36:6] += 1.5 * spread[0:36:6]
        values[:8, [3, 9, 15]] = 60 + 2 * rng.standard_normal((8, 3))

    result = after(trained, change, 8)
    assert result.voices["relationships"].max() > 0.85
    assert result.score.max() > 0.7


def test_many_small_deviations_at_once_are_found(trained: tuple[bytes, np.ndarray]) -> None:
    """Eighteen streams, each off by what is nothing special for one stream."""

    def change(values: np.ndarray, spread: np.ndarray) -> None:
        sign = np.where(np.arange(N) % 4 < 2, 1.5, -1.5)
        values[:3, ::2] += (sign * spread)[::2]

    assert after(trained, change, 3).score.max() > 0.7


def test_a_group_outage_is_found_without_the_gap_voice(trained: tuple[bytes, np.ndarray]) -> None:
    """The forest sees the availability bits: six streams that go missing together are odd."""

    def change(values: np.ndarray, spread: np.ndarray) -> None:  # noqa: ARG001 - one signature
        values[:24, 1::6] = np.nan

    assert after(trained, change, 24).voices["half_space_trees"].max() > 0.7


def test_a_lasting_shift_is_normal_again_within_an_hour(trained: tuple[bytes, np.ndarray]) -> None:
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
