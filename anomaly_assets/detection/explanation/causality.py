"""What the causal network and lead-lag say of a window, and the causes that follow from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anomaly_assets.detection.explanation.cause import Cause, CauseKind, cause_of
from anomaly_assets.detection.explanation.facts import ANOMALOUS, LEVELS, WindowFacts
from anomaly_assets.detection.explanation.lead_lag import LeadLag, LeadLagFinding
from anomaly_assets.detection.explanation.network.attribution import Attributor, NetworkFindings
from anomaly_assets.detection.explanation.network.model import STALE_AFTER_SECONDS, CausalNetwork
from anomaly_assets.detection.explanation.network.onset import frozen_residuals
from anomaly_assets.detection.explanation.record import (
    Attribution,
    NetworkEvidence,
    RelatedStreams,
)
from anomaly_assets.detection.explanation.wording import listed
from anomaly_assets.streams.windows import FloatArray

#: A stream further than this many of its scales from its level has something to be explained.
DEVIATING = 3.0
#: A root less probable than this is no candidate for a cause.
PROBABLE = 0.3
#: Streams that are compared by lead-lag, the most anomalous first; more would cost each of them.
COMPARED = 12
#: Findings that are told.
TOLD = 5


@dataclass(frozen=True)
class Causality:
    """What is known of causes beyond the window's own scores.

    Parameters
    ----------
    network
        The network consulted; None where there is none fit for use.
    findings
        What it says; None where it says nothing of this window.
    residuals
        Distance of each stream from its level before the onset in the network's scales, shape
        ``(n_streams,)``; NaN where unknown.
    related
        Streams that lead or follow one another, or move together.
    used, degraded
        Names of the methods that were consulted, and what kept the others from it.
    """

    network: CausalNetwork | None = None
    findings: NetworkFindings | None = None
    residuals: FloatArray | None = None
    related: tuple[LeadLagFinding, ...] = ()
    used: tuple[str, ...] = ()
    degraded: tuple[str, ...] = ()


def causality_of(facts: WindowFacts, attributor: Attributor | None) -> Causality:
    """Consult the network and the lead-lag analysis.

    Parameters
    ----------
    facts
        The window.
    attributor
        Of the evidence's network; None where there is none.
    """
    used, degraded = [], []
    network, findings, residuals = facts.evidence.network, None, None
    problem = _network_problem(facts)
    if attributor is None or network is None or problem:
        network = None
        degraded.append(f"causal network: {problem}")
    else:
        residuals = _residuals(facts, network)
        findings = attributor.explain(residuals, target=_target(facts, network))
        if findings.target is None:
            degraded.append("causal network: none of its streams was observed before and now")
        else:
            used.append("causal network")
    related, problem = _related(facts)
    if problem:
        degraded.append(f"lead-lag: {problem}")
    else:
        used.append("lead-lag")
    return Causality(network, findings, residuals, related, tuple(used), tuple(degraded))


def upstream_causes(facts: WindowFacts, causality: Causality) -> list[Cause]:
    """Return the streams in which the network sees the anomaly of another stream begin."""
    findings, residuals = causality.findings, causality.residuals
    if findings is None or findings.target is None or residuals is None:
        return []
    of = facts.of
    target = of.catalogue.index(findings.target)
    if not abs(float(residuals[target])) >= DEVIATING:
        return []
    believed = max(float(np.nan_to_num(facts.score[target])), facts.voice(LEVELS))
    if not believed >= ANOMALOUS:
        return []
    causes = []
    for root in findings.roots:
        stream = of.catalogue.index(root.stream)
        if root.probability < PROBABLE or stream == target or root.path[-1] != findings.target:
            continue
        names = [of.names[of.catalogue.index(node)] for node in root.path]
        share = findings.contributions.get(root.stream, 0.0)
        how = "was not observed" if np.isnan(residuals[stream]) else _moved(residuals[stream])
        sentence = (
            f"{facts.where_expected(target)}; it follows {names[0]}, which {how} "
            f"({100.0 * share:.0f} % of the change, by way of {listed(names[1:], most=5)})."
        )
        strength = (0.5 + 0.4 * root.probability) * believed
        title = f"change of {names[0]}"
        streams = tuple(of.catalogue.index(node) for node in root.path)
        causes.append(cause_of(CauseKind.UPSTREAM, title, strength, sentence, streams))
    return causes


def attribution_by(causality: Causality) -> Attribution | None:
    """Return the network's shares in its target's deviation; None where it knows none."""
    findings = causality.findings
    if findings is None or findings.target is None or not np.isfinite(findings.unexplained):
        return None
    return Attribution(
        contributions=dict(findings.contributions),
        unexplained=findings.unexplained,
        offsetting=findings.offsetting,
        target=findings.target,
        method="causal network",
    )


def network_evidence(facts: WindowFacts, causality: Causality) -> NetworkEvidence | None:
    """Describe the network consulted, for the record."""
    network, findings = causality.network, causality.findings
    if network is None or findings is None or findings.target is None:
        return None
    quality = network.fit_quality
    return NetworkEvidence(
        fitted_at=network.fitted_at,
        age_minutes=network.age(facts.evidence.window_start) / 60.0,
        fit_quality=quality if np.isfinite(quality) else None,
        roots={root.stream: root.probability for root in findings.roots},
        other=findings.other,
        path=findings.roots[0].path if findings.roots else (),
    )


def related_streams(facts: WindowFacts, causality: Causality) -> tuple[RelatedStreams, ...]:
    """Describe the surest relationships, for the record."""
    ids = facts.of.catalogue.stream_ids
    return tuple(
        RelatedStreams(
            leader=ids[found.leader],
            follower=ids[found.follower],
            lag_minutes=found.lag_minutes,
            correlation=found.correlation,
            kind=found.kind,
        )
        for found in causality.related[:TOLD]
    )


def _network_problem(facts: WindowFacts) -> str:
    """Say why the network cannot be used; nothing if it can."""
    evidence = facts.evidence
    if evidence.network is None:
        return evidence.network_problem or "none fitted"
    age = evidence.network.age(evidence.window_start)
    if age > STALE_AFTER_SECONDS:
        return f"stale, fitted {age / 3600.0:.0f} hours before"
    if evidence.network.structure.streams != facts.of.catalogue.stream_ids:
        return "fitted for the streams of another catalogue"
    return ""


def _residuals(facts: WindowFacts, network: CausalNetwork) -> FloatArray:
    rows = np.concatenate((facts.history, facts.values[None, :]))
    onset = max(len(facts.history) - facts.windows_since_onset, 0)
    scale = network.scale[list(network.structure.stream_positions)]
    return frozen_residuals(rows, onset, scale=scale)


def _target(facts: WindowFacts, network: CausalNetwork) -> str | None:
    """Return the most anomalous stream that the network knows; None where none is anomalous."""
    ids = facts.of.catalogue.stream_ids
    known = (
        ids[i]
        for i in facts.ranked
        if facts.score[i] >= ANOMALOUS and ids[i] not in network.left_out
    )
    return next(known, None)


def _related(facts: WindowFacts) -> tuple[tuple[LeadLagFinding, ...], str]:
    """Compare the most anomalous streams over the day before; say what kept one from it."""
    day = facts.evidence.day
    if day is None:
        return (), "no day before the window given"
    streams = [i for i in facts.ranked if facts.available[i]][:COMPARED]
    if len(streams) < 2:
        return (), "fewer than two streams with a score"
    compared = LeadLag(day[:, streams])
    if len(compared.left_out) > len(streams) - 2:
        return (), f"too little known of the day before: {next(iter(compared.left_out.values()))}"
    found = compared.findings()
    return tuple(
        LeadLagFinding(
            streams[one.leader],
            streams[one.follower],
            one.lag_minutes,
            one.correlation,
            one.q_value,
            one.n_pairs,
            one.kind,
        )
        for one in found
    ), ""


def _moved(residual: float) -> str:
    return f"{'rose' if residual > 0.0 else 'fell'} by {abs(residual):.1f} of its usual scales"
