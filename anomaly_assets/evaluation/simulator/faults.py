"""Faults that can be injected into a simulated life, and what each of them does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

import numpy as np

from anomaly_assets.errors import InputError
from anomaly_assets.evaluation.simulator.causality import Intervention
from anomaly_assets.evaluation.simulator.clock import MinuteGrid
from anomaly_assets.evaluation.simulator.equations import EQUATIONS, downstream
from anomaly_assets.evaluation.simulator.sensors import (
    GROUP_IDS,
    SENSORS,
    STREAM_IDS,
    Device,
    Reporting,
    streams_of_group,
)
from anomaly_assets.streams.windows import WINDOW_SECONDS, BoolArray, FloatArray

_WINDOW_MINUTES = WINDOW_SECONDS // 60
#: Effects of a fault are looked for until this many minutes after its end.
_AFTERMATH = 60
#: Hidden causes of everything a person does with the phone.
_PHONE_USE = ("screen_use", "notifying", "talking", "media", "calling")
#: One of them shows whether the phone is being used, or the body moving.
_TOUCHED = ("app_launches", "screen_on_events", "screen_on_seconds", "keystrokes")
_MOVED = ("activity_intensity", "accel_magnitude", "gyro_magnitude", "steps")
#: Streams whose absence by day says something: a position or a call is seldom there anyway.
_OFTEN = frozenset(s.stream for s in SENSORS if s.reporting is Reporting.REGULAR) | set(_TOUCHED)
_GRAVITY, _SHAKING = 9.81, 4.0


class FaultKind(StrEnum):
    """What can go wrong."""

    SPIKE = "spike"
    LEVEL_SHIFT = "level_shift"
    FLAT_LINE = "flat_line"
    GROUP_OUTAGE = "group_outage"
    DEVICE_DOWN = "device_down"
    UNUSUAL_ABSENCE_AT_WORK = "unusual_absence_at_work"
    USE_AT_3AM = "use_at_3am"
    RELATIONSHIP_BREAK = "relationship_break"


@dataclass(frozen=True)
class Fault:
    """A fault to inject.

    Parameters
    ----------
    entity
        Who it happens to.
    kind
        What happens.
    start
        Aware datetime.
    minutes
        How long it lasts.
    target
        ``spike``, ``level_shift`` and ``flat_line``: a stream; ``group_outage``: a group;
        ``device_down``: ``watch``, ``phone``, or both if empty; the other kinds need none.
    strength
        ``spike`` and ``level_shift``: standard deviations of the stream's short-term change.
        ``use_at_3am``: share of the time with the screen on. ``relationship_break``: the effort (0
        rest, 0.72 sport) that the heart answers to, whatever the body does. Without meaning for the
        others.
    """

    entity: str
    kind: FaultKind
    start: datetime
    minutes: int
    target: str = ""
    strength: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a fault that could not be injected."""
        if self.start.tzinfo is None or self.minutes < 1:
            msg = f"{self.kind} on {self.entity!r}: give an aware start and at least one minute"
            raise InputError(msg)
        needs: tuple[str, ...] = ()
        if self.kind in {FaultKind.SPIKE, FaultKind.LEVEL_SHIFT, FaultKind.FLAT_LINE}:
            needs = STREAM_IDS
        elif self.kind is FaultKind.GROUP_OUTAGE:
            needs = GROUP_IDS
        elif self.kind is FaultKind.DEVICE_DOWN:
            needs = ("", *Device)
        if needs and self.target not in needs:
            msg = f"{self.kind} on {self.entity!r}: target {self.target!r} is not one of {needs}"
            raise InputError(msg)


@dataclass(frozen=True)
class InjectedFault:
    """A fault as it happened: the label to compare detections with.

    Parameters
    ----------
    entity, kind, strength
        As asked for.
    start, end
        Half-open, aware, UTC.
    streams
        Every stream it visibly changed, in catalogue order.
    cause
        Where it began: a stream, a group, a device, ``person`` or ``all``.
    visible
        Whether it can be seen at all in what is observed: it changed some stream and, for a
        relationship, both of its sides are observed. What is not visible is not to be counted.
    """

    entity: str
    kind: FaultKind
    start: datetime
    end: datetime
    streams: tuple[str, ...]
    strength: float
    cause: str
    visible: bool = True


