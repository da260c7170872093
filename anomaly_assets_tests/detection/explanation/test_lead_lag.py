"""Lead-lag analysis: the laws it obeys, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_assets.detection.explanation.lead_lag import LEAST_PAIRS, LeadLag, LeadLagFinding
from anomaly_assets.errors import InputError
from anomaly_assets.streams.windows import FloatArray

seeds = st.integers(0, 10_000)


def driven(
    seed: int, *, lag: int = 1, coupling: float = 0.7, missing: float = 0.1, rows: int = 288
) -> FloatArray:
    """Three streams with a memory: the first drives the second, the third is alone."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((rows + 50, 3))
    noise[lag:, 1] *= np.sqrt(1.0 - coupling**2)
    noise[lag:, 1] += coupling * noise[: len(noise) - lag, 0]
    for row in range(1, len(noise)):
        noise[row] += 0.6 * noise[row - 1]
    values: FloatArray = noise[50:]
    values[rng.random(values.shape) < missing] = np.nan
    return values


def first(values: FloatArray) -> LeadLagFinding:
    return LeadLag(values).findings()[0]


@pytest.mark.parametrize("lag", [0, 1, 2])
@pytest.mark.parametrize("coupling", [0.7, -0.7])
def test_the_leader_the_lag_and_the_sign_are_found(lag: int, coupling: float) -> None:
    """What drives what is named, by how many minutes, and in which direction it moves it."""
    finding = first(driven(3, lag=lag, coupling=coupling))
    assert (finding.leader, finding.follower) == (0, 1)
    assert finding.lag_minutes == 5 * lag
    assert finding.kind == ("leads" if lag else "concurrent")
    assert finding.correlation * coupling > 0.0
    assert finding.q_value < 0.001
    assert LEAST_PAIRS <= finding.n_pairs <= 288


def test_a_leader_may_stand_after_its_follower() -> None:
    """The order of the streams has nothing to do with who leads."""
    finding = first(driven(3)[:, ::-1])
    assert (finding.leader, finding.follower, finding.lag_minutes) == (2, 1, 5)


def test_minutes_are_told_in_minutes() -> None:
    """One-minute rows give lags in minutes, up to ten."""
    finding = LeadLag(driven(5, lag=7), minutes_per_row=1).findings()[0]
    assert (finding.leader, finding.follower, finding.lag_minutes) == (0, 1, 7)


def test_a_lag_beyond_the_limit_is_not_looked_for() -> None:
    """With 10 minutes at most, a lag of 20 is not found; with 20 it is."""
    values = driven(5, lag=4, missing=0.0)
    assert LeadLag(values).findings() == ()
    assert LeadLag(values, max_lag_minutes=20).findings()[0].lag_minutes == 20


def test_a_finding_can_be_told_of_either_stream() -> None:
    """The follower follows by a negative number of minutes; a stranger is refused."""
    finding = first(driven(3))
    assert finding.seen_from(0) == finding
    follows = finding.seen_from(1)
    assert (follows.kind, follows.lag_minutes) == ("follows", -5)
    assert follows.seen_from(0) == finding
    with pytest.raises(InputError, match="stream 2 has no part"):
        finding.seen_from(2)
    together = first(driven(3, lag=0))
    assert together.seen_from(1).kind == "concurrent"


@settings(max_examples=25, deadline=None)
@given(
    seeds,
    st.lists(st.sampled_from([1e-6, 0.1, 3.0, 1e5]), min_size=3, max_size=3),
    st.lists(st.floats(-100.0, 100.0), min_size=3, max_size=3),
)
def test_units_do_not_matter(seed: int, unit: list[float], zero: list[float]) -> None:
    """Other units and zero points give the same findings."""
    values = driven(seed)
    other = LeadLag((values + np.array(zero)) * np.array(unit)).findings()
    for one, same in zip(LeadLag(values).findings(), other, strict=True):
        assert (one.leader, one.follower, one.lag_minutes) == (
            same.leader,
            same.follower,
            same.lag_minutes,
        )
        assert one.correlation == pytest.approx(same.correlation, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(0, 2))
