"""The voice for unusual states."""

from __future__ import annotations

import pickle
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from anomaly_assets.detection.cross_stream.detector import LARGEST_VALUE
from anomaly_assets.detection.cross_stream.levels import LevelModel
from anomaly_assets.streams.windows import FloatArray
from anomaly_assets_tests.detection.cross_stream.lives import block_of

DAY = 288
HOUR = 12


class Judged(NamedTuple):
    """What the voice says."""

    odds: FloatArray
    evidence: FloatArray


def judge(values: FloatArray, model: LevelModel | None = None, first: int = 0) -> Judged:
    """Judge consecutive windows."""
    used = LevelModel(values.shape[1]) if model is None else model
    return Judged(*used.process(block_of(values, first), values))


def noise(days: int, n_streams: int, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).standard_normal((days * DAY, n_streams))


def test_a_lasting_shift_of_all_streams_stays_unusual_for_hours() -> None:
    """Four standard deviations of 36 streams are, from the second hour to the tenth, far beyond
    anything of the days before; the same shift of one stream among them is not.
    """
    values, start = noise(6, 36), 5 * DAY
    usual = judge(values).odds[DAY:]
    joint, single = values.copy(), values.copy()
    joint[start:] += 4.0
    single[start:, 5] += 4.0
    hours = slice(start + 2 * HOUR, start + 10 * HOUR)
    assert judge(joint).odds[hours].min() > 10.0 * usual.max()
    assert judge(single).odds[hours].max() < 2.0 * usual.max()


@pytest.mark.parametrize("n_streams", [2, 3, 5])
def test_few_streams_can_be_unusual_together(n_streams: int) -> None:
    """A shift of ten standard deviations of all of them is, for hours, beyond all before."""
    values, start = noise(6, n_streams), 5 * DAY
    values[start:] += 10.0
    odds = judge(values).odds
    assert odds[start + 2 * HOUR : start + 6 * HOUR].min() > odds[DAY:start].max()


def test_a_level_belongs_to_its_time_of_day() -> None:
    """What is usual by day is unusual at night, once days are known."""
    hour = np.arange(10 * DAY) % DAY
    by_day = (hour >= 100) & (hour < 200)
    values = noise(10, 12) * 0.5 + 10.0 * by_day[:, np.newaxis]
    usual = judge(values).odds
    values[9 * DAY + 20 : 9 * DAY + 44] += 10.0
    night = slice(9 * DAY + 24, 9 * DAY + 44)
    assert judge(values).odds[night].min() > 10.0 * usual[night].max()


@pytest.mark.parametrize("n_streams", [1, 2, 4, 36])
def test_streams_that_begin_to_vary_are_learnt(n_streams: int) -> None:
    """Streams constant for days are, four days after they began to vary, judged much like streams
    that always did, and not as the largest deviation for ever.
    """
    values = noise(9, n_streams)
    varied = judge(values).odds
    values[: 4 * DAY] = 5.0
    odds = judge(values).odds
    assert (odds[DAY : 4 * DAY] <= np.nanmin(varied)).all()
    last = slice(8 * DAY, 9 * DAY)
    assert np.median(odds[last]) < 5.0 * np.median(varied[last])


def test_one_stream_that_begins_to_vary_among_many_is_learnt() -> None:
    """It is noticed, and three days later the odds are those of a life in which it varied."""
    values, start = noise(8, 12), 4 * DAY
    varied = judge(values).odds
    values[:start, 3] = 5.0
    odds = judge(values).odds
    assert odds[start : start + HOUR].max() > 2.0 * odds[start - HOUR : start].max()
    np.testing.assert_allclose(np.median(odds[7 * DAY :]), np.median(varied[7 * DAY :]), rtol=1.0)


def test_nothing_is_said_before_anything_is_known() -> None:
    """Two values make a level; windows without any stream say nothing, and odds go on after."""
    values = noise(1, 3)[:60]
    values[:5] = np.nan
    values[40:50] = np.nan
    odds = judge(values).odds
    unknown = np.zeros(60, dtype=bool)
    unknown[:7] = unknown[40:50] = True
    np.testing.assert_array_equal(np.isnan(odds), unknown)
    assert (odds[~unknown] >= 0.0).all()
    assert np.isnan(judge(np.full((20, 3), np.nan)).odds).all()


