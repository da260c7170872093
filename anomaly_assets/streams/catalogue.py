"""The stream catalogue: what is observed, how it is aggregated, and what is known about it."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from enum import StrEnum
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, NamedTuple, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from anomaly_assets.streams.windows import IntArray

#: Identifiers of streams and groups; a leading underscore is kept for the system's own rows.
Identifier = Annotated[str, Field(pattern=r"^[a-zA-Z][a-zA-Z0-9_.:-]{0,99}$")]
#: An event name as it appears in sequences, such as ``accel_increase``.
EventName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,99}$")]
#: Weekdays as :meth:`datetime.datetime.weekday` counts them.
MONDAY, SUNDAY = 0, 6

Hour = Annotated[float, Field(ge=0.0, le=24.0)]


class StreamType(StrEnum):
    """How a stream behaves, which decides its River model."""

    CONTINUOUS_SMOOTH = "continuous_smooth"
    CONTINUOUS_NOISY = "continuous_noisy"
    DISCRETE_EVENTS = "discrete_events"
    SPORADIC = "sporadic"


class Aggregation(StrEnum):
    """How the readings of one window become one value."""

    MEAN = "mean"
    SUM = "sum"
    LAST = "last"
    COUNT = "count"
    MAX = "max"


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HealthLimits(_Frozen):
    """When a stream is too unhealthy to be predicted, and when its model needs retraining."""

    min_availability: float = Field(default=0.8, ge=0.0, le=1.0)
    availability_window: int = Field(default=48, ge=1, le=2016, description="windows")
    max_consecutive_missing: int = Field(default=48, ge=1, description="windows")
    retrain_after_missing: int = Field(default=144, ge=1, description="windows")
    min_accuracy: float = Field(default=0.8, ge=0.0, le=1.0)


class Stream(_Frozen):
    """One observed stream."""

    id: Identifier
    type: StreamType
    group: Identifier
    unit: str = ""
    description: str = ""
    aggregation: Aggregation = Aggregation.MEAN
    expected_interval: float = Field(
        default=60.0, gt=0.0, allow_inf_nan=False, description="seconds between readings"
    )
    valid_range: tuple[float, float] | None = None
    zero_suppressed: bool = Field(
        default=False,
        description="no reading means 0, as long as a witness stream shows that the device was on",
    )
    witnesses: tuple[Identifier, ...] = Field(
        default=(),
        description="streams whose presence shows that the device was on",
    )
    stuck_after: int | None = Field(
        default=None,
        ge=2,
        description="windows of one unchanged value after which it counts as missing",
    )
    health: HealthLimits = HealthLimits()
    increase_event: EventName | None = None
    decrease_event: EventName | None = None

    @field_validator("valid_range")
    @classmethod
    def _ordered(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not value[0] < value[1]:
            msg = f"valid_range {list(value)} is empty: its first bound must be below its second"
            raise ValueError(msg)
        return value


class Group(_Frozen):
    """Streams that come from one device or describe one thing."""

    id: Identifier
    description: str = ""


class Contexts(_Frozen):
    """Which local hours mean what, for gap patterns and time features."""

    work_hours: tuple[Hour, Hour] = (9.0, 17.0)
    work_days: tuple[int, ...] = (0, 1, 2, 3, 4)
    sleep_hours: tuple[Hour, Hour] = (23.0, 7.0)
    weekend_days: tuple[int, ...] = (5, 6)

    @field_validator("work_days", "weekend_days")
    @classmethod
    def _weekdays(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(not MONDAY <= day <= SUNDAY for day in value):
            msg = f"weekdays run from 0 (Monday) to 6 (Sunday), got {list(value)}"
            raise ValueError(msg)
        return value


class CausalEdge(_Frozen):
    """An expert's statement that one stream (or the time of day) drives another."""

    cause: Identifier
    effect: Identifier
    reason: str = ""


class SequenceStep(_Frozen):
    """One element of a sequence template."""

    event: EventName
    offset_minutes: float = Field(default=0.0, ge=0.0, le=60.0, description="after the first step")
    weight: float = Field(default=1.0, gt=0.0, allow_inf_nan=False)


