"""Known courses of events as causes of an anomaly."""

from __future__ import annotations

import numpy as np

from anomaly_assets.detection.explanation.cause import Cause, CauseKind
from anomaly_assets.detection.explanation.events import (
    MULTIPLE_STREAMS,
    MULTIPLE_STREAMS_AFFECTED,
    ON,
    SUDDEN_ANOMALY,
    Event,
)
from anomaly_assets.detection.explanation.facts import ANOMALOUS, WindowFacts
from anomaly_assets.detection.explanation.matching import SequenceMatch
from anomaly_assets.detection.explanation.wording import capitalised, listed, minutes_later

#: Log-odds of one step of evidence. Calibrated on simulated courses of events, where probabilities
#: stay a little below frequencies: unlike there, the true cause need not be among the templates.
PER_STEP = 2.0
#: Log-odds that a course of events loses if none of the anomaly belongs to its streams.
UNACCOUNTED = 6.0
#: A template that agrees less than this is no candidate.
LEAST_SIMILARITY = 0.3


def matched_sequences(facts: WindowFacts) -> list[Cause]:
    """Return the known courses of events that agree, the best supported first."""
    candidates = []
    for match in facts.matches:
        if match.similarity < LEAST_SIMILARITY:
            continue
        borne_out, streams = _borne_out(facts, match)
        log_odds = PER_STEP * (match.evidence_of(match.similarity * borne_out) + match.recalled)
        log_odds -= UNACCOUNTED * (1.0 - facts.accounted_for(streams))
        candidates.append((log_odds, match, streams))
    candidates.sort(key=lambda candidate: -candidate[0])
    return [
        Cause(
            CauseKind.SEQUENCE,
            match.template.title,
            log_odds,
            # Only the best one can be the primary cause, whose sentence is told.
            "" if position else capitalised(_sequence_sentence(facts, match)),
            match.template.recommended_action,
            streams,
            match,
        )
        for position, (log_odds, match, streams) in enumerate(candidates)
    ]


def _borne_out(facts: WindowFacts, match: SequenceMatch) -> tuple[float, tuple[int, ...]]:
    """Return the share of the matched events that the windows show too, and their streams.

    Minutes are noisy: with a few dozen streams one or the other leaves its level by chance at any
    time, and anything would look like "several streams at once". What happened is also seen in the
    window's mean.
    """
    shown: dict[int, Event] = {}
    for event in facts.sequence.excursions:
        if _shown(facts, event):
            shown.setdefault(event.stream, event)
    several = _several(facts, tuple(shown))
    held = total = 0.0
    streams: dict[int, None] = {}
    involved: tuple[int, ...]
    for step, event in match.matched:
        weight = match.template.steps[step].weight
        total += weight
        if event.name == MULTIPLE_STREAMS_AFFECTED:
            involved, weight = tuple(shown), weight * several
        elif event.name == SUDDEN_ANOMALY:
            involved = tuple(stream for stream, one in shown.items() if one.sudden)
        else:
            involved = (event.stream,) if _shown(facts, event) else ()
        held += weight if involved else 0.0
        streams.update(dict.fromkeys(involved))
    return (held / total if total else 1.0), tuple(streams)


def _several(facts: WindowFacts, streams: tuple[int, ...]) -> float:
    """Return how far the anomaly is one of several streams, 0 to 1, not of one with bystanders.

    The effective number of streams that it is made of, which must be of more than one group.
    """
    groups = {int(facts.of.group_of[stream]) for stream in streams}
    if len(streams) < MULTIPLE_STREAMS or len(groups) < min(2, len(facts.of.members)):
        return 0.0
    parts = facts.parts[list(streams)]
    squares = float((parts**2).sum())
    effective = float(parts.sum()) ** 2 / squares if squares > 0.0 else 0.0
    return min(max((effective - 1.0) / (MULTIPLE_STREAMS - 1.0), 0.0), 1.0)


def _shown(facts: WindowFacts, event: Event) -> bool:
    """Whether an excursion shows in the mean of its window or of a later one, on the same side."""
    rows = facts.departures[-1 - facts.windows_before(event.minute) :, event.stream]
    up = np.sign(event.peak)
    if bool((up * rows >= ON).any()):
        return True
    return bool(facts.score[event.stream] >= ANOMALOUS and up * facts.deviation[event.stream] > 0)


def _sequence_sentence(facts: WindowFacts, match: SequenceMatch) -> str:
    alike = f"{100.0 * match.similarity:.0f} % similar"
    verdict = f"this matches {_uncapitalised(match.template.title)} ({alike})"
    excursions = {event.stream: event for event in facts.sequence.excursions}
    events = [excursions[e.stream] for _, e in match.matched if e.stream in excursions]
    involved = {event.stream for event in events}
    ranked = [i for i in facts.ranked if i in involved and np.isfinite(facts.expected[i])]
    if not ranked:
        what = listed(
            [
                f"{facts.of.names[event.stream]} {_rose(event.peak)} at "
                f"{facts.clock.time(facts.minute_time(event.minute))}"
                for event in {e.stream: e for e in events}.values()
            ]
        )
        return f"{what}: {verdict}."
    top = ranked[0]
    own = excursions[top]
    others = [e for e in events if e.stream != top and e.minute <= own.minute]
    first = min(others, key=lambda event: event.minute, default=None)
    sentence = facts.where_expected(top)
    if first is not None:
        onset = facts.minute_time(own.minute)
        before = (
            f"{minutes_later(own.minute - first.minute)} {facts.of.names[first.stream]} "
            f"{_rose(first.peak)}"
        )
        if onset == facts.evidence.window_start:
            sentence += f", {before}"
        else:
            sentence += f"; it {_rose(own.peak)} at {facts.clock.time(onset)}, {before}"
    return f"{sentence}: {verdict}."


def _rose(peak: float) -> str:
    return "rose" if peak > 0.0 else "fell"


def _uncapitalised(title: str) -> str:
    return title if title[1:2].isupper() else title[:1].lower() + title[1:]