def test_a_stream_never_there_changes_no_bit() -> None:
    """The others are judged as if it were not in the catalogue."""
    values = noise(2, 3)
    with_it = np.column_stack([values[:, :1], np.full(len(values), np.nan), values[:, 1:]])
    alone, beside = judge(values), judge(with_it)
    assert alone.odds.tobytes() == beside.odds.tobytes()
    assert alone.evidence.tobytes() == np.delete(beside.evidence, 1, axis=1).tobytes()
    assert np.isnan(beside.evidence[:, 1]).all()


def test_evidence_names_the_stream_that_moves_while_it_does() -> None:
    """The stream that jumps has the most of it, and no more than others half a day later."""
    values, start = noise(4, 8), 3 * DAY
    values[start:, 6] += 12.0
    values[::7, 2] = np.nan
    evidence = judge(values).evidence
    np.testing.assert_array_equal(np.isnan(evidence), np.isnan(values))
    assert (evidence[~np.isnan(evidence)] >= 0.0).all()
    assert np.nanargmax(np.nanmean(evidence[start : start + 4], axis=0)) == 6
    assert np.nanmean(evidence[start + DAY // 2 :, 6]) < 2.0


def test_evidence_is_finite_whatever_the_sizes() -> None:
    """The largest values that are let in, after tiny ones, are finite evidence."""
    values = 1e-100 * noise(1, 2)
    values[100::2] = LARGEST_VALUE
    values[101::2] = -LARGEST_VALUE
    odds, evidence = judge(values)
    assert np.isfinite(evidence).all()
    assert np.isfinite(odds[2:]).all()


@pytest.mark.parametrize("size", [1, 7, DAY])
def test_cuts_and_pickles_change_no_bit(size: int) -> None:
    """A range at once, or in parts with pickles in between, gives the same to the last bit."""
    values = noise(3, 5)
    values[np.random.default_rng(1).random(values.shape) < 0.1] = np.nan
    values[: DAY + 50, 2] = 7.0
    values[2 * DAY :] += 3.0
    expected, model, parts = judge(values), LevelModel(5), []
    for start in range(0, len(values), size):
        parts.append(judge(values[start : start + size], model, start))
        model = pickle.loads(pickle.dumps(model))
    assert np.concatenate([part.odds for part in parts]).tobytes() == expected.odds.tobytes()
    assert (
        np.concatenate([part.evidence for part in parts]).tobytes() == expected.evidence.tobytes()
    )


@pytest.mark.parametrize("scale", [1e-50, 1e-6, 1e6, 1e50])
def test_the_unit_of_a_stream_makes_no_difference(scale: float) -> None:
    """Odds and evidence are the same in any unit, but for rounding."""
    values = noise(3, 4) + 2.0
    left, right = judge(values), judge(scale * values)
    np.testing.assert_allclose(right.odds, left.odds, rtol=1e-4)
    np.testing.assert_allclose(right.evidence, left.evidence, rtol=1e-4, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    values=arrays.arrays(
        np.float64,
        st.tuples(st.integers(0, 400), st.integers(1, 4)),
        elements=st.one_of(
            st.just(np.nan),
            st.sampled_from([0.0, -0.0, 1.0, 1e100, -1e100, 1e-100, 1e-300, 5e-324]),
            st.floats(-1e3, 1e3),
        ),
    )
)
def test_any_values_give_odds_and_evidence(values: FloatArray) -> None:
    """Odds are at least 0 and finite where known, evidence too wherever a stream is there."""
    odds, evidence = judge(values)
    assert odds.shape == (len(values),)
    assert evidence.shape == values.shape
    known = odds[~np.isnan(odds)]
    assert (np.isfinite(known) & (known >= 0.0)).all()
    assert np.isnan(odds[np.isnan(values).all(axis=1)]).all()
    np.testing.assert_array_equal(np.isnan(evidence), np.isnan(values))
    there = evidence[~np.isnan(values)]
    assert (np.isfinite(there) & (there >= 0.0)).all()
