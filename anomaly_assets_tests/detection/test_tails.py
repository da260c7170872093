"""The tails that residuals are held against."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly_assets.detection.scoring import SMALLEST_P, student_t_p
from anomaly_assets.detection.tails import (
    EXCEEDING_BOUNDS,
    INDEX_BOUNDS,
    LARGEST_RECORD_STEP,
    PRIOR_TAIL,
    RECORD_MEMORY,
    RECORD_STEEPNESS,
    THRESHOLD,
    TailShape,
)
from anomaly_assets.streams.windows import FloatArray

N, STREAMS = 5000, 30
#: Windows after which a tail is taken as known.
KNOWN_AFTER = 2000


def residuals_of(kind: str, n: int = N, streams: int = STREAMS) -> FloatArray:
    """Draw studentised residuals of one kind."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((n, streams))
    if kind == "gaussian":
        return noise
    if kind == "t4":
        return rng.standard_t(4, (n, streams))
    if kind == "bursty":
        return np.where(rng.random((n, streams)) < 0.03, 5.0, 1.0) * noise
    loud = np.zeros(streams, dtype=bool)
    for t in range(n):
        loud = np.where(loud, rng.random(streams) < 0.9, rng.random(streams) < 0.01)
        noise[t] *= np.where(loud, 4.0, 0.8)
    return noise


def learn(tails: TailShape, t: FloatArray, first: int = 2) -> FloatArray:
    """Feed residuals that are all known."""
    before = np.arange(first, first + len(t), dtype=np.int64)[:, np.newaxis]
    return tails.p(t, before, np.ones(t.shape, dtype=bool), learn=True)


#: One residual that is there.
KNOWN = np.ones((1, 1), dtype=bool)


def p_of(tails: TailShape, t: FloatArray) -> FloatArray:
    """Ask for residuals of a stream long known, without teaching any."""
    before = np.full(t.shape, 10_000, dtype=np.int64)
    return tails.p(t, before, np.ones(t.shape, dtype=bool), learn=False)


@pytest.mark.parametrize("kind", ["gaussian", "t4", "bursty", "loud spells"])
def test_p_values_are_calibrated_whatever_the_tail(kind: str) -> None:
    """Once a tail is known, scores of 0.7 come as often as stated, and smaller p-values at most
    twice as often.
    """
    p = learn(TailShape(STREAMS), residuals_of(kind))[KNOWN_AFTER:]
    assert 0.7 < (p <= 0.0136).mean() / 0.0136 < 1.5
    assert (p <= 0.003).mean() / 0.003 < 2.0
    assert (p <= 0.001).mean() / 0.001 < 1.5
    assert (p <= 0.0001).mean() / 0.0001 < 1.5


@pytest.mark.parametrize("kind", ["gaussian", "t4", "bursty", "loud spells"])
def test_the_prior_is_no_worse_than_half_as_much_again(kind: str) -> None:
    """Before the tail is known, scores of 0.7 come at most one and a half times as often."""
    p = learn(TailShape(STREAMS), residuals_of(kind)[:KNOWN_AFTER])
    assert (p <= 0.0136).mean() / 0.0136 < 1.5


def test_a_spike_counts_where_the_tail_is_light() -> None:
    """Eight scales are rare on Gaussian residuals, and are not where bursts reach them once in 300
    windows.
    """
    spike = np.full((1, STREAMS), 8.0)
    p = {}
    for kind in ("gaussian", "bursty"):
        tails = TailShape(STREAMS)
        learn(tails, residuals_of(kind)[:KNOWN_AFTER])
        p[kind] = p_of(tails, spike)
    assert (p["gaussian"] < 3e-4).all()
    assert p["bursty"].mean() > 1e-3
    assert p["bursty"].mean() > 10.0 * p["gaussian"].mean()
    assert p["bursty"].min() > p["gaussian"].max()


def test_the_tail_is_students_until_residuals_say_otherwise() -> None:
    """The first readings have Student's tail with 1, 2, 3, then 4 degrees of freedom, and a fresh
    stream long known meets that of 4 at the threshold.
    """
    t = np.full((4, 1), 3.0)
    before = np.arange(1, 5, dtype=np.int64)[:, np.newaxis]
    p = TailShape(1).p(t, before, np.ones((4, 1), dtype=bool), learn=True)
    np.testing.assert_array_equal(p[:, 0], student_t_p(t[:, 0], np.array([1, 1, 2, 3])))
    edge = np.array([[THRESHOLD]])
    np.testing.assert_allclose(p_of(TailShape(1), edge), student_t_p(edge, np.array(4)), rtol=1e-12)


