"""The three triggers: limits, precedence, unknown scores."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly_assets.detection.explanation.triggers import Trigger, triggers
from anomaly_assets.errors import InputError

NAN = float("nan")


def code(
    individual: list[float], cross: float, final: float, threshold: float = 0.7
) -> Trigger | None:
    codes = triggers(
        np.array([individual]), np.array([cross]), np.array([final]), threshold=threshold
    )
    return Trigger.of_code(int(codes[0]))


@pytest.mark.parametrize(
    ("individual", "cross", "final", "expected"),
    [
        ([0.1, NAN], 0.5, 0.71, Trigger.FINAL_SCORE),
        ([0.1, NAN], 0.5, 0.70, None),
        ([0.81, NAN], 0.5, 0.1, Trigger.SINGLE_STREAM),
        ([0.80, NAN], 0.5, 0.1, None),
        ([0.71, NAN], 0.29, 0.1, Trigger.CONFLICTING_SIGNALS),
        ([0.70, NAN], 0.29, 0.1, None),
        ([0.71, NAN], 0.30, 0.1, None),
        ([0.9, 0.9], 0.1, 0.9, Trigger.FINAL_SCORE),
        ([0.9, 0.1], 0.1, 0.5, Trigger.SINGLE_STREAM),
        ([NAN, NAN], NAN, NAN, None),
        ([0.75, NAN], NAN, NAN, None),
        ([0.85, NAN], NAN, NAN, Trigger.SINGLE_STREAM),
    ],
)
def test_limits_and_precedence(
    individual: list[float], cross: float, final: float, expected: Trigger | None
) -> None:
    """Each limit must be exceeded, unknown triggers nothing, the final score is named first."""
    assert code(individual, cross, final) is expected


def test_stricter_threshold_raises_every_limit() -> None:
    """In the high-frequency profile nothing at or below its threshold is explained."""
    assert code([0.85], 0.1, 0.85, threshold=0.85) is None
    assert code([0.86], 0.1, 0.10, threshold=0.85) is Trigger.SINGLE_STREAM


def test_blocks_of_any_length_give_the_same_codes() -> None:
    """Codes do not depend on how a block is cut; an empty block has none."""
    rng = np.random.default_rng(5)
    individual, cross, final = rng.random((288, 7)), rng.random(288), rng.random(288)
    individual[rng.random((288, 7)) < 0.3] = NAN
    whole = triggers(individual, cross, final)
    parts = [
        triggers(individual[i : i + 7], cross[i : i + 7], final[i : i + 7])
        for i in range(0, 288, 7)
    ]
    assert whole.dtype == np.int8
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    assert len(triggers(np.empty((0, 7)), np.empty(0), np.empty(0))) == 0


def test_codes_and_triggers_translate_both_ways() -> None:
    """Every trigger has its code; a code that means nothing is refused."""
    assert [Trigger.of_code(trigger.code) for trigger in Trigger] == list(Trigger)
    with pytest.raises(InputError, match="unknown trigger code 9"):
        Trigger.of_code(9)


def test_scores_of_different_windows_are_refused() -> None:
    """Shapes that do not belong together are an error, not a broadcast."""
    with pytest.raises(InputError, match="different windows"):
        triggers(np.zeros((3, 2)), np.zeros(3), np.zeros(2))
