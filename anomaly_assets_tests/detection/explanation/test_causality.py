"""The causal network and lead-lag in explanations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anomaly_assets.detection.explanation.evidence import IndividualRow, WindowEvidence
from anomaly_assets.detection.explanation.explain import Explainer, Mode
from anomaly_assets.detection.explanation.network.model import CausalNetwork
from anomaly_assets.detection.explanation.network.structure import Structure
from anomaly_assets.detection.explanation.record import Explanation
from anomaly_assets.detection.explanation.triggers import Trigger
from anomaly_assets.errors import InputError
from anomaly_assets.streams.catalogue import Catalogue, CausalEdge, Group, Stream, StreamType
from anomaly_assets.streams.windows import FloatArray

START = 1_767_600_000
IDS = ("effort", "pulse", "sweat", "noise")


def catalogue() -> Catalogue:
    """Effort drives pulse, pulse drives sweat; noise is by itself."""
    return Catalogue(
        name="chain",
        groups=(Group(id="body"),),
        streams=tuple(
            Stream(id=name, type=StreamType.CONTINUOUS_NOISY, group="body", unit="au")
            for name in IDS
        ),
        causal_edges=(
            CausalEdge(cause="effort", effect="pulse"),
            CausalEdge(cause="pulse", effect="sweat"),
        ),
    )


def network(fitted_at: int = START - 600) -> CausalNetwork:
    """Return the chain, with little noise of its own in what is driven."""
    structure = Structure.of(catalogue())
    n = len(structure.nodes)
    coefficients = np.zeros((n, n))
    coefficients[1, 0] = coefficients[2, 1] = 0.95
    return CausalNetwork(
        structure=structure,
        mean=np.zeros(n),
        scale=np.ones(n),
        coefficients=coefficients,
        noise=np.array([1.0, 0.3, 0.3, 1.0, 1.0, 1.0])[:n],
        r_squared=np.array([np.nan, 0.9, 0.9, np.nan, np.nan, np.nan])[:n],
        n_observed=np.full(n, 288),
        fitted_at=fitted_at,
        n_windows=288,
        left_out={},
    )


def day(seed: int = 0) -> FloatArray:
    """Return a day in which pulse follows effort by one window."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((289, 4))
    values = noise[1:].copy()
    values[:, 1] = 0.8 * noise[:-1, 0] + 0.6 * noise[1:, 1]
    return values


def window(values: list[float], **changes: object) -> WindowEvidence:
    """Return a window after an hour at 0, of which tier 1 says what its values say."""
    current = np.array(values)
    size = np.abs(current)
    evidence = WindowEvidence(
        entity_id="ann",
        time_zone="UTC",
        window_start=START,
        values=current,
        trigger=Trigger.FINAL_SCORE,
        score=0.9,
        confidence=1.0,
        history=np.zeros((12, len(IDS))),
        individual=IndividualRow(
            score=np.where(np.isnan(size), np.nan, np.minimum(size / 10.0, 0.97)),
            expected=np.zeros(len(IDS)),
            deviation=current,
        ),
        network=network(),
    )
    return replace(evidence, **changes)  # type: ignore[arg-type]


def explained(evidence: WindowEvidence) -> Explanation:
    """Explain thoroughly; the record must survive being stored."""
    record = Explainer(catalogue(), mode=Mode.THOROUGH).explain(evidence)
    assert Explanation.from_dict(record.to_dict()) == record
    assert record.as_text()
    return record


def test_what_began_upstream_is_named_with_its_path() -> None:
    """The most anomalous stream follows another: the root, the path and the shares say so."""
    record = explained(window([9.0, 8.6, 9.2, 0.1]))
    found = record.evidence.network
    assert found is not None
    assert next(iter(found.roots)) == "effort"
    assert found.path == ("effort", "pulse", "sweat")
    assert sum(found.roots.values()) + found.other == pytest.approx(1.0)
    named = [(record.cause_kind, record.cause_streams)] + [
        (other.cause, other.streams) for other in record.alternative_explanations
    ]
    assert ("upstream_cause", ("effort", "pulse", "sweat")) in named
    shares = record.causal_attribution
    assert shares.method == "causal network"
    assert shares.target == "sweat"
    assert shares.unexplained < 0.2
    total = sum(shares.contributions.values()) + shares.unexplained - shares.offsetting
    assert total == pytest.approx(1.0)