@given(share=st.floats(*EXCEEDING_BOUNDS), index=st.floats(*INDEX_BOUNDS), n=st.floats(1.0, 8064.0))
def test_p_falls_with_the_size_of_the_residual(share: float, index: float, n: float) -> None:
    """Whatever was learnt, p falls from 1 without a jump as the residual grows, whichever sign,
    from where it is no longer far below the record to where readings are too few to tell.
    """
    tails = TailShape(1)
    tails.sums = np.array([[n], [n * share], [n * share * index]])
    size = np.concatenate([np.linspace(0.0, 6.0, 601), np.geomspace(6.1, 1e100, 100)])[
        :, np.newaxis
    ]
    p = p_of(tails, size)[:, 0]
    assert p[0] == 1.0
    assert (np.diff(p) <= 0.0).all()
    falling = (p[1:] > p[-1]) & (p[:-1] < 1.0)
    assert (np.diff(p)[falling] < 0.0).all()
    assert p[-1] >= SMALLEST_P
    assert -np.diff(np.log(p[:601])).min() < 1.0
    np.testing.assert_array_equal(p, p_of(tails, -size)[:, 0])


@pytest.mark.parametrize("n", [1, 5, 30, 300])
def test_nothing_is_rarer_than_so_many_readings_can_tell(n: int) -> None:
    """After n readings the smallest p-value is the third power of 1 / (n + 1)."""
    p = TailShape(1).p(np.full((1, 1), 1e50), np.full((1, 1), n), KNOWN, learn=True)
    np.testing.assert_allclose(p, (n + 1.0) ** -3.0, rtol=1e-12)


def test_neighbouring_sizes_have_neighbouring_p_values() -> None:
    """There is no step where the body meets the tail, in whatever shape."""
    tails = TailShape(STREAMS)
    learn(tails, residuals_of("bursty"))
    edges = np.array([[THRESHOLD - 1e-9], [THRESHOLD + 1e-9]]) * np.ones((1, STREAMS))
    below, above = p_of(tails, edges)
    np.testing.assert_allclose(below, above, rtol=1e-6)


def test_what_is_unknown_is_neither_scored_nor_learnt() -> None:
    """Unknown residuals, NaN, infinite or anything, have p = 1 and leave the state as it was."""
    t = residuals_of("t4", 300, 6)
    known = np.random.default_rng(1).random(t.shape) < 0.5
    before = np.full(t.shape, 50, dtype=np.int64)
    holes, spikes = TailShape(6), TailShape(6)
    p = holes.p(np.where(known, t, np.nan), before, known, learn=True)
    other = spikes.p(np.where(known, t, np.inf), before, known, learn=True)
    assert (p[~known] == 1.0).all()
    assert np.isfinite(p).all()
    assert p.tobytes() == other.tobytes()
    assert holes.sums.tobytes() == spikes.sums.tobytes()
    for stream in range(6):
        alone = TailShape(1)
        column = t[known[:, stream], stream][:, np.newaxis]
        alone.p(column, before[: len(column), :1], np.ones(column.shape, dtype=bool), learn=True)
        np.testing.assert_array_equal(alone.sums[:, 0], holes.sums[:, stream])


def test_asking_without_learning_changes_nothing() -> None:
    """The next residual's p-value is the same whether it was asked for before or not."""
    tails = TailShape(STREAMS)
    learn(tails, residuals_of("gaussian")[:500])
    state, record = tails.sums.copy(), tails.record.copy()
    asked = p_of(tails, residuals_of("gaussian")[500:501])
    np.testing.assert_array_equal(tails.sums, state)
    np.testing.assert_array_equal(tails.record, record)
    np.testing.assert_array_equal(learn(tails, residuals_of("gaussian")[500:501], 10_000), asked)


@pytest.mark.parametrize("size", [1, 7, 288])
def test_chunks_and_pickling_change_no_bit(size: int) -> None:
    """A block at once, or in parts with pickles in between, gives the same to the last bit."""
    t = residuals_of("t4", 600, 5)
    whole, tails = TailShape(5), TailShape(5)
    expected = learn(whole, t)
    parts = []
    for start in range(0, len(t), size):
        parts.append(learn(tails, t[start : start + size], 2 + start))
        tails = pickle.loads(pickle.dumps(tails))
    assert np.concatenate(parts).tobytes() == expected.tobytes()
    assert tails.sums.tobytes() == whole.sums.tobytes()
    assert tails.record.tobytes() == whole.record.tobytes()


