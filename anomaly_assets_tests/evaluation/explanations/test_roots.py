"""Random causal systems and what is measured on them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from anomaly_assets.errors import EvaluationError
from anomaly_assets.evaluation.explanations.roots import (
    Mechanism,
    NoiseShape,
    calibration_error,
    measure_roots,
    random_system,
    root_cases,
)
from anomaly_assets.evaluation.simulator.randomness import generator


@pytest.fixture
def _pgmpy() -> None:
    pytest.importorskip("pgmpy", reason="fitting needs pgmpy (extra `causal`)")


@pytest.mark.parametrize("nonlinear", [False, True])
def test_a_system_has_streams_of_unit_variance(nonlinear: bool) -> None:  # noqa: FBT001
    """Whatever the mechanisms, a stream's middle spreads about as a unit, and so does noise."""
    rng = generator(4, "system")
    system = random_system(rng, nonlinear=nonlinear)
    noise = system.draw_noise(rng, 4000)
    values = system.run(noise)
    low, high = np.quantile(values, (0.16, 0.84), axis=0)
    assert ((high - low > 1.0) & (high - low < 2.6)).all()
    assert noise.std(axis=0) == pytest.approx(np.ones(30), abs=0.15)


def test_linear_systems_are_linear_and_the_others_are_not() -> None:
    """A linear system answers to twice a shock with twice the shift; mechanisms of all three kinds
    and noise of several shapes make up the other.
    """
    linear = random_system(generator(1, "l"), nonlinear=False)
    shift = [linear.run(size * np.eye(30)) - linear.run(np.zeros((30, 30))) for size in (1.0, 2.0)]
    np.testing.assert_allclose(2.0 * shift[0], shift[1], atol=1e-12)
    assert set(linear.shapes) == {NoiseShape.GAUSSIAN}
    other = random_system(generator(1, "n"), nonlinear=True)
    assert set(other.mechanisms) == {Mechanism.TANH, Mechanism.QUADRATIC, Mechanism.PRODUCT}
    assert len(set(other.shapes)) == 4


def test_a_shock_reaches_only_what_the_stream_drives() -> None:
    """Without an edge towards it no stream moves."""
    system = random_system(generator(2, "s"), nonlinear=True)
    moved = system.run(6.0 * np.eye(30)) != system.run(np.zeros((30, 30)))
    for root in range(30):
        for node in np.nonzero(moved[root])[0].tolist():
            assert node == root or root in system.structure.ancestors(node)


@pytest.mark.usefixtures("_pgmpy")
def test_the_same_seed_gives_the_same_cases() -> None:
    """Cases are reproducible and differ between seeds."""
    one, same, other = (
        [
            (case.root, case.size, case.findings.roots[0].probability)
            for case in root_cases(seed, nonlinear=True, missing=0.2, n_cases=4)
        ]
        for seed in (7, 7, 8)
    )
    assert one == same
    assert one != other


@pytest.mark.usefixtures("_pgmpy")
def test_roots_are_found_and_probabilities_hold() -> None:
    """On a few systems the figures are near those of many: the goals, less the noise of a small
    sample.
    """
    figures = measure_roots(range(4), cases_per_system=8)
    first = figures["root_first"]
    assert first["linear"]["0"] >= 0.93
    assert first["linear"]["20"] >= 0.85
    assert first["linear"]["50"] >= 0.65
    assert first["nonlinear"]["0"] >= 0.85
    assert first["nonlinear"]["20"] >= 0.7
    assert first["nonlinear"]["50"] >= 0.5
    assert figures["ece"] <= 0.1
    assert figures["unexplained_self"] >= 0.8
    assert figures["unexplained_upstream"] <= 0.15
    assert figures["n_cases"] == 2 * 3 * 4 * 8
    json.dumps(figures, allow_nan=False)


@pytest.mark.usefixtures("_pgmpy")
def test_impossible_requests_are_refused() -> None:
    """No seeds, no cases, and nothing left to see are errors of ours."""
    with pytest.raises(EvaluationError, match="0 seeds"):
        measure_roots([])
    with pytest.raises(EvaluationError, match="0 cases"):
        measure_roots([1], cases_per_system=0)


def test_calibration_error_of_perfect_and_of_boastful_forecasts() -> None:
    """Stated as it comes true is 0; sure and always wrong is 1; the last bin is closed."""
    assert calibration_error(np.array([0.5, 0.5]), np.array([1.0, 0.0])) == 0.0
    assert calibration_error(np.ones(3), np.zeros(3)) == 1.0
    assert calibration_error(np.array([0.25, 0.75]), np.array([0.0, 1.0])) == 0.25
