"""One clean simulation, shared by the tests that only look at it."""

from __future__ import annotations

import pytest

from anomaly_assets.evaluation.simulator import Simulation, simulate


@pytest.fixture(scope="session")
def clean() -> Simulation:
    """Fourteen days of three people without faults."""
    return simulate(seed=3)
