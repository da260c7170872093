"""Small networks for tests, built by hand."""

from __future__ import annotations

import numpy as np

from anomaly_assets.detection.explanation.network.model import CausalNetwork
from anomaly_assets.detection.explanation.network.structure import Structure


def network(
    nodes: tuple[str, ...],
    edges: dict[tuple[str, str], float],
    *,
    noise: float = 0.5,
    left_out: dict[str, str] | None = None,
) -> CausalNetwork:
    structure = Structure.from_edges(nodes, list(edges))
    n = len(nodes)
    left_out = left_out or {}
    coefficients = np.zeros((n, n))
    for (cause, effect), coefficient in edges.items():
        if cause not in left_out and effect not in left_out:
            coefficients[nodes.index(effect), nodes.index(cause)] = coefficient
    out = np.array([node in left_out for node in nodes])
    return CausalNetwork(
        structure=structure,
        mean=np.where(out, np.nan, 10.0),
        scale=np.where(out, np.nan, 2.0),
        coefficients=coefficients,
        noise=np.where(out, np.nan, noise),
        r_squared=np.where(coefficients.any(axis=1), 0.75, np.nan),
        n_observed=np.where(out, 3, 288),
        fitted_at=1_000_000,
        n_windows=288,
        left_out=left_out,
    )


def chain(*, noise: float = 0.5) -> CausalNetwork:
    """Return the network a -> b -> c."""
    return network(("a", "b", "c"), {("a", "b"): 0.8, ("b", "c"): 0.9}, noise=noise)