class SequenceTemplate(_Frozen):
    """A known course of events, such as exercise, and what to do about it."""

    name: EventName
    title: str
    steps: tuple[SequenceStep, ...] = Field(min_length=1)
    forbidden: tuple[EventName, ...] = ()
    recommended_action: str = Field(min_length=8)


TIME_OF_DAY = "time_of_day"

#: Events that templates may name although no single stream produces them: they describe the whole
#: entity, and the sequence analysis derives them from all streams together.
SPECIAL_EVENTS = frozenset(
    {
        "normal_activity",
        "normal_state",
        "sudden_anomaly",
        "multiple_streams_affected",
        "no_movement_change",
    }
)


class Problem(NamedTuple):
    """One thing wrong in a catalogue: where (path of keys and positions) and why."""

    location: tuple[str | int, ...]
    reason: str


class UnresolvedReferencesError(ValueError):
    """Parts of a catalogue that are fine on their own do not fit together.

    A ``ValueError`` because it is raised within pydantic validation, which passes it on.

    Parameters
    ----------
    problems
        Everything that does not fit, in catalogue order.
    """

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("; ".join(problem.reason for problem in problems))
        self.problems = problems


class Catalogue(_Frozen):
    """Everything the system is told about the streams of one kind of entity.

    Use :func:`anomaly_assets.streams.loading.load_catalogue` to read one from YAML: it reports the
    line, the stream and the reason of whatever is wrong.
    """

    name: Identifier
    description: str = ""
    time_zone: str = "UTC"
    groups: tuple[Group, ...] = Field(min_length=1)
    streams: tuple[Stream, ...] = Field(min_length=1)
    contexts: Contexts = Contexts()
    causal_edges: tuple[CausalEdge, ...] = ()
    templates: tuple[SequenceTemplate, ...] = ()

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError) as error:
            msg = f"unknown time zone {value!r}; give an IANA name such as Europe/Berlin"
            raise ValueError(msg) from error
        return value

    @model_validator(mode="after")
    def _references_resolve(self) -> Self:
        problems = (
            *_repeated_names(self),
            *_unknown_groups_and_witnesses(self),
            *_broken_edges(self),
            *_unproduced_events(self),
        )
        if problems:
            raise UnresolvedReferencesError(problems)
        return self

    @cached_property
    def stream_ids(self) -> tuple[str, ...]:
        """Identifiers of the streams in catalogue order: the order of every array's stream axis."""
        return tuple(stream.id for stream in self.streams)

    @cached_property
    def group_ids(self) -> tuple[str, ...]:
        """Identifiers of the groups, in catalogue order: the order of every array's group axis."""
        return tuple(group.id for group in self.groups)

    @cached_property
    def group_of_stream(self) -> IntArray:
        """Index of each stream's group, shape ``(n_streams,)``."""
        return np.array([self.group_ids.index(s.group) for s in self.streams], dtype=np.int64)

    def index(self, stream_id: str) -> int:
        """Return the position of `stream_id` on the stream axis.

        Raises
        ------
        KeyError
            If the catalogue has no such stream.
        """
        try:
            return self.stream_ids.index(stream_id)
        except ValueError:
            raise KeyError(stream_id) from None

    @cached_property
    def event_names(self) -> frozenset[str]:
        """Every event a sequence may hold: those of the streams, and the special ones."""
        produced = (
            event
            for stream in self.streams
            for event in (stream.increase_event, stream.decrease_event)
            if event is not None
        )
        return SPECIAL_EVENTS.union(produced)

    @cached_property
    def witnesses_of_stream(self) -> tuple[IntArray, ...]:
        """Positions of the streams that witness for each stream, in catalogue order.

        Those the catalogue names; else the group's other streams that are not zero-suppressed; else
        every other stream. Empty for a stream that is not zero-suppressed.
        """
        return tuple(self._witnesses(position) for position in range(len(self.streams)))

    def _witnesses(self, position: int) -> IntArray:
        stream = self.streams[position]
        if not stream.zero_suppressed:
            return np.empty(0, dtype=np.int64)
        if stream.witnesses:
            return np.array([self.index(name) for name in stream.witnesses], dtype=np.int64)
        others = [i for i in range(len(self.streams)) if i != position]
        of_group = [
            i
            for i in others
            if self.streams[i].group == stream.group and not self.streams[i].zero_suppressed
        ]
        return np.array(of_group or others, dtype=np.int64)

    def streams_of_type(self, stream_type: StreamType) -> IntArray:
        """Return the positions of the streams of one type."""
        return np.array(
            [i for i, stream in enumerate(self.streams) if stream.type is stream_type],
            dtype=np.int64,
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything in the catalogue; state learnt under another digest is rebuilt."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def _repeated_names(catalogue: Catalogue) -> Iterator[Problem]:
    sections: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
        ("stream", "streams", "id", catalogue.stream_ids),
        ("group", "groups", "id", catalogue.group_ids),
        ("template", "templates", "name", tuple(t.name for t in catalogue.templates)),
    )
    for what, section, key, names in sections:
        seen: set[str] = set()
        for position, name in enumerate(names):
            if name in seen:
                yield Problem((section, position, key), f"{what} {name!r} is defined twice")
            seen.add(name)


