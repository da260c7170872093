"""Transitions per context."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly_assets.detection.gaps.transitions import TransitionModel


def test_staying_and_leaving_are_learnt_apart() -> None:
    """After many stays a present bit stays likely, while nothing is known of a missing one."""
    model = TransitionModel(1)
    stay = np.zeros((2, 2, 1))
    stay[1, 1] = 1.0
    for _ in range(99):
        model.learn(0, stay)
    assert model.p(0, np.array([1.0]))[0] > 0.99
    assert model.p(0, np.array([0.0]))[0] == 0.5


def test_contexts_do_not_share_what_they_learn() -> None:
    """Sleep tells nothing about work."""
    model = TransitionModel(1)
    leave = np.zeros((2, 2, 1))
    leave[1, 0] = 1.0
    model.learn(1, leave)
    assert model.p(1, np.array([1.0]))[0] == pytest.approx(0.25)
    assert model.p(0, np.array([1.0]))[0] == 0.5
