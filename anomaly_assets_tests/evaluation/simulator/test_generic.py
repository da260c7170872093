"""Generic windows for benchmarks."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly_assets.errors import InputError
from anomaly_assets.evaluation.simulator import simulate_windows, synthetic_catalogue
from anomaly_assets.streams.catalogue import StreamType
from anomaly_assets.streams.windows import WINDOWS_PER_DAY


@pytest.mark.parametrize("n_streams", [1, 30, 100, 500])
def test_windows_fit_their_catalogue(n_streams: int) -> None:
    """As many columns as streams, some of them missing, none infinite."""
    block = simulate_windows(n_streams, 300, seed=1)
    assert block.values.shape == (300, len(synthetic_catalogue(n_streams).streams))
    assert block.windows.start == 1_767_571_200
    assert np.isfinite(block.values).any(axis=0).all()


def test_all_types_and_groups_are_there() -> None:
    """Thirty streams have all four types, and every group mixes them."""
    catalogue = synthetic_catalogue(30)
    assert {stream.type for stream in catalogue.streams} == set(StreamType)
    for group in catalogue.group_ids:
        assert len({s.type for s in catalogue.streams if s.group == group}) > 1


def test_the_same_seed_gives_the_same_windows() -> None:
    """Everything random comes from the seed."""
    first, second, other = (simulate_windows(30, 200, seed=seed).values for seed in (1, 1, 2))
    assert np.array_equal(first, second, equal_nan=True)
    assert not np.array_equal(first, other, equal_nan=True)


def test_the_share_of_missing_windows_is_about_what_was_asked() -> None:
    """Gaps of the asked share hit whole groups; without any, only sporadic streams have gaps."""
    catalogue = synthetic_catalogue(60)
    regular = [s.type is not StreamType.SPORADIC for s in catalogue.streams]
    gaps = np.isnan(simulate_windows(60, 6000, seed=1, missing=0.2).values[:, regular])
    assert gaps.mean() == pytest.approx(0.2, abs=0.04)
    assert not np.isnan(simulate_windows(60, 500, seed=1, missing=0.0).values[:, regular]).any()


def test_values_have_a_daily_cycle() -> None:
    """A smooth stream resembles itself a day later."""
    values = simulate_windows(1, 10 * WINDOWS_PER_DAY, seed=1, missing=0.0).values[:, 0]
    today, tomorrow = values[:-WINDOWS_PER_DAY], values[WINDOWS_PER_DAY:]
    assert np.corrcoef(today, tomorrow)[0, 1] > 0.6


def test_unusable_sizes_are_refused() -> None:
    """The message says what to give."""
    with pytest.raises(InputError, match="n_streams"):
        synthetic_catalogue(0)
    with pytest.raises(InputError, match="n_windows"):
        simulate_windows(3, 0)
    with pytest.raises(InputError, match="missing"):
        simulate_windows(3, 10, missing=1.0)
