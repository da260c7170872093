"""Fitted networks: stored and read back, age, quality, refusals."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest

from anomaly_assets.detection.explanation.network.model import CausalNetwork
from anomaly_assets.errors import InputError
from anomaly_assets_tests.detection.explanation.network.networks import chain, network


def same(one: CausalNetwork, other: CausalNetwork) -> bool:
    return (
        one.structure == other.structure
        and one.left_out == other.left_out
        and (one.fitted_at, one.n_windows) == (other.fitted_at, other.n_windows)
        and all(
            getattr(one, name).tobytes() == getattr(other, name).tobytes()
            for name in ("mean", "scale", "coefficients", "noise", "r_squared", "n_observed")
        )
    )


def test_a_network_survives_json_and_pickle_to_the_last_bit() -> None:
    """What was unknown is null in JSON and NaN again afterwards; numbers keep every bit."""
    fitted = network(
        ("a", "b", "c"), {("a", "b"): 1.0 / 3.0, ("b", "c"): 0.1}, left_out={"c": "constant"}
    )
    text = json.dumps(fitted.to_dict(), allow_nan=False)
    assert same(CausalNetwork.from_dict(json.loads(text)), fitted)
    assert same(pickle.loads(pickle.dumps(fitted)), fitted)


def test_a_network_of_one_node_survives_json() -> None:
    """A single stream has a coefficient matrix of one by one."""
    fitted = network(("a",), {})
    assert same(CausalNetwork.from_dict(fitted.to_dict()), fitted)


def test_age_counts_from_the_end_of_the_fitted_span() -> None:
    """An hour after its end the network is 3600 seconds old."""
    assert chain().age(1_003_600) == 3600.0


def test_fit_quality_is_the_mean_share_explained() -> None:
    """Nodes without causes do not count; without any edge the quality is unknown, not 0."""
    assert chain().fit_quality == 0.75
    assert math.isnan(network(("a",), {}).fit_quality)


def test_edges_in_use_bridge_nodes_left_out() -> None:
    """A node left out passes its causes on to its effects."""
    fitted = network(
        ("a", "b", "c"), {("a", "b"): 0.8, ("b", "c"): 0.9}, left_out={"b": "constant"}
    )
    assert fitted.edges == (("a", "c", 0.0),)


def test_arrays_of_another_shape_are_refused() -> None:
    """The message names the part, its shape and the shape it needs."""
    with pytest.raises(InputError, match=r"noise has shape \(2,\); a network of 3 nodes"):
        replace(chain(), noise=np.ones(2))
    with pytest.raises(InputError, match=r"coefficients has shape \(3,\)"):
        replace(chain(), coefficients=np.ones(3))
    with pytest.raises(InputError, match="no nodes of the network: x"):
        replace(chain(), left_out={"x": "constant"})


@pytest.mark.parametrize(
    "damage",
    [
        {"noise": ["much", 1.0, 1.0]},
        {"coefficients": [[0.0, 1.0]]},
        {"coefficients": [[0.0], [0.0, 1.0], []]},
        {"parents": [["a"], [], []]},
        {"parents": [[1], [0], []]},
        {"nodes": ["a", "a", "c"]},
        {"nodes": []},
        {"nodes": None},
        {"fitted_at": None},
        {"left_out": 3},
        {"mean": None},
    ],
)
def test_a_damaged_store_is_refused(damage: dict[str, object]) -> None:
    """Whatever part is not what was written, the error is ours."""
    with pytest.raises(InputError):
        CausalNetwork.from_dict({**chain().to_dict(), **damage})


def test_a_store_with_a_part_missing_is_refused() -> None:
    """The message names the parts."""
    stored = chain().to_dict()
    del stored["noise"], stored["nodes"]
    with pytest.raises(InputError, match="nodes, noise missing"):
        CausalNetwork.from_dict(stored)
