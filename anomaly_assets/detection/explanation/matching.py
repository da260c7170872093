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
from dataclasses import dataclass, replace

from anomaly_assets.detection.explanation.events import STATES, SUMMARIES, Event, EventSequence
from anomaly_assets.detection.explanation.exemplars import ExemplarMemory
from anomaly_assets.streams.catalogue import SequenceStep, SequenceTemplate

#: Width of the lag kernel, minutes.
LAG_SIGMA = 6.0
#: Events closer than this have no order, minutes.
TIE = 1.0
#: What a forbidden event takes from the rewards, in the weight of an average step.
FORBIDDEN_PENALTY = 0.45
#: What an event that belongs to other templates takes away, in the same measure.
EXTRA_PENALTY = 0.2
#: How much a missed step speaks against a template, relative to a matched one speaking for it.
MISSED = 0.7
#: Events this high, in scales, come about by chance all the time, and hardly ever.
CHANCE = 2.0
CERTAIN = 5.0
#: What a matched event of no strength lacks of its reward.
WEAK = 0.5
#: What labelled courses of events count beside the template, and how many of them are asked.
RECALLED = 0.7
MOST_SIMILAR = 3
#: With so many labels of a name they count half of that.
FEW_LABELS = 3


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
    recalled
        Evidence of the labelled courses of events of the same name.
    """

    template: SequenceTemplate
    similarity: float
    coverage: float
    matched: tuple[tuple[int, Event], ...]
    states: tuple[str, ...]
    forbidden: tuple[str, ...]
    recalled: float = 0.0

    @property
    def evidence(self) -> float:
        """How much the sequence speaks for the template, in observed steps.

        A matched step speaks for it, a missed one against it, an unobservable one is silent: three
        of three steps are more evidence than one of one, though both are 100 % similar. What is
        remembered of labelled courses is added.
        """
        return self.evidence_of(self.similarity) + self.recalled

    def evidence_of(self, similarity: float) -> float:
        """Return the evidence that this much agreement would be, nothing recalled."""
        observed_steps = self.coverage * len(self.template.steps)
        return observed_steps * ((1.0 + MISSED) * similarity - MISSED)


class SequenceMatcher:
    """Matches sequences of events with templates, and with labelled courses of events.

    Parameters
    ----------
    templates
        Known courses of events.
    exemplars
        Labelled courses, as they are now; what is learnt later takes a new matcher. Those with the
        name of a template add to it, others stand for a course that has no template.
    """

    def __init__(
        self, templates: Sequence[SequenceTemplate], exemplars: ExemplarMemory | None = None
    ) -> None:
        self.templates = tuple(templates)
        self._labelled: dict[str, list[tuple[SequenceTemplate, int]]] = {}
        for exemplar in exemplars.exemplars if exemplars is not None else ():
            same = self._labelled.setdefault(exemplar.name, [])
            same.append((exemplar.template, exemplar.count))
        named = {step.event for template in self.templates for step in template.steps}
        named.update(*(template.forbidden for template in self.templates))
        self._telling = frozenset(named) - SUMMARIES - STATES

    def match(self, sequence: EventSequence) -> tuple[SequenceMatch, ...]:
        """Match a sequence with every template, and every name that only exemplars have.

        Parameters
        ----------
        sequence
            What was observed.

        Returns
        -------
        tuple of SequenceMatch
            One for each, by falling evidence, then in the order of the templates.
        """
        occurred = {event.name for event in sequence.events} | sequence.states
        telling = [event for event in sequence.events if event.name in self._telling]
        matches = [self._match(t, sequence, occurred, telling) for t in self.templates]
        if self._labelled:
            matches = self._recall(matches, sequence, occurred)
        return tuple(sorted(matches, key=lambda match: -match.evidence))

    def _recall(
        self,
        matches: Sequence[SequenceMatch],
        sequence: EventSequence,
        occurred: AbstractSet[str],
    ) -> list[SequenceMatch]:
        """Add what labelled courses say to the matches of the templates."""
        untold = dict(self._labelled)
        found = []
        for match in matches:
            labelled = untold.pop(match.template.name, [])
            similar = self._most_similar(labelled, sequence, occurred)
            found.append(replace(match, recalled=_recalled(similar, labelled)))
        for labelled in untold.values():
            similar = self._most_similar(labelled, sequence, occurred)
            found.append(replace(similar[0], recalled=_recalled(similar, labelled)))
        return found

    def _most_similar(
        self,
        labelled: Sequence[tuple[SequenceTemplate, int]],
        sequence: EventSequence,
        occurred: AbstractSet[str],
    ) -> list[SequenceMatch]:
        """Return the labelled courses that agree best, each as often as it occurred."""
        found: list[SequenceMatch] = []
        for course, count in labelled:
            match = self._match(course, sequence, occurred, sequence.events)
            found += [match] * min(count, MOST_SIMILAR)
        return sorted(found, key=lambda match: -match.evidence)[:MOST_SIMILAR]

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
        extra = sum(strength(e) for e in telling if id(e) not in used and e.name not in forbidden)
        against = sum(_strongest(name, sequence.events) for name in forbidden)
        reward += sum(step.weight for step in held)
        reward -= unit * (EXTRA_PENALTY * extra + FORBIDDEN_PENALTY * against)
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


def strength(event: Event) -> float:
    """How far an event is to be believed, in [0, 1].

    Of many streams by the minute one or another reaches three scales by chance, hardly ever five.
    """
    return min(max((abs(event.peak) - CHANCE) / (CERTAIN - CHANCE), 0.0), 1.0)


def _strongest(name: str, events: Sequence[Event]) -> float:
    """Strength of the strongest event of a name; 1 for a state, which has no height."""
    return max((strength(event) for event in events if event.name == name), default=1.0)


def _recalled(
    similar: Sequence[SequenceMatch], labelled: Sequence[tuple[SequenceTemplate, int]]
) -> float:
    """Evidence of the labelled courses that agree best, less while there are few labels.

    It is never below 0: else a name nobody has used yet would gain on those that somebody has.
    """
    if not similar:
        return 0.0
    labels = sum(count for _, count in labelled)
    mean = sum(match.evidence for match in similar) / len(similar)
    return max(RECALLED * mean * labels / (labels + FEW_LABELS), 0.0)


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
            * (1.0 - WEAK * (1.0 - strength(event)))
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
