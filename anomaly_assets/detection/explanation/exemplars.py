"""Courses of events that people have named: what is remembered of labelled anomalies.

A template states how a course usually goes; exemplars tell how it went for this very entity. Both
are matched in the same way, see :mod:`~anomaly_assets.detection.explanation.matching`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from anomaly_assets.detection.explanation.events import STATES, SUMMARIES, EventSequence
from anomaly_assets.errors import InputError
from anomaly_assets.streams.catalogue import SequenceStep, SequenceTemplate

#: Exemplars that are kept of each name.
KEPT_PER_NAME = 30
#: Exemplars of the same events whose onsets differ by no more than this many minutes are one.
SAME_WITHIN = 1.0
#: Minutes after its first event that a course of events may take, as templates allow.
LONGEST = 60.0
#: Weight of states and summaries beside a stream's own events. They hold in most courses, so with
#: the same weight a single label would be recognised in any sudden change of several streams.
GENERAL_WEIGHT = 0.25
#: Names of exemplars and events, as the catalogue allows them.
_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One labelled course of events.

    Parameters
    ----------
    name
        What it is an exemplar of: the name of a template, or one of the labellers' own.
    title
        The same for people.
    events
        Names of its events with the minutes from the first of them to each, in [0, 60]; states,
        such as ``normal_state``, stand at 0.
    recommended_action
        What to do about it.
    count
        How many labelled anomalies went this way.

    Raises
    ------
    InputError
        If a name is unusable, there are no events, or an offset or the count is out of range.
    """

    name: str
    title: str
    events: tuple[tuple[str, float], ...]
    recommended_action: str
    count: int = 1

    def __post_init__(self) -> None:
        """Refuse what could not be matched later."""
        for what in (self.name, *(event for event, _ in self.events)):
            if not _NAME.fullmatch(what):
                msg = (
                    f"exemplar {self.name!r}: {what!r} is no name; use lower-case letters, digits "
                    "and underscores, beginning with a letter"
                )
                raise InputError(msg)
        if not self.events:
            msg = (
                f"exemplar {self.name!r} has no events; label a window in which something happened"
            )
            raise InputError(msg)
        for event, offset in self.events:
            if not 0.0 <= offset <= LONGEST:
                msg = (
                    f"exemplar {self.name!r}: {event!r} comes after {offset} minutes; give 0 to "
                    f"{LONGEST:.0f}"
                )
                raise InputError(msg)
        if self.count < 1:
            msg = f"exemplar {self.name!r} has count {self.count}; it was labelled at least once"
            raise InputError(msg)
        if len(self.recommended_action) < 8:
            msg = f"exemplar {self.name!r}: say in recommended_action what to do about it"
            raise InputError(msg)

    @classmethod
    def of(cls, sequence: EventSequence, *, name: str, title: str, recommended_action: str) -> Self:
        """Remember a sequence that somebody has named.

        Raises
        ------
        InputError
            If nothing happened in the sequence.
        """
        first = sequence.events[0].minute if sequence.events else 0
        timed = [
            (event.name, float(event.minute - first))
            for event in sequence.events
            if event.minute - first <= LONGEST
        ]
        if not timed:
            msg = f"nothing happened in the sequence labelled {name!r}; label the window itself"
            raise InputError(msg)
        states = [(state, 0.0) for state in sorted(sequence.states)]
        return cls(name, title, (*states, *timed), recommended_action)

    @property
    def template(self) -> SequenceTemplate:
        """The exemplar as a template; what belongs to no stream has :data:`GENERAL_WEIGHT`."""
        return SequenceTemplate(
            name=self.name,
            title=self.title,
            steps=tuple(
                SequenceStep(
                    event=event,
                    offset_minutes=offset,
                    weight=GENERAL_WEIGHT if event in STATES | SUMMARIES else 1.0,
                )
                for event, offset in self.events
            ),
            recommended_action=self.recommended_action,
        )

    def is_like(self, other: Exemplar) -> bool:
        """Whether both went the same way, within a minute."""
        return (
            self.name == other.name
            and len(self.events) == len(other.events)
            and all(
                mine[0] == theirs[0] and math.fabs(mine[1] - theirs[1]) <= SAME_WITHIN
                for mine, theirs in zip(self.events, other.events, strict=True)
            )
        )


class ExemplarMemory:
    """The exemplars of one entity, at most :data:`KEPT_PER_NAME` of each name.

    Parameters
    ----------
    exemplars
        What is remembered from the beginning, oldest first.
    """

    version = 1

    def __init__(self, exemplars: Iterable[Exemplar] = ()) -> None:
        self._exemplars: list[Exemplar] = []
        for exemplar in exemplars:
            self.learn(exemplar)

    @property
    def exemplars(self) -> tuple[Exemplar, ...]:
        """Everything that is remembered, oldest first."""
        return tuple(self._exemplars)

    def learn(self, exemplar: Exemplar) -> None:
        """Remember an exemplar.

        One that is like an earlier one adds to its count. Where a name has too many, the oldest of
        those that occurred least often is forgotten.
        """
        for index, known in enumerate(self._exemplars):
            if known.is_like(exemplar):
                self._exemplars[index] = replace(known, count=known.count + exemplar.count)
                return
        self._exemplars.append(exemplar)
        of_name = [i for i, known in enumerate(self._exemplars) if known.name == exemplar.name]
        if len(of_name) > KEPT_PER_NAME:
            # The newest may not be the one to go, or nothing new would ever be learnt.
            del self._exemplars[min(of_name[:-1], key=lambda i: self._exemplars[i].count)]

    def forget(self, name: str) -> int:
        """Forget every exemplar of a name; return how many there were."""
        kept = [exemplar for exemplar in self._exemplars if exemplar.name != name]
        forgotten = len(self._exemplars) - len(kept)
        self._exemplars = kept
        return forgotten

    def to_dict(self) -> dict[str, Any]:
        """Return the memory as JSON-safe builtins."""
        return {
            "version": self.version,
            "exemplars": [
                {
                    "name": one.name,
                    "title": one.title,
                    "events": [list(event) for event in one.events],
                    "recommended_action": one.recommended_action,
                    "count": one.count,
                }
                for one in self._exemplars
            ],
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Read back what :meth:`to_dict` wrote.

        Raises
        ------
        InputError
            If a field is absent or unusable, or the version is another one.
        """
        try:
            if plain["version"] != cls.version:
                msg = f"exemplars of version {plain['version']!r}; this release reads {cls.version}"
                raise InputError(msg)
            return cls(
                Exemplar(
                    name=one["name"],
                    title=one["title"],
                    events=tuple((str(event), float(offset)) for event, offset in one["events"]),
                    recommended_action=one["recommended_action"],
                    count=int(one["count"]),
                )
                for one in plain["exemplars"]
            )
        except (KeyError, TypeError, AttributeError) as error:
            msg = f"no exemplars: {error!r}; give what ExemplarMemory.to_dict returned"
            raise InputError(msg) from error
