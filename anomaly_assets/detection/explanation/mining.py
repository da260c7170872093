"""Courses of events that recur, found among many sequences: suggestions for new templates.

A pattern is a list of different events in order, supported by every sequence in which they follow
each other within half an hour; events a minute apart have no order. Patterns grow event by event,
as fewer sequences support the longer one. What single events would bring about by chance, and what
is part of a longer pattern with as much support, is not suggested.

References
----------
Pei, J. et al. (2001). PrefixSpan: mining sequential patterns efficiently by prefix-projected
pattern growth. Proceedings of the 17th International Conference on Data Engineering.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from anomaly_assets.detection.explanation.events import STATES, SUMMARIES, EventSequence
from anomaly_assets.errors import InputError
from anomaly_assets.streams.catalogue import SequenceStep, SequenceTemplate

#: Events closer than this have no order, minutes.
TIE = 1.0
#: Sequences that support a pattern, at least, whatever share of all they are.
LEAST_SEQUENCES = 3
#: A longer pattern with this share of a shorter one's support makes the shorter one redundant.
REDUNDANT = 0.8
#: Share of the highest lift that its events' frequencies allow, which is enough in any case.
ATTAINABLE = 0.8
#: A step whose onset varies by fewer minutes than this has the full weight.
STEADY = 3.0

#: One way in which a sequence supports a pattern: the minute of each event of the pattern.
_Occurrence = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SuggestedPattern:
    """A course of events that recurs.

    Parameters
    ----------
    events
        Names of its events, in order.
    offsets
        Median minutes from the first event to each.
    spreads
        Interquartile range of those minutes.
    support
        Share of the sequences that show it, in (0, 1].
    count
        Number of them.
    lift
        Times that `support` exceeds what its events would show by chance, were they independent.
    """

    events: tuple[str, ...]
    offsets: tuple[float, ...]
    spreads: tuple[float, ...]
    support: float
    count: int
    lift: float

    def to_template(self, *, name: str, title: str, recommended_action: str) -> SequenceTemplate:
        """Make a template of it; steps whose minute varies much weigh less, but at least half.

        Raises
        ------
        pydantic.ValidationError
            If the name or the action is none that the catalogue accepts.
        """
        return SequenceTemplate(
            name=name,
            title=title,
            steps=tuple(
                SequenceStep(
                    event=event,
                    offset_minutes=offset,
                    weight=round(max(STEADY / max(spread, STEADY), 0.5), 2),
                )
                for event, offset, spread in zip(
                    self.events, self.offsets, self.spreads, strict=True
                )
            ),
            recommended_action=recommended_action,
        )


def frequent_sequences(
    sequences: Sequence[EventSequence],
    *,
    min_support: float = 0.2,
    min_lift: float = 1.5,
    max_length: int = 5,
    within_minutes: float = 30.0,
    known: Sequence[SequenceTemplate] = (),
) -> tuple[SuggestedPattern, ...]:
    """Find courses of events that recur.

    Parameters
    ----------
    sequences
        Sequences of events, one for each anomaly.
    min_support
        Share of the sequences that a pattern must occur in, in (0, 1]; three of them in any case.
    min_lift
        How many times as often as by chance a pattern must occur; less where its events are so
        common that it cannot, as among anomalies of one kind.
    max_length
        Events of a pattern, 2 to 10.
    within_minutes
        Minutes from the first event of a pattern to the last, up to 60.
    known
        Templates; a pattern all of whose events one of them has is no news.

    Returns
    -------
    tuple of SuggestedPattern
        By falling support times number of events, then by name.

    Raises
    ------
    InputError
        If a setting is out of range.
    """
    _check(min_support, max_length, within_minutes)
    rows = [_onsets(sequence) for sequence in sequences]
    needed = max(math.ceil(min_support * len(rows) - 1e-9), LEAST_SEQUENCES)
    counts: dict[str, int] = {}
    for row in rows:
        for name in row:
            counts[name] = counts.get(name, 0) + 1
    frequent = sorted(name for name, count in counts.items() if count >= needed)
    found: dict[frozenset[str], SuggestedPattern] = {}
    for name in frequent:
        start: dict[int, list[_Occurrence]] = {
            number: [(minute,) for minute in row[name]]
            for number, row in enumerate(rows)
            if name in row
        }
        grown = _grown((name,), start, rows, frequent, needed, max_length, within_minutes)
        for events, support in grown:
            pattern = _pattern(events, support, counts, len(rows))
            same = found.get(frozenset(events))
            # Events that come about together are found in either order: the commoner one is told.
            if same is None or pattern.count > same.count:
                found[frozenset(events)] = pattern
    told = {
        events: pattern
        for events, pattern in found.items()
        if pattern.lift >= min(min_lift, ATTAINABLE * _highest_lift(pattern, counts, len(rows)))
        and not any(events <= {step.event for step in template.steps} for template in known)
    }
    kept = [
        pattern
        for events, pattern in told.items()
        if not any(
            events < others and other.count >= REDUNDANT * pattern.count
            for others, other in told.items()
        )
    ]
    return tuple(sorted(kept, key=lambda one: (-one.support * len(one.events), one.events)))


def _check(min_support: float, max_length: int, within_minutes: float) -> None:
    """Refuse settings that make no sense."""
    if not 0.0 < min_support <= 1.0:
        msg = f"min_support is {min_support}; give the share of the sequences, above 0, at most 1"
        raise InputError(msg)
    if not 2 <= max_length <= 10:
        msg = f"max_length is {max_length}; a pattern has 2 to 10 events"
        raise InputError(msg)
    if not 0.0 < within_minutes <= 60.0:
        msg = f"within_minutes is {within_minutes}; templates reach from 0 to 60 minutes"
        raise InputError(msg)


def _onsets(sequence: EventSequence) -> dict[str, list[float]]:
    """Minutes of each event of a sequence; what only sums up others is no event of its own."""
    onsets: dict[str, list[float]] = {}
    for event in sequence.events:
        if event.name not in SUMMARIES and event.name not in STATES:
            onsets.setdefault(event.name, []).append(float(event.minute))
    return onsets


def _grown(
    events: tuple[str, ...],
    support: dict[int, list[_Occurrence]],
    rows: Sequence[dict[str, list[float]]],
    frequent: Sequence[str],
    needed: int,
    max_length: int,
    within_minutes: float,
) -> Iterator[tuple[tuple[str, ...], dict[int, list[_Occurrence]]]]:
    """Yield every frequent pattern that begins with `events`, and where it occurs."""
    if len(events) == max_length:
        return
    for name in frequent:
        if name in events:
            continue
        longer = {}
        for number, occurrences in support.items():
            ways = list(_extended(occurrences, rows[number].get(name, ()), within_minutes))
            if ways:
                longer[number] = ways
        if len(longer) >= needed:
            grown = (*events, name)
            yield grown, longer
            yield from _grown(grown, longer, rows, frequent, needed, max_length, within_minutes)


def _extended(
    occurrences: Sequence[_Occurrence], minutes: Sequence[float], within_minutes: float
) -> Iterator[_Occurrence]:
    """Yield, for each beginning, the pattern with the next event at its earliest minute."""
    for occurrence in occurrences:
        for minute in minutes:
            together = (*occurrence, minute)
            if minute >= occurrence[-1] - TIE and max(together) - min(together) <= within_minutes:
                yield together
                break


def _pattern(
    events: tuple[str, ...],
    support: dict[int, list[_Occurrence]],
    counts: dict[str, int],
    n_sequences: int,
) -> SuggestedPattern:
    """Sum up the occurrences of a pattern, the most compact one of each sequence."""
    chosen = [min(ways, key=lambda way: max(way) - min(way)) for ways in support.values()]
    minutes = np.array(chosen)
    low, median, high = np.quantile(minutes - minutes[:, :1], (0.25, 0.5, 0.75), axis=0)
    # A tie may put a later step's median a moment before the first one's.
    offsets = np.round(median - median.min(), 1)
    order = np.argsort(offsets, kind="stable")
    by_chance = math.prod(counts[name] / n_sequences for name in events)
    share = len(support) / n_sequences
    return SuggestedPattern(
        events=tuple(events[i] for i in order.tolist()),
        offsets=tuple(offsets[order].tolist()),
        spreads=tuple(np.round((high - low)[order], 1).tolist()),
        support=share,
        count=len(support),
        lift=share / by_chance,
    )


def _highest_lift(pattern: SuggestedPattern, counts: dict[str, int], n_sequences: int) -> float:
    """Lift that a pattern would have if its rarest event never came without the others."""
    return (
        min(counts[name] for name in pattern.events) / n_sequences * pattern.lift / pattern.support
    )
