"""Thirty to five hundred streams that cause one another, with labelled faults and missing data.

The streams are those of :func:`~anomaly_assets.evaluation.simulator.generic.synthetic_catalogue`,
ten at a time: the first of ten follows the time of day, the day of the week and a hidden activity
of the ten; each of the others follows an earlier one, up to two windows late, and the time of day.
Time counts in windows here, in equations too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from anomaly_assets.errors import InputError
from anomaly_assets.evaluation.simulator.causality import (
    Equation,
    Intervention,
    Kind,
    Noise,
    Term,
)
from anomaly_assets.evaluation.simulator.faults import FaultKind, InjectedFault
from anomaly_assets.evaluation.simulator.generic import START, synthetic_catalogue
from anomaly_assets.evaluation.simulator.randomness import autoregressive, generator
from anomaly_assets.evaluation.simulator.silence import MissingStreams, silent
from anomaly_assets.evaluation.simulator.solving import solve_equations
from anomaly_assets.streams.catalogue import Catalogue, StreamType
from anomaly_assets.streams.windows import (
    WINDOW_SECONDS,
    WINDOWS_PER_DAY,
    BoolArray,
    FloatArray,
    IntArray,
    WindowBlock,
    WindowRange,
)

ENTITY = "wide"
MOST_STREAMS = 500
WIDE_KINDS = (
    FaultKind.SPIKE,
    FaultKind.LEVEL_SHIFT,
    FaultKind.FLAT_LINE,
    FaultKind.GROUP_OUTAGE,
    FaultKind.DEVICE_DOWN,
    FaultKind.RELATIONSHIP_BREAK,
)
#: Windows that each kind lasts.
_LENGTHS = {
    FaultKind.SPIKE: 1,
    FaultKind.LEVEL_SHIFT: 36,
    FaultKind.FLAT_LINE: 24,
    FaultKind.GROUP_OUTAGE: 12,
    FaultKind.DEVICE_DOWN: 12,
    FaultKind.RELATIONSHIP_BREAK: 12,
}
_TEN = 10
_CONTINUOUS = frozenset({StreamType.CONTINUOUS_SMOOTH, StreamType.CONTINUOUS_NOISY})


@dataclass(frozen=True)
class WideTestBed:
    """What :func:`wide_testbed` returns.

    Parameters
    ----------
    block
        The windows.
    catalogue
        Their streams.
    labels
        Every fault, in order of time; those not visible are marked.
    truth
        The causal equations behind the values; lags count in windows.
    """

    block: WindowBlock
    catalogue: Catalogue
    labels: tuple[InjectedFault, ...]
    truth: tuple[Equation, ...]


def wide_equations(n_streams: int, seed: int) -> tuple[Equation, ...]:
    """Return the causes of every stream, causes before effects.

    Raises
    ------
    InputError
        If `n_streams` is not in [1, 500].
    """
    if n_streams > MOST_STREAMS:
        msg = f"n_streams is {n_streams}; give at most {MOST_STREAMS}"
        raise InputError(msg)
    equations: list[Equation] = []
    parents: list[str] = []
    for number, stream in enumerate(synthetic_catalogue(n_streams).streams):
        rng = generator(seed, ENTITY, stream.id, "equation")
        causes: tuple[Term, ...]
        if number % _TEN == 0:
            parents = []
            causes = (Term(f"activity_{number // _TEN}", 1.0), Term("week", 0.5))
        else:
            parent = parents[int(rng.integers(len(parents)))]
            causes = (Term(parent, float(rng.uniform(0.6, 1.2)), lag=int(rng.integers(0, 3))),)
        terms = (*causes, Term("day", float(rng.uniform(0.3, 1.0))))
        if stream.type in _CONTINUOUS:
            parents.append(stream.id)
        if stream.type is StreamType.DISCRETE_EVENTS:
            equations.append(Equation(stream.id, terms, 1.0, kind=Kind.COUNT, zero_inflation=0.2))
        else:
            jitter = 0.1 if stream.type is StreamType.CONTINUOUS_SMOOTH else 0.4
            equations.append(Equation(stream.id, terms, noise=Noise(jitter, 0.2, 12.0)))
    return tuple(equations)


def wide_testbed(  # noqa: PLR0913 - what a test bed is made of, all with defaults
    n_streams: int,
    days: int = 14,
    seed: int = 0,
    *,
    silence: MissingStreams | None = None,
    first_day: int = 7,
    kinds: Sequence[FaultKind] = WIDE_KINDS,
    sigmas: float = 8.0,
) -> WideTestBed:
    """Draw windows of many streams with a fault every 16 to 24 hours.

    Parameters
    ----------
    n_streams
        In [1, 500].
    days, seed
        Length, and seed of everything random.
    silence
        Streams that are silent although nothing is wrong; none unless given.
    first_day
        Days left free of faults at the start.
    kinds
        Of :data:`WIDE_KINDS`.
    sigmas
        Size of spikes and shifts, in standard deviations of a stream's change between windows.

    Raises
    ------
    InputError
        If an argument is out of range.

    Examples
    --------
    >>> bed = wide_testbed(100, days=9)
    >>> bed.block.values.shape, len(bed.truth)
    ((2592, 100), 100)
    """
    if n_streams < 1 or days < 1 or first_day < 0 or not 0.0 < sigmas < np.inf:
        msg = (
            f"n_streams {n_streams}, days {days}, first_day {first_day}, sigmas {sigmas}: "
            "give at least one stream and day, and a positive, finite size"
        )
        raise InputError(msg)
    foreign = sorted(set(kinds) - set(WIDE_KINDS))
    if foreign:
        msg = f"faults of kind {foreign} need a person; give some of {list(WIDE_KINDS)}"
        raise InputError(msg)
    return _Wide(n_streams, days, seed, silence or MissingStreams()).with_faults(
        tuple(kinds), first_day, sigmas
    )


@dataclass(frozen=True)
class _Happening:
    """A fault of the wide test bed before it has a label."""

    kind: FaultKind
    start: int
    stop: int
    target: str


class _Wide:
    """The world of one wide test bed, without faults."""

    def __init__(self, n_streams: int, days: int, seed: int, silence: MissingStreams) -> None:
        self._seed = seed
        self._length = days * WINDOWS_PER_DAY
        self._catalogue = synthetic_catalogue(n_streams)
        self._equations = wide_equations(n_streams, seed)
        self._causes = _hidden_causes(seed, n_streams, self._length)
        self._clean = self._solved(())
        groups = [stream.group for stream in self._catalogue.streams]
        rng = generator(seed, ENTITY, "silence")
        self._silent = silent(silence, groups, self._length, 1, rng).T
        self._members = {
            group: np.array([stream.group == group for stream in self._catalogue.streams])
            for group in self._catalogue.group_ids
        }

    def with_faults(
        self, kinds: tuple[FaultKind, ...], first_day: int, sigmas: float
    ) -> WideTestBed:
        """Place faults, let them act, and label them."""
        happenings = list(self._happenings(kinds, first_day)) if kinds else []
        step = {
            name: sigmas * float(np.diff(self._clean[:, column]).std())
            for column, name in enumerate(self._catalogue.stream_ids)
        }
        values = self._solved(tuple(self._interventions(happenings, step)))
        for happening in happenings:
            self._act(values, happening, step)
        before = self._observed(self._clean)
        after = self._observed(values)
        labels = tuple(self._label(h, before, after, sigmas) for h in happenings)
        windows = WindowRange(START, START + self._length * WINDOW_SECONDS)
        block = WindowBlock(ENTITY, self._catalogue.time_zone, windows, after)
        return WideTestBed(block, self._catalogue, labels, self._equations)

    def _solved(self, interventions: tuple[Intervention, ...]) -> FloatArray:
        nodes = solve_equations(self._equations, self._seed, ENTITY, self._causes, interventions)
        return np.column_stack([nodes[stream] for stream in self._catalogue.stream_ids])

    def _happenings(self, kinds: tuple[FaultKind, ...], first_day: int) -> Sequence[_Happening]:
        rng = generator(self._seed, ENTITY, "faults")
        continuous = [s.id for s in self._catalogue.streams if s.type in _CONTINUOUS]
        caused = [
            e.stream for n, e in enumerate(self._equations) if n % _TEN and e.kind is Kind.LEVEL
        ]
        choices = {FaultKind.GROUP_OUTAGE: self._catalogue.group_ids, FaultKind.DEVICE_DOWN: ("",)}
        happenings: list[_Happening] = []
        at = first_day * WINDOWS_PER_DAY + int(rng.integers(0, WINDOWS_PER_DAY // 4))
        number = 0
        while True:
            kind = kinds[number % len(kinds)]
            some = caused if kind is FaultKind.RELATIONSHIP_BREAK else continuous
            stop = at + _LENGTHS[kind]
            if stop > self._length:
                return happenings
            heard = set(self._heard(at, stop))
            usable = [s for s in some if s in heard]
            if kind is FaultKind.RELATIONSHIP_BREAK:
                usable = [s for s in usable if self._cause_of(s) in heard]
            targets = choices.get(kind, tuple(usable))
            if targets:
                target = targets[int(rng.integers(len(targets)))]
                happenings.append(_Happening(kind, at, stop, target))
            number += 1
            at += int(rng.integers(16, 25)) * WINDOWS_PER_DAY // 24

    def _heard(self, start: int, stop: int) -> list[str]:
        """Return the streams that are not silent at any time from `start` to `stop`."""
        throughout = ~self._silent[start:stop].any(axis=0)
        return [self._catalogue.stream_ids[column] for column in np.flatnonzero(throughout)]

    def _interventions(
        self, happenings: Sequence[_Happening], step: dict[str, float]
    ) -> list[Intervention]:
        interventions = []
        for one in happenings:
            if one.kind is FaultKind.LEVEL_SHIFT:
                interventions.append(
                    Intervention(one.target, one.start, one.stop, add=step[one.target])
                )
            elif one.kind is FaultKind.RELATIONSHIP_BREAK:
                cause = self._cause_of(one.target)
                column = self._catalogue.stream_ids.index(cause)
                values = self._clean[:, column]
                # It answers to a cause at the other extreme: usual values, at odds with each other.
                low, high = np.quantile(values, [0.02, 0.98])
                far = low if values[one.start] > (low + high) / 2.0 else high
                edge = f"{cause}->{one.target}"
                interventions.append(
                    Intervention(edge, one.start, one.stop, add=float(far), factor=0.0)
                )
        return interventions

    def _cause_of(self, stream: str) -> str:
        return next(e for e in self._equations if e.stream == stream).causes[0]

    def _act(self, values: FloatArray, one: _Happening, step: dict[str, float]) -> None:
        """Change what a sensor says, or whether it says anything."""
        part = slice(one.start, one.stop)
        acts: dict[FaultKind, Callable[[], None]] = {
            FaultKind.SPIKE: lambda: _add(values, part, self._column(one), step[one.target]),
            FaultKind.FLAT_LINE: lambda: _hold(values, part, self._column(one)),
            FaultKind.GROUP_OUTAGE: lambda: _lose(values, part, self._members.get(one.target)),
            FaultKind.DEVICE_DOWN: lambda: _lose(values, part, None),
        }
        act = acts.get(one.kind)
        if act is not None:
            act()

    def _column(self, one: _Happening) -> int:
        return self._catalogue.stream_ids.index(one.target)

    def _observed(self, values: FloatArray) -> FloatArray:
        """Return what remains after silence, and of sporadic streams every other window."""
        observed = values.copy()
        observed[self._silent] = np.nan
        for column, stream in enumerate(self._catalogue.streams):
            if stream.type is StreamType.SPORADIC:
                rng = generator(self._seed, ENTITY, stream.id, "sporadic")
                observed[rng.random(self._length) < 0.5, column] = np.nan
        return observed

    def _label(
        self, one: _Happening, before: FloatArray, after: FloatArray, sigmas: float
    ) -> InjectedFault:
        part = slice(one.start, one.stop)
        change = (before[part] != after[part]) & np.isfinite(before[part])
        ids = self._catalogue.stream_ids
        streams = tuple(ids[column] for column in np.flatnonzero(change.any(axis=0)).tolist())
        needed = {one.target} & set(ids)
        if one.kind is FaultKind.RELATIONSHIP_BREAK:
            needed.add(self._cause_of(one.target))
        seen = set(_seen(ids, np.isfinite(before[part])))
        # A stream that is off now and then within the fault is still seen; one that is away is not.
        visible = bool(streams) and needed <= seen
        sized = one.kind in {FaultKind.SPIKE, FaultKind.LEVEL_SHIFT}
        return InjectedFault(
            ENTITY,
            one.kind,
            _moment(one.start),
            _moment(one.stop),
            streams,
            sigmas if sized else 1.0,
            one.target or "all",
            visible,
        )


def _add(values: FloatArray, part: slice, column: int, step: float) -> None:
    values[part, column] += step


def _hold(values: FloatArray, part: slice, column: int) -> None:
    values[part, column] = values[part.start, column]


def _lose(values: FloatArray, part: slice, members: BoolArray | None) -> None:
    values[part, slice(None) if members is None else members] = np.nan


def _seen(ids: Sequence[str], observed: BoolArray) -> list[str]:
    return [ids[column] for column in np.flatnonzero(observed.any(axis=0)).tolist()]


def _moment(window: int) -> datetime:
    return datetime.fromtimestamp(START + window * WINDOW_SECONDS, tz=UTC)


def _hidden_causes(seed: int, n_streams: int, length: int) -> dict[str, FloatArray]:
    """Draw the time of day, the day of the week and an activity for each ten streams."""
    window: IntArray = np.arange(length, dtype=np.int64)
    hour = window % WINDOWS_PER_DAY * (24.0 / WINDOWS_PER_DAY)
    weekday = window // WINDOWS_PER_DAY % 7
    causes = {
        "day": np.asarray(np.sin((hour - 9.0) * (2.0 * np.pi / 24.0))),
        "week": np.where(weekday < 5, 0.4, -1.0),
    }
    for number in range(-(-n_streams // _TEN)):
        rng = generator(seed, ENTITY, f"activity_{number}")
        causes[f"activity_{number}"] = autoregressive(rng, length, 18.0)
    return causes
