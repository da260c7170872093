"""The explainer: from what the tiers say of a window to one record for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from anomaly_assets.detection.explanation.causality import (
    Causality,
    attribution_by,
    causality_of,
    network_evidence,
    related_streams,
    upstream_causes,
)
from anomaly_assets.detection.explanation.cause import CauseKind
from anomaly_assets.detection.explanation.causes import Cause, possible_causes
from anomaly_assets.detection.explanation.episodes import Episode
from anomaly_assets.detection.explanation.events import Event
from anomaly_assets.detection.explanation.evidence import WindowEvidence
from anomaly_assets.detection.explanation.exemplars import ExemplarMemory
from anomaly_assets.detection.explanation.facts import CatalogueFacts, WindowFacts
from anomaly_assets.detection.explanation.matching import SequenceMatch
from anomaly_assets.detection.explanation.network.attribution import Attributor
from anomaly_assets.detection.explanation.network.model import CausalNetwork
from anomaly_assets.detection.explanation.record import (
    OTHER,
    Alternative,
    Evidence,
    Explanation,
    MatchedSequence,
    StreamEvidence,
    TimelineEntry,
    anomaly_id,
)
from anomaly_assets.detection.explanation.wording import known
from anomaly_assets.errors import InputError
from anomaly_assets.streams.catalogue import Catalogue

#: Share that always stays with a cause nobody thought of.
LEAST_OTHER = 0.05
#: Confidence cannot exceed this where fewer than `ENOUGH_OBSERVED` of the streams were there.
CONFIDENCE_CAP = 0.6
ENOUGH_OBSERVED = 0.6


class Mode(StrEnum):
    """How thorough an explanation is."""

    FAST = "fast"
    THOROUGH = "thorough"


@dataclass(frozen=True, slots=True)
class _Extent:
    """What a mode looks at: minutes before the window, alternatives, streams, timeline entries."""

    lookback: int
    alternatives: int
    streams: int
    timeline: int


_EXTENTS = {
    Mode.FAST: _Extent(lookback=10, alternatives=2, streams=5, timeline=12),
    Mode.THOROUGH: _Extent(lookback=60, alternatives=5, streams=10, timeline=40),
}


class Explainer:
    """Explains windows, each for itself; it keeps no state and consults no clock.

    Parameters
    ----------
    catalogue
        The streams and the templates.
    mode
        ``fast`` matches the fifteen minutes up to the window's end with the templates and names two
        alternatives; ``thorough`` takes the hour before the window, consults the causal network
        and lead-lag too, and names five.
    exemplars
        Courses of events that people have named, matched beside the templates.
    """

    version = 2

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        mode: Mode = Mode.FAST,
        exemplars: ExemplarMemory | None = None,
    ) -> None:
        self.mode = Mode(mode)
        self._of = CatalogueFacts.of(catalogue, exemplars)
        self._extent = _EXTENTS[self.mode]
        self._attributor: Attributor | None = None

    def explain(self, evidence: WindowEvidence) -> Explanation:
        """Explain one window.

        Parameters
        ----------
        evidence
            What the tiers say of it; the same evidence always gives the same record.

        Returns
        -------
        Explanation
            The record; without any usable evidence it says so.

        Raises
        ------
        InputError
            If the evidence is about another number of streams than the catalogue.
        """
        self._check(evidence)
        facts = WindowFacts(self._of, evidence, self._extent.lookback)
        causality = Causality()
        if self.mode is Mode.THOROUGH:
            causality = causality_of(facts, self._attributor_of(evidence.network))
        causes = [*possible_causes(facts), *upstream_causes(facts, causality)]
        causes.sort(key=lambda cause: -cause.log_odds)
        primary = causes[0]
        probabilities = _probabilities([cause.log_odds for cause in causes])
        used, degraded = self._methods(facts)
        episode = evidence.episode or Episode.of_window(evidence.window_start, evidence.score)
        return Explanation(
            anomaly_id=anomaly_id(evidence.entity_id, episode.start),
            entity_id=evidence.entity_id,
            time_zone=evidence.time_zone,
            window_start=evidence.window_start,
            episode_start=episode.start,
            episode_end=episode.end,
            windows=episode.windows,
            peak_score=known(episode.peak_score),
            ongoing=episode.ongoing,
            mode=self.mode.value,
            trigger=evidence.trigger,
            score=known(evidence.score),
            score_confidence=known(evidence.confidence),
            summary=primary.sentence,
            primary_cause=primary.title,
            cause_kind=primary.kind.value,
            cause_streams=self._ids(primary.streams),
            confidence=_confidence(facts, causality, primary, probabilities[0]),
            causal_attribution=attribution_by(causality) or facts.attribution,
            temporal_sequence=self._timeline(facts),
            evidence=Evidence(
                matched_sequence=_matched_sequence(facts, primary.match),
                streams=self._streams(facts, primary),
                context=facts.context,
                network=network_evidence(facts, causality),
                related=related_streams(facts, causality),
                clock=next((cause.clock for cause in causes if cause.clock is not None), None),
            ),
            primary_probability=probabilities[0],
            alternative_explanations=self._alternatives(causes, probabilities),
            recommended_action=primary.action,
            missing_streams=self._ids(np.nonzero(~facts.available)[0].tolist()),
            methods_used=used + causality.used,
            degraded=degraded + causality.degraded,
        )

    def _attributor_of(self, network: CausalNetwork | None) -> Attributor | None:
        """Return what explains by a network; the last one is kept, for the windows that follow."""
        if network is None:
            return None
        if self._attributor is None or self._attributor.network is not network:
            self._attributor = Attributor(network)
        return self._attributor

    def _check(self, evidence: WindowEvidence) -> None:
        """Refuse evidence about the streams of another catalogue."""
        n_streams = len(self._of.names)
        if len(evidence.values) != n_streams:
            msg = (
                f"entity {evidence.entity_id!r}: evidence of {len(evidence.values)} streams, the "
                f"catalogue {self._of.catalogue.name!r} has {n_streams}; use the catalogue it was "
                "aggregated with"
            )
            raise InputError(msg)
        n_groups, arrivals = len(self._of.members), evidence.arrivals
        if arrivals is not None and arrivals.lag.shape[1] != n_groups:
            msg = (
                f"entity {evidence.entity_id!r}: arrivals of {arrivals.lag.shape[1]} groups, the "
                f"catalogue {self._of.catalogue.name!r} has {n_groups}; read them by its groups"
            )
            raise InputError(msg)

    def _ids(self, positions: Sequence[int]) -> tuple[str, ...]:
        return tuple(self._of.catalogue.stream_ids[i] for i in positions)

    def _alternatives(
        self, causes: list[Cause], probabilities: list[float]
    ) -> tuple[Alternative, ...]:
        """Name the next best causes; all the rest is "other"."""
        named = [
            Alternative(cause.kind.value, cause.title, probability, self._ids(cause.streams))
            for cause, probability in zip(causes, probabilities, strict=True)
        ][1 : 1 + self._extent.alternatives]
        rest = 1.0 - probabilities[0] - sum(other.probability for other in named)
        return (*named, Alternative(OTHER, "another cause", max(rest, 0.0)))

    def _streams(self, facts: WindowFacts, primary: Cause) -> tuple[StreamEvidence, ...]:
        """Describe the streams of the primary cause, then the most anomalous others."""
        order = dict.fromkeys((*primary.streams, *facts.ranked))
        stand_out = [i for i in order if i in primary.streams or facts.score[i] >= 0.5]
        return tuple(
            StreamEvidence(
                stream=self._of.catalogue.stream_ids[i],
                name=self._of.names[i],
                unit=self._of.catalogue.streams[i].unit,
                actual=known(facts.values[i]),
                expected=known(facts.expected[i]),
                deviation=known(facts.deviation[i]),
                score=known(facts.score[i]),
            )
            for i in (stand_out or facts.ranked[:1])[: self._extent.streams]
        )

    def _timeline(self, facts: WindowFacts) -> tuple[TimelineEntry, ...]:
        """Tell the strongest excursions in the order in which they began."""
        events = facts.sequence.excursions
        if len(events) > self._extent.timeline:
            strongest = sorted(events, key=lambda event: -abs(event.peak))
            kept = set(strongest[: self._extent.timeline])
            events = tuple(event for event in events if event in kept)
        return tuple(_entry(facts, event) for event in events)

    def _methods(self, facts: WindowFacts) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Say what was consulted and what was not there."""
        used, degraded = [], []
        evidence = facts.evidence
        minutes = self._extent.lookback + 5
        for there, method, absent in (
            (bool(facts.ranked), "stream scores", "stream scores: none known in this window"),
            (
                facts.has_minutes and bool(self._of.matcher.templates),
                "sequence matching",
                "sequence matching: the catalogue has no templates"
                if facts.has_minutes
                else f"sequence matching: no readings by the minute in the last {minutes} minutes",
            ),
            (evidence.gaps is not None, "gap patterns", "gap patterns: none given"),
            (
                evidence.cross_stream is not None,
                "cross-stream scores",
                "cross-stream scores: none given",
            ),
            (len(facts.history) > 0, "history", "history: no earlier window given"),
        ):
            if there:
                used.append(method)
            else:
                degraded.append(absent)
        return tuple(used), tuple(degraded)


