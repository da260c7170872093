"""A small causal network without the library that fits them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from anomaly_assets.detection.explanation.network.model import CausalNetwork
from anomaly_assets.detection.explanation.network.structure import Structure

FITTED = datetime(2026, 3, 2, 15, tzinfo=UTC)


def small_network(fitted_at: datetime = FITTED, **changes: object) -> CausalNetwork:
    """Return a network in which steps drive the pulse, and a third stream was left out."""
    nan = float("nan")
    network = CausalNetwork(
        structure=Structure.from_edges(
            ("steps", "pulse", "sweat"), [("steps", "pulse"), ("pulse", "sweat")]
        ),
        mean=np.array([3.0, 70.0, nan]),
        scale=np.array([0.1, 5.0, nan]),
        coefficients=np.array([[0.0, 0.0, 0.0], [0.8, 0.0, 0.0], [0.0, 0.0, 0.0]]),
        noise=np.array([1.0, 0.6, nan]),
        r_squared=np.array([nan, 0.64, nan]),
        n_observed=np.array([288, 250, 3]),
        fitted_at=int(fitted_at.timestamp()),
        n_windows=288,
        left_out={"sweat": "too few values: 3 of the 24 needed"},
    )
    return replace(network, **changes)  # type: ignore[arg-type]
