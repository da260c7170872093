"""Fitting with values missing: recovery of known coefficients, bad input, numerics."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly_assets.detection.explanation.network import fitting
from anomaly_assets.detection.explanation.network.fitting import (
    LEAST_NOISE,
    FitError,
    estimate,
    fit_network,
)
from anomaly_assets.detection.explanation.network.model import CausalNetwork
from anomaly_assets.detection.explanation.network.structure import TIME_NODES, Structure
from anomaly_assets.errors import AnomalyAssetsError, InputError
from anomaly_assets.streams.windows import FloatArray

CHAIN = Structure.from_edges(("a", "b", "c"), [("a", "b"), ("b", "c")])
HOURS = np.arange(288) / 12.0


@pytest.fixture(autouse=True)
def _pgmpy() -> None:
    pytest.importorskip("pgmpy", reason="fitting needs pgmpy (extra `causal`)")


def chain_values(n_windows: int = 288, *, missing: float = 0.0, seed: int = 5) -> FloatArray:
    """Return a -> b -> c with standardised coefficients 0.8 and -0.6, in odd units."""
    rng = np.random.default_rng(seed)
    e = rng.standard_normal((n_windows, 3))
    a = e[:, 0]
    b = 0.8 * a + 0.6 * e[:, 1]
    c = -0.6 * b + 0.8 * e[:, 2]
    values = np.column_stack((1e6 + 1e3 * a, 1e-6 * b, c))
    values[rng.random(values.shape) < missing] = np.nan
    return values


def fit(values: FloatArray, structure: Structure = CHAIN) -> CausalNetwork:
    return fit_network(values, HOURS[: len(values)], structure, fitted_at=86_400)


@pytest.mark.parametrize(("missing", "within"), [(0.0, 0.1), (0.2, 0.12), (0.5, 0.2)])
def test_coefficients_are_found_with_values_missing(missing: float, within: float) -> None:
    """Coefficients, noise and share explained come close to the truth, in whatever units."""
    network = fit(chain_values(missing=missing))
    assert network.coefficients[1, 0] == pytest.approx(0.8, abs=within)
    assert network.coefficients[2, 1] == pytest.approx(-0.6, abs=within)
    assert network.noise == pytest.approx([1.0, 0.6, 0.8], abs=within)
    assert np.isnan(network.r_squared[0])
    assert network.r_squared[1:] == pytest.approx([0.64, 0.36], abs=2.0 * within)
    assert np.count_nonzero(network.coefficients) == 2
    assert not network.left_out
    assert (network.fitted_at, network.n_windows) == (86_400, 288)


def test_expectation_maximisation_beats_moments_over_pairs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With half of the values missing, completed moments give coefficients nearer to the truth than
    those over the windows in which a pair was observed.
    """
    truth = np.array([0.8, -0.6])

    def error() -> float:
        errors = []
        for seed in range(20):
            values = chain_values(missing=0.5, seed=seed)
            standard = (values - np.nanmean(values, axis=0)) / np.nanstd(values, axis=0)
            found, _ = estimate(standard, [[], [0], [1]])
            errors.append(np.abs(found[[1, 2], [0, 1]] - truth).mean())
        return float(np.mean(errors))

    completed = error()
    monkeypatch.setattr(fitting, "EM_PASSES", 0)
    assert completed < 0.85 * error()


def test_the_same_input_gives_the_same_bits() -> None:
    """Fitting draws nothing at random."""
    one, other = (fit(chain_values(missing=0.3)) for _ in range(2))
    assert one.coefficients.tobytes() == other.coefficients.tobytes()
    assert one.noise.tobytes() == other.noise.tobytes()


def test_the_time_of_day_explains_a_daily_stream() -> None:
    """A stream that follows the clock owes its variance to the two time nodes."""
    structure = Structure.from_edges(("a", *TIME_NODES), [(node, "a") for node in TIME_NODES])
    rng = np.random.default_rng(2)
    values = np.sin(2.0 * np.pi * (HOURS - 7.0) / 24.0) + 0.1 * rng.standard_normal(288)
    network = fit(values[:, None], structure)
    assert network.r_squared[0] > 0.9
    assert network.coefficients[0, 1:] == pytest.approx(
        [np.cos(-7.0 / 12.0 * np.pi), np.sin(-7.0 / 12.0 * np.pi)], abs=0.1
    )


def test_constant_and_rare_streams_are_left_out_with_the_reason() -> None:
    """What cannot be fitted is named with why, and its causes act on its effects directly."""
    values = chain_values()
    values[:, 1] = 52.5
    network = fit(values)
    assert network.left_out == {"b": "constant: 52.5 in all 288 windows"}
    assert np.isnan(network.scale[1])
    assert network.coefficients[2, 0] != 0.0
    values[:, 1] = np.nan
    assert fit(values).left_out == {"b": "too few values: 0 of the 24 needed"}
    values[:10, 1] = np.arange(10.0)
    assert fit(values).left_out == {"b": "too few values: 10 of the 24 needed"}


def test_a_network_of_one_node_is_a_network() -> None:
    """A single stream is fitted with its mean and spread."""
    network = fit(chain_values()[:, 2:], Structure(("c",), ((),)))
    assert network.coefficients.tolist() == [[0.0]]
    assert network.noise[0] == pytest.approx(1.0, abs=0.01)