def _unknown_groups_and_witnesses(catalogue: Catalogue) -> Iterator[Problem]:
    streams, groups = frozenset(catalogue.stream_ids), frozenset(catalogue.group_ids)
    for position, stream in enumerate(catalogue.streams):
        if stream.group not in groups:
            yield Problem(
                ("streams", position, "group"),
                f"stream {stream.id!r}: unknown group {stream.group!r}; "
                f"the groups are {', '.join(catalogue.group_ids)}",
            )
        for number, witness in enumerate(stream.witnesses):
            if witness not in streams or witness == stream.id:
                yield Problem(
                    ("streams", position, "witnesses", number),
                    f"stream {stream.id!r}: witness {witness!r} is not another stream",
                )


def _broken_edges(catalogue: Catalogue) -> Iterator[Problem]:
    known = frozenset((*catalogue.stream_ids, TIME_OF_DAY))
    causes: TopologicalSorter[str] = TopologicalSorter()
    seen: set[tuple[str, str]] = set()
    for position, edge in enumerate(catalogue.causal_edges):
        subject = f"causal edge {edge.cause!r} -> {edge.effect!r}"
        for key, end in (("cause", edge.cause), ("effect", edge.effect)):
            if end not in known:
                yield Problem(("causal_edges", position, key), f"{subject}: unknown stream {end!r}")
        if edge.effect == TIME_OF_DAY:
            yield Problem(
                ("causal_edges", position, "effect"), f"{subject}: nothing drives the time of day"
            )
        if (edge.cause, edge.effect) in seen:
            yield Problem(("causal_edges", position), f"{subject} is stated twice")
        seen.add((edge.cause, edge.effect))
        causes.add(edge.effect, edge.cause)
    try:
        causes.prepare()
    except CycleError as error:
        yield _cycle(catalogue, error.args[1])


def _cycle(catalogue: Catalogue, path: list[str]) -> Problem:
    """Name a cycle at the last of its edges: the one that most likely closed it."""
    links = set(itertools.pairwise(path))
    last = max(
        position
        for position, edge in enumerate(catalogue.causal_edges)
        if (edge.cause, edge.effect) in links
    )
    edge = catalogue.causal_edges[last]
    return Problem(
        ("causal_edges", last),
        f"causal edge {edge.cause!r} -> {edge.effect!r} closes a cycle: {' -> '.join(path)}; "
        "nothing can be its own cause, so remove one of these edges",
    )


def _unproduced_events(catalogue: Catalogue) -> Iterator[Problem]:
    for position, template in enumerate(catalogue.templates):
        named: list[tuple[tuple[str | int, ...], str]] = [
            (("steps", number, "event"), step.event) for number, step in enumerate(template.steps)
        ]
        named += [(("forbidden", number), event) for number, event in enumerate(template.forbidden)]
        for location, event in named:
            if event not in catalogue.event_names:
                yield Problem(
                    ("templates", position, *location),
                    f"template {template.name!r}: no stream has {event!r} as its increase_event or "
                    f"decrease_event, and it is none of {', '.join(sorted(SPECIAL_EVENTS))}",
                )
