"""The table of causes, and how it is evaluated."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly_assets.errors import InputError
from anomaly_assets.evaluation.simulator.causality import Intervention
from anomaly_assets.evaluation.simulator.clock import MinuteGrid
from anomaly_assets.evaluation.simulator.equations import EQUATIONS, HIDDEN_EQUATIONS, downstream
from anomaly_assets.evaluation.simulator.lives import Life, hidden_causes
from anomaly_assets.evaluation.simulator.sensors import STREAM_IDS
from anomaly_assets.evaluation.simulator.simulation import DEFAULT_START
from anomaly_assets.evaluation.simulator.solving import solve
from anomaly_assets.streams.windows import FloatArray


@pytest.fixture(scope="module")
def causes() -> dict[str, FloatArray]:
    """Hidden causes of two days."""
    return hidden_causes(Life.of(1, "ann", MinuteGrid.of(DEFAULT_START, 2, "Europe/Berlin")))


def test_causes_come_before_effects(causes: dict[str, FloatArray]) -> None:
    """The table can be evaluated from top to bottom and has every stream once."""
    assert sorted(e.stream for e in EQUATIONS) == sorted(STREAM_IDS)
    known = set(causes)
    for equation in (*HIDDEN_EQUATIONS, *EQUATIONS):
        assert set(equation.causes) <= known, equation.stream
        known.add(equation.stream)


def test_every_value_is_finite_and_inside_its_limits(causes: dict[str, FloatArray]) -> None:
    """Nothing explodes."""
    values = solve(1, "ann", causes)
    for equation in EQUATIONS:
        low, high = equation.limits
        assert low <= values[equation.stream].min(), equation.stream
        assert values[equation.stream].max() <= high, equation.stream


def test_an_intervention_reaches_exactly_what_is_downstream(causes: dict[str, FloatArray]) -> None:
    """The noise of all others is the same to the last bit."""
    before = solve(1, "ann", causes)
    after = solve(1, "ann", causes, (Intervention("cpu_load", 600, 660, add=20.0),))
    changed = {s for s in STREAM_IDS if not np.array_equal(before[s], after[s])}
    assert changed == set(downstream("cpu_load"))


def test_a_lagged_cause_comes_late(causes: dict[str, FloatArray]) -> None:
    """The heart answers to movement a minute later, and slowly."""
    before = solve(1, "ann", causes)
    after = solve(1, "ann", causes, (Intervention("accel_magnitude", 600, 630, add=1.0),))
    answer = after["heart_rate"] - before["heart_rate"]
    assert answer[600] == 0.0
    assert 0.0 < answer[601] < 0.5 * answer[629]
    assert answer[629] == pytest.approx(21.0, rel=0.05)


def test_cutting_an_edge_leaves_other_effects(causes: dict[str, FloatArray]) -> None:
    """Only what arrives at one effect is changed."""
    before = solve(1, "ann", causes)
    cut = Intervention("accel_magnitude->heart_rate", 600, 660, add=9.9, factor=0.0)
    after = solve(1, "ann", causes, (cut,))
    assert not np.array_equal(before["heart_rate"], after["heart_rate"])
    assert np.array_equal(before["gyro_magnitude"], after["gyro_magnitude"])


def test_an_unknown_node_is_refused(causes: dict[str, FloatArray]) -> None:
    """The message names it."""
    with pytest.raises(InputError, match="'moon'"):
        solve(1, "ann", causes, (Intervention("moon", 0, 1),))