def test_two_hours_of_history_suffice_and_less_is_refused() -> None:
    """The error says how much there is and how much is needed."""
    assert np.isfinite(fit(chain_values(24)).noise).all()
    with pytest.raises(FitError, match=r"23 windows with values in a history of 23; .* needs 24"):
        fit(chain_values(23))
    gone = chain_values()
    gone[7:] = np.nan
    with pytest.raises(FitError, match="7 windows with values in a history of 288"):
        fit(gone)
    with pytest.raises(FitError, match="0 windows with values in a history of 0"):
        fit(np.empty((0, 3)))


def test_nothing_that_varies_is_refused_with_the_reasons() -> None:
    """With every stream constant there is no network, and the message says why."""
    with pytest.raises(FitError, match=r"no stream of 3 can be fitted .*a: constant: 1 in all 288"):
        fit(np.ones((288, 3)))


def test_a_fit_error_is_ours() -> None:
    """Whoever catches the package's errors catches this one."""
    assert issubclass(FitError, AnomalyAssetsError)


def test_identical_streams_do_not_make_the_network_singular() -> None:
    """An exact copy has its noise floored, and two copies share one effect."""
    a = chain_values()[:, 0]
    structure = Structure.from_edges(("a", "b", "c"), [("a", "b"), ("a", "c"), ("b", "c")])
    network = fit(np.column_stack((a, a, a)), structure)
    assert network.noise[1] == network.noise[2] == LEAST_NOISE
    assert network.coefficients[2, 0] == pytest.approx(network.coefficients[2, 1])


def test_one_absurd_reading_does_not_spoil_a_stream() -> None:
    """Readings of 1e300 are drawn in before anything is fitted, infinite ones are missing."""
    clean, values = chain_values(), chain_values()
    values[17, 1], values[18, 1], values[40, 2] = 1e300, -1e300, np.inf
    ours, theirs = fit(values), fit(clean)
    assert ours.scale == pytest.approx(theirs.scale, rel=0.2)
    assert ours.coefficients == pytest.approx(theirs.coefficients, abs=0.15)


def test_a_position_that_hardly_moves_has_its_scale_floored() -> None:
    """A latitude that jitters by 1e-8 degrees is not standardised to a storm."""
    rng = np.random.default_rng(3)
    values = 52.5 + 1e-6 * rng.standard_normal((288, 1))
    network = fit(values, Structure(("latitude",), ((),)))
    assert network.scale[0] == pytest.approx(52.5e-6, rel=0.01)
    assert network.noise[0] == LEAST_NOISE


# The first example imports pgmpy, which takes seconds.
@settings(deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.floats(0.0, 0.98),
    st.sampled_from([1e-300, 1e-6, 1.0, 1e300]),
)
def test_whatever_is_missing_the_estimates_are_finite(
    seed: int, missing: float, unit: float
) -> None:
    """Any pattern of gaps and any unit gives finite coefficients and positive noise, or an error
    of ours.
    """
    values = unit * np.clip(chain_values(60, missing=missing, seed=seed)[:, [2, 2, 2]], -9.0, 9.0)
    structure = Structure.from_edges(("a", "b", "c"), [("a", "b"), ("a", "c"), ("b", "c")])
    try:
        network = fit_network(values, HOURS[:60], structure, fitted_at=0, minimum_windows=3)
    except FitError:
        return
    kept = [i for i, node in enumerate(network.structure.nodes) if node not in network.left_out]
    assert np.isfinite(network.coefficients).all()
    assert (network.noise[kept] >= LEAST_NOISE).all()
    assert (network.scale[kept] > 0.0).all()


@pytest.mark.parametrize(
    ("values", "hours", "minimum", "said"),
    [
        (np.ones((30, 2)), HOURS[:30], 24, r"needs \(n_windows, 3\)"),
        (np.ones(30), HOURS[:30], 24, r"values has shape \(30,\)"),
        (np.ones((30, 3)), HOURS[:29], 24, "hours has shape"),
        (np.ones((30, 3)), np.full(30, np.nan), 24, "hours of row 0 is nan"),
        (np.ones((30, 3)), HOURS[:30], 2, "minimum_windows is 2"),
    ],
)
def test_wrong_input_is_refused(
    values: FloatArray, hours: FloatArray, minimum: int, said: str
) -> None:
    """The message names what is wrong."""
    with pytest.raises(InputError, match=said):
        fit_network(values, hours, CHAIN, fitted_at=0, minimum_windows=minimum)


def test_without_pgmpy_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra that is missing is named."""
    monkeypatch.setitem(sys.modules, "pgmpy.models", None)
    with pytest.raises(FitError, match=r"anomaly-assets\[causal\]"):
        fit(chain_values())


def test_pgmpy_is_imported_only_to_fit() -> None:
    """Explaining by a network that is already fitted never pays for the import."""
    code = (
        "import sys\n"
        "import anomaly_assets.detection.explanation.network.attribution\n"
        "import anomaly_assets.detection.explanation.network.fitting\n"
        "print('pgmpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
