"""Many streams with known causes, labelled faults and missing data."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from anomaly_assets.errors import InputError
from anomaly_assets.evaluation.simulator import (
    FaultKind,
    MissingStreams,
    SilencePattern,
    wide_testbed,
)
from anomaly_assets.evaluation.simulator.causality import Kind
from anomaly_assets.evaluation.simulator.wide import WIDE_KINDS, wide_equations
from anomaly_assets.streams.windows import WINDOW_SECONDS, WINDOWS_PER_DAY


@pytest.mark.parametrize("n_streams", [1, 30, 100, 500])
def test_shape_labels_and_truth_fit(n_streams: int) -> None:
    """A column and an equation for each stream, and labels of faults after a week."""
    bed = wide_testbed(n_streams, days=9, seed=1)
    assert bed.block.values.shape == (9 * WINDOWS_PER_DAY, n_streams)
    assert [equation.stream for equation in bed.truth] == list(bed.catalogue.stream_ids)
    assert bed.labels
    week = bed.block.windows.start + 7 * WINDOWS_PER_DAY * WINDOW_SECONDS
    assert min(label.start.timestamp() for label in bed.labels) >= week
    assert not np.isinf(bed.block.values).any()


def test_every_kind_comes_and_none_within_twelve_hours() -> None:
    """Six kinds in turn, each visible in streams that it changed."""
    bed = wide_testbed(60, days=21, seed=2)
    assert {label.kind for label in bed.labels} == set(WIDE_KINDS)
    assert all(label.visible and label.streams for label in bed.labels)
    for before, after in pairwise(bed.labels):
        assert (after.start - before.start).total_seconds() >= 12 * 3600


def test_faults_change_only_their_time_and_what_they_cause() -> None:
    """Windows before the first fault, and streams without a label, are as without faults."""
    with_one = wide_testbed(30, days=9, seed=3, kinds=(FaultKind.SPIKE,))
    without = wide_testbed(30, days=9, seed=3, kinds=())
    assert not without.labels
    differs = ~(
        (with_one.block.values == without.block.values)
        | (np.isnan(with_one.block.values) & np.isnan(without.block.values))
    )
    expected = np.zeros_like(differs)
    for label in with_one.labels:
        row = int(label.start.timestamp() - without.block.windows.start) // WINDOW_SECONDS
        expected[row, [with_one.catalogue.stream_ids.index(s) for s in label.streams]] = True
    assert np.array_equal(differs, expected)


def test_streams_follow_their_equations() -> None:
    """A stream correlates with what its equation names as its cause, at the lag named."""
    bed = wide_testbed(30, days=14, seed=4, kinds=())
    ids = bed.catalogue.stream_ids
    for equation in bed.truth:
        term = equation.terms[0]
        if term.cause in ids and equation.kind is Kind.LEVEL:
            effect = bed.block.values[term.lag :, ids.index(equation.stream)]
            cause = bed.block.values[: len(effect), ids.index(term.cause)]
            both = np.isfinite(effect) & np.isfinite(cause)
            assert np.corrcoef(cause[both], effect[both])[0, 1] > 0.5, equation.stream


def test_causes_come_before_effects() -> None:
    """The equations can be evaluated from top to bottom, and follow from the seed."""
    equations = wide_equations(50, 1)
    streams = [equation.stream for equation in equations]
    for number, equation in enumerate(equations):
        assert not set(equation.causes) & set(streams[number:])
    assert wide_equations(50, 1) == equations
    assert wide_equations(50, 2) != equations


@pytest.mark.parametrize("pattern", list(SilencePattern))
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_missing_streams_are_missing_and_faults_elsewhere(
    share: float, pattern: SilencePattern
) -> None:
    """The share is as asked; most labels are of streams that are observed."""
    bed = wide_testbed(100, days=14, seed=5, silence=MissingStreams(share, pattern))
    sporadic = 0.1 * 0.5 * (1.0 - share)
    assert np.isnan(bed.block.values).mean() == pytest.approx(share + sporadic, abs=0.06)
    visible = [label for label in bed.labels if label.visible]
    assert len(visible) >= 0.7 * len(bed.labels)
    assert all(label.streams for label in visible)


def test_the_same_seed_gives_the_same_test_bed() -> None:
    """Everything random comes from the seed."""
    first, second, other = (wide_testbed(40, days=9, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.block.values, second.block.values, equal_nan=True)
    assert first.labels == second.labels
    assert not np.array_equal(first.block.values, other.block.values, equal_nan=True)


def test_unusable_arguments_are_refused() -> None:
    """The message says what to give."""
    with pytest.raises(InputError, match="at least one stream"):
        wide_testbed(0)
    with pytest.raises(InputError, match="at most 500"):
        wide_testbed(501)
    with pytest.raises(InputError, match="sigmas"):
        wide_testbed(30, sigmas=float("nan"))
    with pytest.raises(InputError, match="need a person"):
        wide_testbed(30, kinds=(FaultKind.USE_AT_3AM,))