def test_a_fault_of_the_stream_itself_is_left_unexplained() -> None:
    """Nothing upstream moved: no other stream is blamed, and the share is the stream's own."""
    record = explained(window([0.1, 0.2, 9.0, 0.1]))
    assert record.cause_streams == ("sweat",)
    assert record.causal_attribution.unexplained > 0.8
    assert record.evidence.network is not None
    assert record.evidence.network.path == ("sweat",)


def test_a_cause_that_was_not_observed_caps_the_confidence() -> None:
    """Pulse and sweat rose; effort, which drives both, is missing and may be the cause."""
    record = explained(window([np.nan, 8.6, 9.2, 0.1]))
    assert record.missing_streams == ("effort",)
    assert record.cause_kind == "upstream_cause"
    assert record.cause_streams[0] == "effort"
    assert record.confidence == 0.6 < record.primary_probability


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"network": None}, "causal network: none fitted"),
        ({"network": None, "network_problem": "too short"}, "causal network: too short"),
        ({"network": network(START - 5 * 3600)}, "causal network: stale, fitted 5 hours before"),
    ],
)
def test_without_a_fresh_network_the_others_go_on_and_say_so(
    changes: dict[str, object], reason: str
) -> None:
    """The shares are then those of the scores."""
    record = explained(window([9.0, 8.6, 9.2, 0.1], **changes))
    assert reason in record.degraded
    assert "causal network" not in record.methods_used
    assert record.causal_attribution.method == "scores"
    assert record.evidence.network is None


def test_a_network_of_other_streams_is_not_used() -> None:
    """It would be read by position."""
    other = Structure.from_edges(("a", "b", "c", "d"), [])
    n = len(other.nodes)
    foreign = CausalNetwork(
        structure=other,
        mean=np.zeros(n),
        scale=np.ones(n),
        coefficients=np.zeros((n, n)),
        noise=np.ones(n),
        r_squared=np.full(n, np.nan),
        n_observed=np.full(n, 288),
        fitted_at=START,
        n_windows=288,
        left_out={},
    )
    record = explained(window([9.0, 8.6, 9.2, 0.1], network=foreign))
    assert "causal network: fitted for the streams of another catalogue" in record.degraded


def test_what_leads_is_told_with_its_lag() -> None:
    """Pulse followed effort by five minutes all day."""
    record = explained(window([9.0, 8.6, 9.2, 0.1], day=day()))
    assert "lead-lag" in record.methods_used
    found = {(one.leader, one.follower): one for one in record.evidence.related}
    assert found["effort", "pulse"].lag_minutes == 5
    assert found["effort", "pulse"].correlation > 0.5
    assert "effort leads pulse by 5 minutes" in record.as_text()


def test_too_short_a_day_is_said_to_be() -> None:
    """Ten windows tell nothing of who leads."""
    record = explained(window([9.0, 8.6, 9.2, 0.1], day=day()[:10]))
    assert any(reason.startswith("lead-lag: too little known") for reason in record.degraded)


def test_a_fast_explanation_consults_neither() -> None:
    """It names what it was given anyway, and no network."""
    record = Explainer(catalogue()).explain(window([9.0, 8.6, 9.2, 0.1], day=day()))
    assert record.evidence.network is None
    assert record.evidence.related == ()


def test_a_day_of_other_streams_is_refused() -> None:
    """The message names what does not fit."""
    with pytest.raises(InputError, match="day"):
        window([0.0, 0.0, 0.0, 0.0], day=np.zeros((288, 3)))
