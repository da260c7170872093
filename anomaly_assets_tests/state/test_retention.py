"""Retention keeps the last snapshots of hours, days and months."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from anomaly_assets.state.retention import snapshots_to_keep

NOW = datetime(2026, 3, 31, 23, 55, tzinfo=UTC)
moments = st.lists(
    st.integers(0, 24 * 400).map(lambda hours: NOW - timedelta(hours=hours)), max_size=300
)


def test_a_year_of_hourly_snapshots_is_thinned_out() -> None:
    """24 hours, 30 days and 12 months are kept, overlapping ones once."""
    hourly = [NOW - timedelta(hours=hours) for hours in range(24 * 365)]

    kept = snapshots_to_keep(hourly, hourly=24, daily=30, monthly=12)

    assert len(kept) == 24 + 29 + 11
    assert NOW in kept
    assert datetime(2026, 2, 28, 23, 55, tzinfo=UTC) in kept
    assert datetime(2025, 6, 30, 23, 55, tzinfo=UTC) in kept


@given(moments)
def test_the_latest_always_stays(found: list[datetime]) -> None:
    """Whatever there is, the newest snapshot is kept and nothing is invented."""
    kept = snapshots_to_keep(found, hourly=1, daily=1, monthly=1)

    assert kept <= set(found)
    assert not found or max(found) in kept


@given(moments)
def test_pruning_twice_changes_nothing(found: list[datetime]) -> None:
    """What was kept once is kept again."""
    once = snapshots_to_keep(found, hourly=3, daily=4, monthly=2)

    assert snapshots_to_keep(once, hourly=3, daily=4, monthly=2) == once