@dataclass
class Effects:
    """What the faults of one life do, minutes on its grid.

    Parameters
    ----------
    interventions
        Changes of true values, with all their consequences.
    sensor_changes
        By stream: changes of what the sensor says, without consequences.
    outages
        ``(stream, start, stop)`` without readings.
    """

    interventions: list[Intervention] = field(default_factory=list)
    sensor_changes: list[tuple[str, int, int, Callable[[FloatArray], FloatArray]]] = field(
        default_factory=list
    )
    outages: list[tuple[str, int, int]] = field(default_factory=list)


def short_term_change(stream: str, values: FloatArray) -> float:
    """Return the standard deviation of what a stream shows from one window to the next.

    Parameters
    ----------
    stream
        Which stream: how often it is read decides how much of the noise a window's mean keeps.
    values
        Its value at every minute, from the start of a window.
    """
    sensor = next(sensor for sensor in SENSORS if sensor.stream == stream)
    whole = values[: values.size // _WINDOW_MINUTES * _WINDOW_MINUTES]
    read = whole.reshape(-1, _WINDOW_MINUTES)[:, :: sensor.interval]
    return float(np.diff(np.round(read, sensor.decimals).mean(axis=1)).std())


def effects_of(faults: Sequence[Fault], grid: MinuteGrid, clean: dict[str, FloatArray]) -> Effects:
    """Work out what `faults` (of one entity) do.

    Parameters
    ----------
    faults
        The faults of one entity.
    grid
        The minutes of its life.
    clean
        True values without any fault.

    Raises
    ------
    InputError
        If a fault does not lie on the grid.
    """
    effects = Effects()
    for fault in faults:
        start = grid.minute_of(fault.start)
        stop = start + fault.minutes
        if start < 0 or stop > len(grid):
            msg = f"{fault.kind} on {fault.entity!r} at {fault.start} is outside the simulation"
            raise InputError(msg)
        _add_effect(effects, fault, start, stop, clean)
    return effects


def _add_effect(
    effects: Effects, fault: Fault, start: int, stop: int, clean: dict[str, FloatArray]
) -> None:
    """Translate one fault into interventions, sensor changes or outages."""
    target = fault.target
    if fault.kind in {FaultKind.SPIKE, FaultKind.LEVEL_SHIFT}:
        step = _step(fault, clean[target], start)
        if fault.kind is FaultKind.SPIKE:
            effects.sensor_changes.append((target, start, stop, lambda values: values + step))
        else:
            effects.interventions.append(Intervention(target, start, stop, add=step))
    elif fault.kind is FaultKind.FLAT_LINE:
        effects.sensor_changes.append(
            (target, start, stop, lambda values: np.full_like(values, values[0]))
        )
    elif fault.kind is FaultKind.GROUP_OUTAGE:
        effects.outages += [(stream, start, stop) for stream in streams_of_group(target)]
    elif fault.kind is FaultKind.DEVICE_DOWN:
        effects.outages += [(stream, start, stop) for stream in _streams_of_device(target)]
    elif fault.kind is FaultKind.UNUSUAL_ABSENCE_AT_WORK:
        effects.interventions += [
            Intervention(cause, start, stop, factor=0.0) for cause in _PHONE_USE
        ]
    elif fault.kind is FaultKind.USE_AT_3AM:
        effects.interventions.append(Intervention("screen_use", start, stop, add=fault.strength))
        # Whoever uses a phone is awake and moves a little.
        effects.interventions.append(Intervention("effort", start, stop, add=0.08))
    else:
        felt = _GRAVITY + _SHAKING * fault.strength
        edge = "accel_magnitude->heart_rate"
        effects.interventions.append(Intervention(edge, start, stop, add=felt, factor=0.0))


def _step(fault: Fault, clean: FloatArray, start: int) -> float:
    """Return the step of a spike or shift, downwards where upwards would leave the limits."""
    step = fault.strength * short_term_change(fault.target, clean)
    high = next(e.limits[1] for e in EQUATIONS if e.stream == fault.target)
    return step if clean[start] + step <= high else -step


def label_of(
    fault: Fault,
    grid: MinuteGrid,
    clean: dict[str, FloatArray],
    faulty: dict[str, FloatArray],
    reported: dict[str, BoolArray],
) -> InjectedFault:
    """Describe an injected fault, with the streams that it visibly changed.

    Parameters
    ----------
    fault
        The fault.
    grid
        The minutes of the life.
    clean, faulty
        Sensor values without and with the faults.
    reported
        By stream: minutes at which it would have sent a reading, with or without the faults.
    """
    start = grid.minute_of(fault.start)
    stop = start + fault.minutes
    if fault.kind is FaultKind.GROUP_OUTAGE:
        touched, cause = streams_of_group(fault.target), fault.target
    elif fault.kind is FaultKind.DEVICE_DOWN:
        touched, cause = _streams_of_device(fault.target), fault.target or "all"
    else:
        roots = {
            FaultKind.UNUSUAL_ABSENCE_AT_WORK: _PHONE_USE,
            FaultKind.USE_AT_3AM: ("screen_use", "effort"),
            FaultKind.RELATIONSHIP_BREAK: ("heart_rate",),
        }.get(fault.kind, (fault.target,))
        reached = downstream(*roots) if fault.kind in _CAUSAL else roots
        period = slice(start, stop + _AFTERMATH)
        touched = tuple(
            stream
            for stream in STREAM_IDS
            if stream in reached and _visible(stream, clean[stream], faulty[stream], period)
        )
        cause = fault.target or ("heart_rate" if len(roots) == 1 else "person")
    streams = tuple(stream for stream in touched if reported[stream][start:stop].any())
    end = grid.moment(start) + timedelta(minutes=fault.minutes)
    seen = {stream for stream in STREAM_IDS if reported[stream][start:stop].any()}
    visible = bool(streams) and all(seen.intersection(some) for some in witnesses_of(fault))
    return InjectedFault(
        fault.entity, fault.kind, grid.moment(start), end, streams, fault.strength, cause, visible
    )


def witnesses_of(fault: Fault) -> tuple[tuple[str, ...], ...]:
    """Return sets of streams, of each of which one must be observed for the fault to be visible."""
    if fault.kind is FaultKind.GROUP_OUTAGE:
        members = streams_of_group(fault.target)
        return (tuple(stream for stream in members if stream in _OFTEN),)
    if fault.kind is FaultKind.DEVICE_DOWN:
        return (tuple(s for s in _streams_of_device(fault.target) if s in _OFTEN),)
    if fault.kind in {FaultKind.UNUSUAL_ABSENCE_AT_WORK, FaultKind.USE_AT_3AM}:
        return (_TOUCHED,)
    if fault.kind is FaultKind.RELATIONSHIP_BREAK:
        return (("heart_rate",), _MOVED)
    return ((fault.target,),)


def _streams_of_device(device: str) -> tuple[str, ...]:
    """Return the streams that `device` carries; all of them for no device in particular."""
    return tuple(s.stream for s in SENSORS if device in {"", s.device})


_CAUSAL = frozenset(FaultKind) - {FaultKind.SPIKE, FaultKind.FLAT_LINE}


def _visible(stream: str, clean: FloatArray, faulty: FloatArray, period: slice) -> bool:
    """Whether some window's mean moves by at least a usual short-term change."""
    difference = np.abs(faulty[period] - clean[period])
    window = min(_WINDOW_MINUTES, difference.size)
    moved = np.convolve(difference, np.full(window, 1.0 / window), mode="valid")
    return bool(moved.max() >= short_term_change(stream, clean))