def test_one_spike_says_little_about_a_tail() -> None:
    """Once its record has faded, the next one is judged nearly as before a spike of any size."""
    tails = TailShape(1)
    learn(tails, residuals_of("gaussian", KNOWN_AFTER, 1))
    before = p_of(tails, np.array([[8.0]]))
    learn(tails, np.array([[1e80]]), KNOWN_AFTER)
    tails.record[:] = THRESHOLD
    after = p_of(tails, np.array([[8.0]]))
    assert before / 5.0 < after < 5.0 * before


def test_a_spike_as_large_as_one_of_the_last_hours_is_not_rare() -> None:
    """What was beaten a few hours ago is one in a day or so of residuals when it comes again, and a
    spike twice as large is rarer by far.
    """
    tails = TailShape(1)
    quiet = residuals_of("gaussian", KNOWN_AFTER + 40, 1)
    learn(tails, quiet[:KNOWN_AFTER])
    spike = np.array([[6.0]])
    first = learn(tails, spike, KNOWN_AFTER)
    learn(tails, quiet[KNOWN_AFTER:], KNOWN_AFTER + 1)
    again, larger = p_of(tails, spike), p_of(tails, 2.0 * spike)
    assert again > 3.0 * first
    assert 0.5 / RECORD_MEMORY < again < 2.0 / RECORD_MEMORY
    assert larger < 2.0 * again / 2.0**RECORD_STEEPNESS


def test_a_record_fades() -> None:
    """The longer ago the last large residual was, the rarer the next one is, until nothing is left
    of it.
    """
    tails = TailShape(1)
    learn(tails, residuals_of("gaussian", KNOWN_AFTER, 1))
    spike = np.array([[7.0]])
    learn(tails, spike, KNOWN_AFTER)
    calm = np.full((int(RECORD_MEMORY), 1), 0.5)
    p = []
    for _ in range(4):
        p.append(p_of(tails, spike)[0, 0])
        learn(tails, calm, KNOWN_AFTER + 1)
    assert p[0] > 5.0 * p[1] > 5.0 * p[3]
    assert tails.record[0] == THRESHOLD


def test_one_glitch_does_not_deafen_for_days() -> None:
    """After a residual of 1e6 the record is larger by one step only, and fades from there."""
    tails, calm = TailShape(1), np.full((2 * int(RECORD_MEMORY), 1), 0.5)
    learn(tails, residuals_of("gaussian", KNOWN_AFTER, 1))
    record, before = tails.record.copy(), p_of(tails, np.array([[10.0]]))
    learn(tails, np.array([[1e6]]), KNOWN_AFTER)
    assert tails.record <= LARGEST_RECORD_STEP * record
    assert p_of(tails, np.array([[100.0]])) < 1e-4
    learn(tails, calm, KNOWN_AFTER + 1)
    assert p_of(tails, np.array([[10.0]])) < 2.0 * before


def test_a_record_is_of_one_stream() -> None:
    """A stream's spike leaves the others' p-values as they were; so does an unknown one its own."""
    tails = TailShape(3)
    learn(tails, residuals_of("gaussian", KNOWN_AFTER, 3))
    spike = np.full((1, 3), 8.0)
    before, record = p_of(tails, spike), tails.record.copy()
    odd = np.array([[20.0, 0.1, 20.0]])
    known = np.array([[True, True, False]])
    tails.p(odd, np.full((1, 3), KNOWN_AFTER), known, learn=True)
    after = p_of(tails, spike)
    assert after[0, 0] > 2.0 * before[0, 0]
    np.testing.assert_allclose(after[0, 1:], before[0, 1:], rtol=0.05)
    assert tails.record[0] > record[0]
    assert tails.record[2] == record[2]


def test_forgetting_begins_anew_with_those_streams_only() -> None:
    """A forgotten stream has the prior's tail again, the others keep theirs."""
    tails = TailShape(3)
    learn(tails, residuals_of("gaussian", 500, 3))
    kept, record = tails.sums.copy(), tails.record[1]
    tails.forget(np.array([0, 2], dtype=np.int64))
    np.testing.assert_array_equal(tails.sums[:, [0, 2]], np.stack([PRIOR_TAIL, PRIOR_TAIL], 1))
    np.testing.assert_array_equal(tails.sums[:, 1], kept[:, 1])
    np.testing.assert_array_equal(tails.record, [THRESHOLD, record, THRESHOLD])
