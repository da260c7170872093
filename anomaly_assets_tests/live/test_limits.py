"""Rates and budgets: what is spent comes back, and nobody spends another's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly_assets.live.limits import (
    Budget,
    FailureLimit,
    NotStoredError,
    OverloadedError,
    RateLimiter,
)


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0.1, 30)), max_size=40))
def test_rate_holds_over_any_time(requests: list[tuple[float, float]]) -> None:
    """Whatever is asked when, no more is let through than burst and rate allow."""
    now = spent = 0.0
    limiter = RateLimiter(per_second=10, burst=20, clock=lambda: now)
    for pause, units in requests:
        now += pause
        try:
            limiter.take("phone", units)
        except OverloadedError as error:
            now += error.retry_after + 1e-9
            limiter.take("phone", units)
        spent += units
        # One request larger than the burst may be on credit.
        assert spent <= 20 + 10 * now + 30 + 1e-6


def test_senders_do_not_share() -> None:
    """One that has spent everything leaves another's bucket full."""
    limiter = RateLimiter(per_second=1, burst=5, clock=lambda: 0.0)
    limiter.take("a", 5)
    with pytest.raises(OverloadedError):
        limiter.take("a", 1)
    limiter.take("b", 5)


def test_budget_comes_back() -> None:
    """What a request took is free again at its end, however it ends."""
    budget = Budget(10)
    with budget.share() as share:
        share.take(8)
        with pytest.raises(OverloadedError), budget.share() as other:
            other.take(3)
        assert budget.used == 8
    assert budget.used == 0


def test_wait_is_told_in_whole_seconds() -> None:
    """Retry-After is at least a second, and never too early."""
    assert NotStoredError("away", 0.2).retry_after_seconds == 1
    assert NotStoredError("away", 1.2).retry_after_seconds == 2


@given(st.lists(st.integers(0, 30), max_size=60))
def test_failures_in_any_minute_are_limited(pauses: list[int]) -> None:
    """However they are spread, no minute has more; whoever waits as told may go on."""
    now = 0.0
    limit = FailureLimit(3, clock=lambda: now)
    failed: list[float] = []
    for pause in pauses:
        now += pause
        try:
            limit.require("a")
        except OverloadedError as error:
            now += error.retry_after
            limit.require("a")
        limit.note("a")
        failed.append(now)
        assert sum(now - 60.0 < one for one in failed) <= 3


def test_failures_are_remembered_of_so_many_addresses() -> None:
    """Memory is bounded; those that have failed least lately are forgotten first."""
    limit = FailureLimit(1, addresses=2, clock=lambda: 0.0)
    for address in ("a", "b", "a", "c"):
        limit.note(address)
    assert len(limit) == 2
    limit.require("b")
    for address in ("a", "c"):
        with pytest.raises(OverloadedError, match="wait 60 s"):
            limit.require(address)
