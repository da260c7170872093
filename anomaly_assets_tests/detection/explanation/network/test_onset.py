"""Residuals against a level frozen at the onset."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly_assets.detection.explanation.network.onset import frozen_residuals
from anomaly_assets.errors import InputError

SCALE = np.array([2.0])


def column(*values: float) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return np.array(values, dtype=np.float64).reshape(-1, 1)


def test_a_lasting_shift_is_no_smaller_an_hour_later() -> None:
    """The level stops learning at the onset, so the residual of a step stays what it was."""
    history = column(*[10.0] * 20, *[16.0] * 12)
    assert frozen_residuals(history, 20, scale=SCALE)[0] == pytest.approx(3.0)


def test_recent_windows_weigh_more() -> None:
    """A value half a life earlier weighs half."""
    history = column(0.0, 3.0, 10.0)
    assert frozen_residuals(history, 2, scale=np.ones(1), half_life=1.0)[0] == pytest.approx(8.0)


def test_a_gap_in_the_history_does_not_pull_the_level() -> None:
    """Missing windows have no weight, and infinite ones count as missing."""
    history = column(4.0, np.nan, np.inf, 4.0, 8.0)
    assert frozen_residuals(history, 4, scale=SCALE)[0] == 2.0


@pytest.mark.parametrize(
    ("history", "onset", "scale"),
    [
        (column(1.0, 1.0, np.nan), 2, 1.0),  # the window itself is missing
        (column(1.0, np.inf), 1, 1.0),
        (column(np.nan, np.nan, 1.0), 2, 1.0),  # nothing before
        (column(1.0), 0, 1.0),  # onset in the first window
        (column(1.0, *[np.nan] * 30, 1.0), 31, 1.0),  # only a value of long ago
        (column(1.0, 2.0), 1, 0.0),
        (column(1.0, 2.0), 1, np.nan),
    ],
)
def test_what_cannot_be_told_is_nan(
    history: np.ndarray[tuple[int, int], np.dtype[np.float64]], onset: int, scale: float
) -> None:
    """Without a value, a level or a scale the residual is unknown, never 0."""
    assert np.isnan(frozen_residuals(history, onset, scale=np.array([scale]))[0])


def test_the_largest_numbers_stay_finite() -> None:
    """Readings near the end of the floats neither overflow nor warn."""
    residual = frozen_residuals(column(*[-1e308] * 9, 1e308), 9, scale=np.array([1e-300]))
    assert residual[0] == 1e300


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30),
    st.floats(-1e3, 1e3),
    st.floats(0.1, 10.0),
)
def test_units_do_not_matter(values: list[float], shift: float, factor: float) -> None:
    """Another zero point and unit of a stream leave its residual as it was."""
    history = column(*values)
    spread = np.array([1.0 + np.abs(history).max()])
    onset = len(values) - 1
    ours = frozen_residuals(history, onset, scale=spread)
    theirs = frozen_residuals(shift + factor * history, onset, scale=factor * spread)
    np.testing.assert_allclose(theirs, ours, atol=1e-6)


@pytest.mark.parametrize(
    ("history", "onset", "scale", "half_life", "said"),
    [
        (np.ones(3), 1, SCALE, 6.0, "history has shape"),
        (np.ones((0, 1)), 0, SCALE, 6.0, "one row at least"),
        (np.ones((3, 2)), 1, SCALE, 6.0, "scale has shape"),
        (np.ones((3, 1)), 3, SCALE, 6.0, "onset 3 is no row of a history of 3"),
        (np.ones((3, 1)), -1, SCALE, 6.0, "onset -1"),
        (np.ones((3, 1)), 1, SCALE, 0.0, "half_life is 0.0"),
        (np.ones((3, 1)), 1, SCALE, np.nan, "half_life is nan"),
    ],
)
def test_wrong_input_is_refused(
    history: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    onset: int,
    scale: np.ndarray[tuple[int], np.dtype[np.float64]],
    half_life: float,
    said: str,
) -> None:
    """The message names what is wrong."""
    with pytest.raises(InputError, match=said):
        frozen_residuals(history, onset, scale=scale, half_life=half_life)
