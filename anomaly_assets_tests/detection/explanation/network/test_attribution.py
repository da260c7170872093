"""Attribution: agreement with the densities it abbreviates, laws of its shares, bad input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from anomaly_assets.detection.explanation.network.attribution import (
    CAPPED,
    OTHER_CAUSE,
    SHOCK,
    Attributor,
    NetworkFindings,
)
from anomaly_assets.detection.explanation.network.fitting import covariance
from anomaly_assets.detection.explanation.network.structure import TIME_NODES
from anomaly_assets.errors import InputError
from anomaly_assets.streams.windows import FloatArray
from anomaly_assets_tests.detection.explanation.network.networks import chain, network

DIAMOND = network(
    ("a", "b", "c", "d", "e"),
    {("a", "b"): 0.9, ("a", "c"): -0.7, ("b", "d"): 0.6, ("c", "d"): 0.5, ("d", "e"): 0.8},
)
residuals = st.lists(
    st.one_of(st.floats(-50.0, 50.0), st.just(float("nan"))), min_size=5, max_size=5
).map(np.array)


def log_density(values: FloatArray, cov: FloatArray) -> float:
    sign, logdet = np.linalg.slogdet(cov)
    assert sign > 0
    return -0.5 * float(logdet + values @ np.linalg.solve(cov, values))


def total(findings: NetworkFindings) -> float:
    return sum(findings.contributions.values()) + findings.unexplained - findings.offsetting


@given(residuals)
def test_the_ratio_is_that_of_the_two_densities(z: FloatArray) -> None:
    """Without mechanism error the closed form equals the Gaussian densities with and without a
    shock, over the streams observed.
    """
    known = np.isfinite(z)
    assume(known.any())
    ratios = Attributor(DIAMOND, mechanism_error=0.0).explain(z).log_likelihood_ratio
    among = np.ix_(known, known)
    calm = log_density(z[known], covariance(DIAMOND.coefficients, DIAMOND.noise)[among])
    for node in range(5):
        noise = DIAMOND.noise.copy()
        noise[node] *= np.sqrt(1.0 + SHOCK**2)
        shocked = log_density(z[known], covariance(DIAMOND.coefficients, noise)[among])
        assert ratios[node] == pytest.approx(shocked - calm, rel=1e-6, abs=1e-6)


@given(residuals)
def test_probabilities_and_shares_sum_to_one(z: FloatArray) -> None:
    """Roots and other causes make 1; contributions, unexplained and offsetting make 1."""
    findings = Attributor(DIAMOND).explain(z)
    assert sum(r.probability for r in findings.roots) + findings.other == pytest.approx(1.0)
    assert findings.other >= OTHER_CAUSE - 1e-9
    probabilities = [root.probability for root in findings.roots]
    assert probabilities == sorted(probabilities, reverse=True)
    if findings.target is None or z[DIAMOND.structure.nodes.index(findings.target)] == 0.0:
        assert np.isnan(findings.unexplained)
        assert np.isnan(findings.offsetting)
        assert findings.contributions == {}
    else:
        assert total(findings) == pytest.approx(1.0, abs=1e-6)
        assert findings.unexplained >= 0.0
        assert findings.offsetting >= 0.0
        assert all(share > 0.0 for share in findings.contributions.values())


@given(residuals)
def test_only_ancestors_contribute(z: FloatArray) -> None:
    """A stream is never explained by itself or by what does not drive it."""
    structure = DIAMOND.structure
    findings = Attributor(DIAMOND).explain(z)
    if findings.target is not None:
        driving = {
            structure.nodes[a] for a in structure.ancestors(structure.nodes.index(findings.target))
        }
        assert set(findings.contributions) <= driving


@given(residuals)
def test_the_sign_of_a_deviation_does_not_matter(z: FloatArray) -> None:
    """The mirrored window has the same causes."""
    one, other = Attributor(DIAMOND).explain(z), Attributor(DIAMOND).explain(-z)
    assert one.roots == other.roots
    assert one.contributions == other.contributions


@pytest.mark.parametrize(
    ("z", "root", "path"),
    [
        ([8.0, 6.4, 5.8], "a", ("a", "b", "c")),
        ([0.3, 7.0, 6.3], "b", ("b", "c")),
        ([0.3, -0.2, 6.0], "c", ("c",)),
        ([0.3, 6.4, 0.1], "b", ("b", "c")),
        ([9.0, np.nan, 6.5], "a", ("a", "b", "c")),
    ],
)
def test_the_root_of_a_plain_case_is_named(
    z: list[float], root: str, path: tuple[str, ...]
) -> None:
    """Along a chain, the first stream that its own causes do not explain is the root, and the path
    leads from there to the stream explained.
    """
    found = Attributor(chain()).explain(np.array(z), target="c").roots[0]
    assert (found.stream, found.path) == (root, path)


def test_a_root_that_does_not_drive_the_target_has_no_path() -> None:
    """Only the root itself is shown."""
    found = Attributor(chain()).explain(np.array([0.2, 0.1, 8.0]), target="a").roots[0]
    assert (found.stream, found.path) == ("c", ("c",))


def test_a_missing_root_is_named_by_its_effects() -> None:
    """Two effects that move together point at the cause they share, though it is silent."""
    forked = network(("a", "b", "c", "d"), {("a", "b"): 0.9, ("a", "c"): 0.9, ("a", "d"): 0.9})
    findings = Attributor(forked).explain(np.array([np.nan, 6.0, 6.3, 5.8]))
    assert findings.roots[0].stream == "a"
    assert findings.roots[0].probability > 0.8
    assert findings.contributions["a"] > 0.8


def test_an_effect_that_overreacts_is_no_root() -> None:
    """Far outside the ordinary range an effect may answer twice as strongly as it used to; without
    mechanism error it would be named.
    """
    z = np.array([10.0, 16.0, 14.4])
    assert Attributor(chain()).explain(z).roots[0].stream == "a"
    assert Attributor(chain()).share_unexplained(z, "b") < 0.15
    assert Attributor(chain(), mechanism_error=0.0).share_unexplained(z, "b") > 0.3


def test_unexplained_is_large_for_the_root_and_small_below_it() -> None:
    """A stream hit itself is unexplained, one hit through its cause is explained."""
    attributor, z = Attributor(chain()), np.array([0.1, 8.0, 7.0])
    assert attributor.share_unexplained(z, "b") > 0.9
    assert attributor.share_unexplained(z, "c") < 0.1
    assert attributor.explain(z, target="c").contributions["b"] > 0.8


def test_what_pulled_the_other_way_is_offsetting() -> None:
    """A cause that should have lowered the stream counts against the rest."""
    opposed = network(("a", "b", "c"), {("a", "c"): 0.8, ("b", "c"): -0.8}, noise=0.6)
    findings = Attributor(opposed).explain(np.array([12.0, 4.0, 6.4]), target="c")
    assert findings.offsetting > 0.2
    assert findings.contributions["a"] > 1.0
    assert total(findings) == pytest.approx(1.0)


def test_a_target_that_was_not_observed_gives_way_to_the_one_that_deviates_most() -> None:
    """The findings name the stream they explain; its unexplained share alone is unknown."""
    attributor, z = Attributor(chain()), np.array([6.0, 5.0, np.nan])
    assert attributor.explain(z, target="c").target == "a"
    assert np.isnan(attributor.share_unexplained(z, "c"))


def test_confidence_is_capped_when_the_ancestors_are_silent() -> None:
    """With under 60 % of the target's ancestors observed, confidence has a ceiling; a stream
    without ancestors needs none.
    """
    attributor = Attributor(DIAMOND)
    assert attributor.explain(np.array([1.0, 1.0, 1.0, 1.0, 9.0])).confidence_cap == 1.0
    assert attributor.explain(np.array([np.nan, 1.0, 1.0, 1.0, 9.0])).confidence_cap == 1.0
    assert attributor.explain(np.array([np.nan, np.nan, 1.0, 1.0, 9.0])).confidence_cap == CAPPED
    assert attributor.explain(np.array([9.0, *[np.nan] * 4])).confidence_cap == 1.0


def test_observed_overrules_a_residual() -> None:
    """A stream declared missing is as good as NaN."""
    attributor, z = Attributor(DIAMOND), np.array([5.0, 4.5, -3.5, 1.0, 0.8])
    mask = np.array([False, True, True, True, True])
    masked = attributor.explain(z, observed=mask)
    gone = attributor.explain(np.where(mask, z, np.nan))
    assert masked.roots == gone.roots
    assert masked.confidence_cap == gone.confidence_cap


def test_an_ordinary_window_has_no_certain_root() -> None:
    """Where nothing deviates, no stream is accused."""
    findings = Attributor(DIAMOND).explain(np.array([0.4, 0.3, -0.3, 0.1, 0.0]))
    assert findings.roots[0].probability < 0.35
    assert findings.other > 0.3


def test_nothing_observed_is_unknown() -> None:
    """Without any value there is no root, no target and no share."""
    findings = Attributor(DIAMOND).explain(np.full(5, np.nan))
    assert findings.roots == ()
    assert findings.other == 1.0
    assert findings.target is None
    assert np.isnan(findings.unexplained)
    assert np.isnan(findings.offsetting)
    assert np.isnan(findings.log_likelihood_ratio).all()
    assert findings.confidence_cap == CAPPED


@pytest.mark.parametrize("size", [1e7, 1e150, 1e300, 1.7e308])
def test_absurd_residuals_keep_the_law_and_the_root(size: float) -> None:
    """Residuals up to the end of the floats neither overflow nor warn; infinite ones are
    missing.
    """
    attributor = Attributor(DIAMOND)
    for gone in ([], [1], [0, 2], [3]):
        z = size * np.array([1.0, 0.9, -0.7, 0.19, 0.152])
        z[gone] = np.inf
        findings = attributor.explain(z)
        assert total(findings) == pytest.approx(1.0, abs=1e-6)
        assert np.isfinite([root.probability for root in findings.roots]).all()
        if 0 not in gone:
            assert findings.roots[0].stream == "a"


def test_a_network_of_one_node_accuses_it() -> None:
    """The only stream is the root of its own anomaly, and nothing explains it."""
    findings = Attributor(network(("a",), {})).explain(np.array([9.0]))
    assert findings.roots[0].path == ("a",)
    assert findings.unexplained == pytest.approx(1.0)


def test_nodes_left_out_and_the_time_of_day_are_never_roots() -> None:
    """Their residuals are ignored and their ratios unknown; as ancestors they count as silent."""
    partial = network(
        ("a", "b", "c", *TIME_NODES),
        {("a", "b"): 0.8, ("b", "c"): 0.9, (TIME_NODES[0], "c"): 0.5},
        left_out={"b": "constant: 1 in all 288 windows"},
    )
    findings = Attributor(partial).explain(np.array([1.0, 40.0, 7.0]))
    assert findings.target == "c"
    assert {root.stream for root in findings.roots} <= {"a", "c"}
    assert np.isnan(findings.log_likelihood_ratio).tolist() == [False, True, False, True, True]
    assert findings.confidence_cap == CAPPED


def test_a_network_without_a_single_node_in_use_explains_nothing() -> None:
    """Everything left out is like nothing observed."""
    empty = network(("a",), {}, left_out={"a": "constant"})
    assert Attributor(empty).explain(np.array([3.0])).other == 1.0


def test_the_strongest_path_is_told() -> None:
    """Of two ways from root to target, the one that carries more is shown."""
    findings = Attributor(DIAMOND).explain(np.array([10.0, 9.0, -7.0, 1.9, 1.5]), target="e")
    assert findings.roots[0].path == ("a", "b", "d", "e")


def test_wrong_input_is_refused() -> None:
    """Shapes, unknown targets, settings out of range and damaged networks are named."""
    attributor = Attributor(chain())
    with pytest.raises(InputError, match=r"z has shape \(2,\); the network has 3 streams"):
        attributor.explain(np.zeros(2))
    with pytest.raises(InputError, match="observed has shape"):
        attributor.explain(np.zeros(3), observed=np.ones(2, dtype=bool))
    with pytest.raises(InputError, match="target 'x' is no stream of the network: a, b, c"):
        attributor.explain(np.zeros(3), target="x")
    with pytest.raises(InputError, match="target 'x'"):
        attributor.share_unexplained(np.zeros(3), "x")
    with pytest.raises(InputError, match="shock is 0"):
        Attributor(chain(), shock=0.0)
    with pytest.raises(InputError, match="mechanism_error is -1"):
        Attributor(chain(), mechanism_error=-1.0)
    with pytest.raises(InputError, match="noise of 'b' is not positive"):
        Attributor(replace(chain(), noise=np.array([1.0, 0.0, 1.0])))
    with pytest.raises(InputError, match="coefficients that are not finite"):
        Attributor(replace(chain(), coefficients=np.full((3, 3), np.nan)))