def test_turning_a_stream_over_turns_the_sign(seed: int, stream: int) -> None:
    """Only the signs of its own findings change."""
    values = driven(seed)
    turned = values.copy()
    turned[:, stream] *= -1.0
    for one, other in zip(LeadLag(values).findings(), LeadLag(turned).findings(), strict=True):
        sign = -1.0 if stream in {one.leader, one.follower} else 1.0
        assert other.correlation == pytest.approx(sign * one.correlation, abs=1e-9)
        assert other.lag_minutes == one.lag_minutes


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_a_delay_adds_to_the_lag(seed: int) -> None:
    """A follower recorded one window later follows by five minutes more."""
    values = driven(seed, missing=0.0, coupling=0.8)
    delayed = values[1:].copy()
    delayed[:, 1] = values[:-1, 1]
    assert first(values).lag_minutes == 5
    assert first(delayed).lag_minutes == 10


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(1, 40))
def test_rows_without_any_value_change_little(seed: int, rows: int) -> None:
    """A silence before the first value leaves leader, lag and sign."""
    values = driven(seed, coupling=0.8)
    later = np.vstack((np.full((rows, 3), np.nan), values))
    one, other = first(values), first(later)
    assert (one.leader, one.follower, one.lag_minutes) == (
        other.leader,
        other.follower,
        other.lag_minutes,
    )
    assert one.correlation == pytest.approx(other.correlation, abs=0.15)


@given(seeds, st.floats(0.0, 1.0))
@settings(max_examples=25, deadline=None)
def test_findings_are_in_bounds_and_repeatable(seed: int, missing: float) -> None:
    """Whatever is missing: the same values give the same findings, all within their ranges."""
    values = driven(seed, missing=missing)
    found = LeadLag(values).findings()
    assert found == LeadLag(values.copy()).findings()
    for one in found:
        assert -1.0 <= one.correlation <= 1.0
        assert 0.0 <= one.q_value <= 0.05
        assert one.n_pairs >= LEAST_PAIRS


def test_a_subset_is_compared_alone() -> None:
    """With fewer streams fewer pairs have to be allowed for, and others stay out."""
    values = np.hstack([driven(seed, coupling=0.5) for seed in range(5)])
    analysis = LeadLag(values)
    (alone,) = analysis.findings([1, 0])
    among_all = next(f for f in analysis.findings() if (f.leader, f.follower) == (0, 1))
    assert alone.q_value < among_all.q_value
    assert alone.correlation == pytest.approx(among_all.correlation)
    assert analysis.findings([0]) == ()


def test_streams_that_cannot_be_compared_are_left_out_with_a_reason() -> None:
    """Empty, constant, short and all too smooth streams take no part; the others do."""
    values = np.hstack((driven(3), np.full((288, 4), np.nan)))
    values[:, 4] = 21.5
    values[:59, 5] = np.arange(59.0) % 7
    values[:, 6] = 40.0 * np.cos(np.pi * (np.arange(288) + 0.5) / 288)
    analysis = LeadLag(values)
    assert list(analysis.left_out) == [3, 4, 5, 6]
    assert analysis.left_out[6].startswith("nothing but a slow wave")
    assert analysis.left_out[3] == "empty: it has no value"
    assert analysis.left_out[4].startswith("constant")
    assert "59 values, 60 are needed" in analysis.left_out[5]
    assert [(f.leader, f.follower) for f in analysis.findings()] == [(0, 1)]


def test_infinities_and_huge_values_are_borne() -> None:
    """What is not finite is missing; sizes near the limit of floats do no harm."""
    values = driven(3)
    values[10, 0] = np.inf
    values[:, 2] *= 1e300
    assert first(values).follower == 1


@pytest.mark.parametrize("shape", [(0, 3), (5, 3), (288, 0), (288, 1)])
def test_too_little_to_compare_is_no_finding(shape: tuple[int, int]) -> None:
    """No rows, few rows, no streams or a single one: nothing is found, and that is no error."""
    assert LeadLag(np.random.default_rng(0).normal(size=shape)).findings() == ()


def test_unusable_input_is_refused() -> None:
    """Messages say what to give instead."""
    values = driven(3)
    with pytest.raises(InputError, match=r"give \(n_rows, n_streams\)"):
        LeadLag(values[:, 0])
    with pytest.raises(InputError, match="minutes_per_row is 0"):
        LeadLag(values, minutes_per_row=0)
    with pytest.raises(InputError, match="max_lag_minutes is -5"):
        LeadLag(values, max_lag_minutes=-5)
    with pytest.raises(InputError, match=r"stream 3 lies outside 0\.\.2"):
        LeadLag(values).findings([0, 3])


def test_streams_that_only_share_the_day_have_nothing_to_do_with_each_other() -> None:
    """A common daily cycle correlates plainly, and is no finding."""
    rng = np.random.default_rng(2)
    day = 5.0 * np.sin(2.0 * np.pi * np.arange(288) / 288)[:, None]
    values = day + rng.standard_normal((288, 6))
    assert np.corrcoef(values[:, 0], values[:, 1]).min() > 0.8
    assert LeadLag(values).findings() == ()
