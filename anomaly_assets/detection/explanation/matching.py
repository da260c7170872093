"""How well a sequence of events agrees with known courses of events.

A Needleman-Wunsch alignment in which a step's reward falls with its distance from where the
template expects it, events within a minute of each other have no order, and what could not be
observed does not count. Only pairs of equal names can be aligned, so the table is walked pair by
pair.

References
----------
Needleman, S. B. and Wunsch, C. D. (1970). A general method applicable to the search for
similarities in the amino acid sequence of two proteins. Journal of Molecular Biology 48(3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from anomaly_assets.detection.explanation.events import STATES, SUMMARIES, Event, EventSequence
from anomaly_assets.streams.catalogue import SequenceStep, SequenceTemplate

#: Width of the lag kernel, minutes.
LAG_SIGMA = 6.0
#: Events closer than this have no order, minutes.
TIE = 1.0
#: What a forbidden event takes from the rewards, in the weight of an average step.
FORBIDDEN_PENALTY = 0.6
#: What an event that belongs to other templates takes away, in the same measure.
EXTRA_PENALTY = 0.15
#: How much a missed step speaks against a template, relative to a matched one speaking for it.
MISSED = 0.7


@dataclass(frozen=True, slots=True)
class SequenceMatch:
    """Agreement of a sequence with one template.

    Parameters
    ----------
    template
        The template.
    similarity
        Agreement with what could be observed of it, in [0, 1].
    coverage
        Share of the template's weight that could be observed, in [0, 1].
    matched
        Aligned events as pairs (number of the template's step, event), by step.
    states
        The template's states that held.
    forbidden
        Forbidden events that occurred.
    """

    template: SequenceTemplate
    similarity: float
    coverage: float
    matched: tuple[tuple[int, Event], ...]
    states: tuple[str, ...]
    forbidden: tuple[str, ...]

    @property
    def evidence(self) -> float:
        """How much the sequence speaks for the template, in observed steps.

        A matched step speaks for it, a missed one against it, an unobservable one is silent: three
        of three steps are more evidence than one of one, though both are 100 % similar.
        """
        observed_steps = self.coverage * len(self.template.steps)
        return observed_steps * ((1.0 + MISSED) * self.similarity - MISSED)


class SequenceMatcher:
    """Matches sequences of events with templates.

    Parameters
    ----------
    templates
        Known courses of events.
    """

    def __init__(self, templates: Sequence[SequenceTemplate]) -> None:
        self.templates = tuple(templates)
        named = {step.event for template in self.templates for step in template.steps}
        named.update(*(template.forbidden for template in self.templates))
        self._telling = frozenset(named) - SUMMARIES - STATES

    def match(self, sequence: EventSequence) -> tuple[SequenceMatch, ...]:
        """Match a sequence with every template.

        Parameters
        ----------
        sequence
            What was observed.

        Returns
        -------
        tuple of SequenceMatch
            One for each template, by falling evidence, then in the order of the templates.
        """
        occurred = {event.name for event in sequence.events} | sequence.states
        telling = [event for event in sequence.events if event.name in self._telling]
        matches = [self._match(t, sequence, occurred, telling) for t in self.templates]
        return tuple(sorted(matches, key=lambda match: -match.evidence))

    def _match(
        self,
        template: SequenceTemplate,
        sequence: EventSequence,
        occurred: AbstractSet[str],
        telling: Sequence[Event],
    ) -> SequenceMatch:
        """Match one template; `telling` are the events that count when nothing explains them."""
        total = sum(step.weight for step in template.steps)
        observable = sum(s.weight for s in template.steps if s.event in sequence.observable)
        unit = total / len(template.steps)
        matched, reward = _align(template, sequence.events, EXTRA_PENALTY * unit)
        held = [s for s in template.steps if s.event in STATES and s.event in occurred]
        forbidden = tuple(name for name in template.forbidden if name in occurred)
        used = {id(event) for _, event in matched}
        extra = sum(1 for e in telling if id(e) not in used and e.name not in forbidden)
        reward += sum(step.weight for step in held)
        reward -= unit * (EXTRA_PENALTY * extra + FORBIDDEN_PENALTY * len(forbidden))
        # Calm alone is no course of events: something of the template's own must have happened.
        timed = any(step.event not in STATES for step in template.steps)
        possible = observable > 0.0 and (bool(matched) or not timed)
        return SequenceMatch(
            template=template,
            similarity=min(max(reward / observable, 0.0), 1.0) if possible else 0.0,
            coverage=min(observable / total, 1.0),
            matched=matched,
            states=tuple(step.event for step in held),
            forbidden=forbidden,
        )


def _align(
    template: SequenceTemplate, events: Sequence[Event], gap: float
) -> tuple[tuple[tuple[int, Event], ...], float]:
    """Align timed steps with events; return the pairs and the sum of their rewards.

    Every pair in turn fixes where the template lies in time; the best of these alignments is taken.
    `gap` is what an unmatched event costs: matching it saves that much.
    """
    steps = template.steps
    pairs = [
        (number, event, index)
        for number, step in sorted(enumerate(steps), key=lambda item: item[1].offset_minutes)
        if step.event not in STATES
        for index, event in enumerate(events)
        if event.name == step.event
    ]
    follows = _may_follow(pairs, steps)
    best: tuple[float, tuple[int, ...], float] = (0.0, (), 0.0)
    for origin in dict.fromkeys(e.minute - steps[n].offset_minutes for n, e, _ in pairs):
        rewards = [
            steps[number].weight
            * math.exp(
                -0.5 * ((event.minute - origin - steps[number].offset_minutes) / LAG_SIGMA) ** 2
            )
            for number, event, _ in pairs
        ]
        path, value = _heaviest_path(rewards, follows, gap)
        if value > best[0]:
            best = (value, path, sum(rewards[pair] for pair in path))
    matched = sorted((pairs[pair][:2] for pair in best[1]), key=lambda pair: pair[0])
    return tuple(matched), best[2]


def _may_follow(
    pairs: Sequence[tuple[int, Event, int]], steps: Sequence[SequenceStep]
) -> list[list[int]]:
    """List, for every pair, the earlier pairs after which it may come.

    Steps with one offset have no order between them, as events within a tie have none.
    """
    follows: list[list[int]] = []
    for position, (number, event, index) in enumerate(pairs):
        allowed = []
        for other in range(position):
            number_before, before, index_before = pairs[other]
            tie = max(TIE, event.resolution - 1.0, before.resolution - 1.0)
            if (
                number_before != number
                and index_before != index
                and (
                    before.minute <= event.minute + tie
                    or steps[number_before].offset_minutes == steps[number].offset_minutes
                )
            ):
                allowed.append(other)
        follows.append(allowed)
    return follows


def _heaviest_path(
    rewards: Sequence[float], follows: Sequence[Sequence[int]], gap: float
) -> tuple[tuple[int, ...], float]:
    """Return the heaviest chain of pairs, each of which may follow the one before."""
    value: list[float] = []
    previous: list[int] = []
    for position, reward in enumerate(rewards):
        come_from, most = -1, 0.0
        for other in follows[position]:
            if value[other] > most:
                come_from, most = other, value[other]
        value.append(most + reward + gap)
        previous.append(come_from)
    if not value:
        return (), 0.0
    last = max(range(len(value)), key=value.__getitem__)
    path = []
    position = last
    while position >= 0:
        path.append(position)
        position = previous[position]
    return tuple(reversed(path)), value[last]