def _probabilities(log_odds: list[float]) -> list[float]:
    """Turn log-odds against "another cause" into probabilities that leave it a share."""
    weights = np.exp(np.clip(np.array(log_odds), -30.0, 30.0))
    shares = (1.0 - LEAST_OTHER) * weights / (weights.sum() + 1.0)
    return [float(share) for share in shares]


def _confidence(
    facts: WindowFacts, causality: Causality, primary: Cause, probability: float
) -> float:
    """Probability of the cause, capped where too little was observed to be sure.

    Absence is no lack of evidence where the cause is an absence.
    """
    if primary.kind is CauseKind.UPSTREAM and causality.findings is not None:
        probability = min(probability, causality.findings.confidence_cap)
    about_absence = bool(primary.streams) and not facts.available[list(primary.streams)].any()
    observed = float(facts.available.mean())
    if observed < ENOUGH_OBSERVED and observed > 0.0 and not about_absence:
        return min(probability, CONFIDENCE_CAP)
    return probability


def _matched_sequence(facts: WindowFacts, match: SequenceMatch | None) -> MatchedSequence | None:
    """Describe the template of the primary cause, or the best one that agrees at all."""
    if match is None:
        match = next((best for best in facts.matches if best.similarity > 0.0), None)
    if match is None:
        return None
    observable = facts.sequence.observable
    found = {match.template.steps[number].event for number, _ in match.matched} | {*match.states}
    return MatchedSequence(
        template=match.template.name,
        title=match.template.title,
        similarity=match.similarity,
        coverage=match.coverage,
        matched_events=tuple(s.event for s in match.template.steps if s.event in found),
        unobserved_events=tuple(s.event for s in match.template.steps if s.event not in observable),
        forbidden_events=match.forbidden,
    )


def _entry(facts: WindowFacts, event: Event) -> TimelineEntry:
    at = facts.minute_time(event.minute)
    verb = "increased" if event.peak > 0.0 else "decreased"
    return TimelineEntry(
        at=at,
        local_time=facts.clock.time(at),
        event=event.name,
        stream=facts.of.catalogue.stream_ids[event.stream],
        text=f"{facts.of.names[event.stream]} {verb}",
    )
