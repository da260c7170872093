"""Availability per hour and kind of day."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly_assets.detection.gaps.availability import (
    AvailabilityModel,
    availability_cells,
    surprise_minus_entropy,
)
from anomaly_assets.streams.catalogue import Contexts
from anomaly_assets.streams.windows import Calendar


def test_cells_tell_hours_and_week_ends_apart() -> None:
    """A cell is the local hour, plus 24 on the weekend days of the catalogue."""
    calendar = Calendar(hour=np.array([0.0, 23.9, 5.5]), weekday=np.array([0, 5, 4]))
    assert availability_cells(calendar, Contexts()).tolist() == [0, 47, 5]
    assert availability_cells(calendar, Contexts(weekend_days=(4,))).tolist() == [0, 23, 29]


def test_an_unvisited_cell_expects_nothing() -> None:
    """Without data either outcome is as likely, and neither surprises."""
    p = AvailabilityModel(3).p(7)
    assert p.tolist() == [0.5, 0.5, 0.5]
    assert surprise_minus_entropy(p, np.array([0.0, 1.0, 1.0])).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("p", [0.01, 0.3, 0.5, 0.9])
def test_surprise_is_nothing_on_average(p: float) -> None:
    """Surprise minus entropy has expectation 0 under the model, and equals its definition."""
    chance = np.array([p, p])
    excess = surprise_minus_entropy(chance, np.array([1.0, 0.0]))
    assert p * excess[0] + (1 - p) * excess[1] == pytest.approx(0.0, abs=1e-12)
    entropy = -p * np.log(p) - (1 - p) * np.log(1 - p)
    assert excess[0] == pytest.approx(-np.log(p) - entropy)


def test_cells_fade_only_when_visited() -> None:
    """What a cell learnt stays until the cell comes again, however long that takes."""
    model = AvailabilityModel(1, fade=0.5)
    present = np.array([[0.0], [1.0]])
    model.learn(30, present)
    for _ in range(100):
        model.learn(3, present)
    assert model.p(30)[0] == pytest.approx(0.75)
    assert model.p(3)[0] == pytest.approx(2.5 / 3.0)


def test_unknown_bits_are_not_counted() -> None:
    """A bit with no outcome keeps the prior."""
    model = AvailabilityModel(2)
    model.learn(0, np.array([[0.0, 1.0], [0.0, 0.0]]))
    assert model.p(0).tolist() == [0.5, 0.25]
