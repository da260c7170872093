"""Lead-lag analysis measured: what is found where there is nothing, and where there is."""

from __future__ import annotations

import pytest

from anomaly_assets.errors import EvaluationError
from anomaly_assets.evaluation.explanations import lead_lag


def test_independent_streams_are_seldom_related() -> None:
    """Of 100 days of six independent streams few have a finding, whatever the family."""
    rates = lead_lag.false_positive_rates(range(2))
    assert set(rates) == set(lead_lag.INDEPENDENT)
    assert max(rates.values()) <= 0.13


def test_a_coupling_of_04_is_found() -> None:
    """A day with 20 % of its values missing is enough, lag, direction and sign included."""
    assert lead_lag.power(range(2)) >= 0.93


def test_the_measure_is_the_worst_family_and_the_power(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two figures between 0 and 1, the same for the same seeds."""
    monkeypatch.setattr(lead_lag, "DATA_SETS", 4)
    found = lead_lag.measure_lead_lag([3])
    assert found == lead_lag.measure_lead_lag([3])
    assert found["fpr"] == max(lead_lag.false_positive_rates([3]).values())
    assert 0.0 <= found["power"] <= 1.0


def test_unusable_requests_are_refused() -> None:
    """Messages say what to give."""
    with pytest.raises(EvaluationError, match="no seeds"):
        lead_lag.measure_lead_lag([])
    with pytest.raises(EvaluationError, match="no steady state"):
        lead_lag.power([1], autocorrelation=1.0)
