"""One-minute events: when each stream left its usual level, and what that amounts to together.

Five-minute windows lose the order of events (with a true gap of two minutes 61 % are ties), so
events are taken from one-minute means of the readings journal. A stream with a single reading a
window still gives events, only with a coarser onset.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from anomaly_assets.errors import InputError
from anomaly_assets.streams.catalogue import Aggregation, Catalogue, Stream
from anomaly_assets.streams.windows import WINDOW_SECONDS, BoolArray, FloatArray, IntArray

MICROSECONDS_PER_MINUTE = 60_000_000
MINUTES_PER_WINDOW = WINDOW_SECONDS // 60

#: An event needs this many scales from the level; it lasts, and began, while beyond `OFF`.
ON = 3.0
OFF = 1.5
#: A jump of this many scales within `SUDDEN_MINUTES` of its onset is a sudden anomaly.
SUDDEN = 6.0
SUDDEN_MINUTES = 3
#: Of many streams one or another reaches three scales by chance at any time; what is said of all of
#: them together (several affected, movement unchanged) heeds only events of so many scales.
MARKED = 4.0
#: So many streams that start within so many minutes are "multiple streams affected".
MULTIPLE_STREAMS = 3
MULTIPLE_WITHIN = 5.0
#: Streams that say the same (three accelerometer axes) within this many minutes are one event.
SAME_EVENT_WITHIN = 5.0
#: Minutes of calm before the first event that count as a normal state.
CALM_MINUTES = 2.0
#: Observed minutes that a robust baseline needs.
ENOUGH_MINUTES = 5
#: z-scores are cut here: beyond, a larger one says nothing more.
LARGEST_Z = 1e3

NORMAL_STATE = "normal_state"
NORMAL_ACTIVITY = "normal_activity"
NO_MOVEMENT_CHANGE = "no_movement_change"
SUDDEN_ANOMALY = "sudden_anomaly"
MULTIPLE_STREAMS_AFFECTED = "multiple_streams_affected"
#: Names under which a template may ask for "movement was not raised before the first event".
CALM_MOVEMENT = frozenset({NORMAL_ACTIVITY, "low_accel"})
#: Events that describe the whole span and therefore have no minute of their own.
STATES = frozenset({NORMAL_STATE, NO_MOVEMENT_CHANGE}) | CALM_MOVEMENT
#: Timed events that sum up others.
SUMMARIES = frozenset({SUDDEN_ANOMALY, MULTIPLE_STREAMS_AFFECTED})
#: Groups of the catalogue whose streams are movement.
MOVEMENT_GROUPS = frozenset({"motion", "location"})


@dataclass(frozen=True, slots=True)
class Event:
    """One stream's excursion from its level.

    Parameters
    ----------
    name
        Event name as templates use it.
    minute
        Onset, in minutes after the first row of the minute matrix.
    stream
        Position of the stream on the stream axis.
    peak
        Largest signed z-score while it lasted.
    last
        Last minute of the excursion.
    resolution
        Minutes by which the onset may be early, 1 for a stream with readings every minute.
    sudden
        Whether it was extreme within minutes of its onset.
    """

    name: str
    minute: int
    stream: int
    peak: float
    last: int
    resolution: int = 1
    sudden: bool = False


@dataclass(frozen=True, slots=True)
class EventSequence:
    """What a template is matched with.

    Parameters
    ----------
    events
        Timed events, by minute; streams that say the same at the same time are one event.
    states
        The names of :data:`STATES` that hold.
    observable
        Every event name that could have been seen, because a stream that gives it was observed.
    excursions
        Every stream's own events, by minute: what a timeline shows.
    """

    events: tuple[Event, ...] = ()
    states: frozenset[str] = frozenset()
    observable: frozenset[str] = frozenset()
    excursions: tuple[Event, ...] = ()


@dataclass(frozen=True)
class EventNames:
    """The event names of a catalogue's streams.

    Parameters
    ----------
    increase, decrease
        Name for each stream, in catalogue order.
    movement
        Whether each stream is movement (bool), shape ``(n_streams,)``.
    groups
        Index of each stream's group, shape ``(n_streams,)``.
    """

    increase: tuple[str, ...]
    decrease: tuple[str, ...]
    movement: BoolArray
    groups: IntArray
    _movement_streams: frozenset[int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Index the movement streams once."""
        object.__setattr__(
            self, "_movement_streams", frozenset(np.nonzero(self.movement)[0].tolist())
        )

    @classmethod
    def of(cls, catalogue: Catalogue) -> EventNames:
        """Take the names of a catalogue; a stream without any gets ``<stream>_increase``."""
        return cls(
            increase=tuple(increase_event(stream) for stream in catalogue.streams),
            decrease=tuple(decrease_event(stream) for stream in catalogue.streams),
            movement=np.array([s.group in MOVEMENT_GROUPS for s in catalogue.streams], dtype=bool),
            groups=catalogue.group_of_stream,
        )

    def moves(self, stream: int) -> bool:
        """Whether the stream at this position is movement."""
        return stream in self._movement_streams


def increase_event(stream: Stream) -> str:
    """Return the event name of a rise of `stream`."""
    return stream.increase_event or f"{stream.id}_increase"


def decrease_event(stream: Stream) -> str:
    """Return the event name of a fall of `stream`."""
    return stream.decrease_event or f"{stream.id}_decrease"


def minute_means(
    streams: IntArray,
    times: IntArray,
    values: FloatArray,
    start: int,
    n_minutes: int,
    n_streams: int,
    *,
    aggregations: Sequence[Aggregation] | None = None,
) -> FloatArray:
    """Turn readings of the journal into a matrix of one-minute values.

    Parameters
    ----------
    streams
        Position of each reading's stream on the stream axis, shape ``(n_readings,)``.
    times
        Microseconds since the epoch, same shape, in any order.
    values
        Readings, same shape; those that are not finite are passed over.
    start
        First minute, in seconds since the epoch.
    n_minutes, n_streams
        Shape of the result.
    aggregations
        Aggregation of each stream, where minutes of summed and counted streams are to be sums and
        counts; by default every minute is a mean.

    Returns
    -------
    numpy.ndarray
        Shape ``(n_minutes, n_streams)``; NaN where a minute has no reading.

    Raises
    ------
    InputError
        If the columns differ in length or a stream position is out of range.
    """
    if not len(streams) == len(times) == len(values):
        msg = (
            f"journal columns differ in length: {len(streams)} streams, {len(times)} times, "
            f"{len(values)} values"
        )
        raise InputError(msg)
    if len(streams) and not (streams.min() >= 0 and streams.max() < n_streams):
        msg = f"a stream position lies outside 0..{n_streams - 1}; use catalogue positions"
        raise InputError(msg)
    minute = (times - start * 1_000_000) // MICROSECONDS_PER_MINUTE
    kept = (minute >= 0) & (minute < n_minutes) & np.isfinite(values)
    cell = minute[kept] * n_streams + streams[kept]
    size = n_minutes * n_streams
    counts = np.bincount(cell, minlength=size).astype(np.float64).reshape(n_minutes, n_streams)
    sums: FloatArray = (
        np.bincount(cell, weights=values[kept], minlength=size)
        .astype(np.float64)
        .reshape(n_minutes, n_streams)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums / counts
    return means if aggregations is None else _with_totals(means, sums, counts, aggregations)


def _with_totals(
    means: FloatArray, sums: FloatArray, counts: FloatArray, aggregations: Sequence[Aggregation]
) -> FloatArray:
    """Put sums and counts in the place of the means of summed and counted streams."""
    summed = np.array([a is Aggregation.SUM for a in aggregations], dtype=bool)
    counted = np.array([a is Aggregation.COUNT for a in aggregations], dtype=bool)
    totals = np.where(counted, counts, sums)
    minutes: FloatArray = np.where((summed | counted) & (counts > 0.0), totals, means)
    return minutes


def _column_medians(values: FloatArray, counts: IntArray) -> FloatArray:
    """Median of each column over its `counts` finite entries; NaN where there is none.

    ``numpy.nanmedian`` takes a hundred times as long on matrices of this size.
    """
    ordered = np.sort(values, axis=0)
    columns = np.arange(values.shape[1])
    low: FloatArray = ordered[np.maximum(counts - 1, 0) // 2, columns]
    high: FloatArray = ordered[np.minimum(counts // 2, np.maximum(counts - 1, 0)), columns]
    return 0.5 * (low + high)


def robust_baseline(
    minutes: FloatArray, earlier: int, level: FloatArray, scale: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Level and scale of each stream before anything happened.

    The earlier minutes are preferred for the level, because the forecast of tier 1 has already
    followed an anomaly that began a window ago; the scale of tier 1, which knows the stream for
    longer, keeps a short calm stretch from making every later minute an event.

    Parameters
    ----------
    minutes
        One-minute values, shape ``(n_minutes, n_streams)``.
    earlier
        Number of rows at the beginning that lie before what is explained.
    level, scale
        Forecast and scale of tier 1 in the unit of a minute's value, shape ``(n_streams,)``; NaN
        where unknown.

    Returns
    -------
    tuple of numpy.ndarray
        Level and scale, shape ``(n_streams,)``; NaN where a stream has no baseline.
    """
    before = minutes[:earlier]
    counts = np.isfinite(before).sum(axis=0)
    enough = counts >= ENOUGH_MINUTES
    if not enough.any():
        return level, scale
    median = _column_medians(before, counts)
    spread = 1.4826 * _column_medians(np.abs(before - median), counts) * (1.0 + 2.0 / (counts + 1))
    # Of a stream that stood still only its own largest departure says what a change is.
    largest = np.fmax.reduce(np.abs(minutes - median), axis=0)
    own = np.fmax(np.fmax(spread, 0.1 * largest * (spread == 0.0)), 1e-9 * np.abs(median))
    own = np.fmax(own, np.where(np.isfinite(scale), 0.5 * scale, 0.05 * np.abs(median)))
    return np.where(enough, median, level), np.where(enough, own, scale)


def find_excursions(
    minutes: FloatArray,
    level: FloatArray,
    scale: FloatArray,
    names: EventNames,
    hold: IntArray,
) -> tuple[Event, ...]:
    """Find every stream's excursions by hysteresis.

    An excursion is a run of minutes beyond :data:`OFF` scales on one side that reaches :data:`ON`;
    its onset is the first minute of the run, the backward crossing.

    Parameters
    ----------
    minutes
        One-minute values, shape ``(n_minutes, n_streams)``; NaN where missing.
    level, scale
        Baseline, shape ``(n_streams,)``; a stream without a positive scale has no events.
    names
        Event names.
    hold
        Minutes for which a stream's last value stands in for a missing one, shape ``(n_streams,)``.

    Returns
    -------
    tuple of Event
        By minute, then by stream, then increases first.
    """
    n_minutes, n_streams = minutes.shape
    if n_minutes == 0 or n_streams == 0:
        return ()
    with np.errstate(invalid="ignore", divide="ignore"):
        z = np.clip((minutes - level) / np.where(scale > 0.0, scale, np.nan), -LARGEST_Z, LARGEST_Z)
    seen = np.isfinite(z)
    rows = np.arange(n_minutes)[:, None]
    last_seen = np.maximum.accumulate(np.where(seen, rows, -1), axis=0)
    held = np.take_along_axis(z, np.maximum(last_seen, 0), axis=0)
    held[(last_seen < 0) | (rows - last_seen > hold)] = np.nan
    found = [
        event
        for rising in (True, False)
        for event in _runs(held if rising else -held, names, last_seen, rising=rising)
    ]
    return tuple(sorted(found, key=lambda event: (event.minute, event.stream)))


def _runs(
    z: FloatArray, names: EventNames, last_seen: IntArray, *, rising: bool
) -> Iterable[Event]:
    """Yield the excursions of one direction; `z` is positive in that direction."""
    n_minutes, n_streams = z.shape
    # One row of "off" at either end of every stream keeps runs of neighbouring streams apart.
    padded = np.full((n_streams, n_minutes + 2), -np.inf)
    padded[:, 1:-1] = np.where(np.isnan(z), -np.inf, z).T
    flat = padded.ravel()
    beyond = flat >= OFF
    edges = np.nonzero(beyond[1:] != beyond[:-1])[0] + 1
    if not len(edges):
        return
    peaks = np.maximum.reduceat(flat, edges)[::2]
    strong = peaks >= ON
    starts, ends = edges[::2][strong].tolist(), edges[1::2][strong].tolist()
    for start, end, peak in zip(starts, ends, peaks[strong].tolist(), strict=True):
        stream, minute = start // (n_minutes + 2), start % (n_minutes + 2) - 1
        before = int(last_seen[minute - 1, stream]) if minute else -1
        yield Event(
            name=names.increase[stream] if rising else names.decrease[stream],
            minute=minute,
            stream=stream,
            peak=peak if rising else -peak,
            last=minute + end - start - 1,
            resolution=minute - before if before >= 0 else 1,
            sudden=bool(flat[start : min(start + SUDDEN_MINUTES, end)].max() >= SUDDEN),
        )


def sequence_of(
    excursions: Iterable[Event],
    observed: BoolArray,
    names: EventNames,
    span: tuple[int, int],
) -> EventSequence:
    """Make the sequence that templates are matched with.

    Parameters
    ----------
    excursions
        What :func:`find_excursions` found, by minute.
    observed
        Whether each stream was observed within the span, shape ``(n_streams,)``.
    names
        Event names.
    span
        First minute and end (exclusive) of the span in question.

    Returns
    -------
    EventSequence
        Events that began within the span; one that began before and lasted into it makes the
        span's calm states untrue.
    """
    first, end = span
    running = [event for event in excursions if event.minute < first <= event.last]
    within = tuple(event for event in excursions if first <= event.minute < end)
    merged: dict[str, list[Event]] = {}
    for event in within:
        same = merged.setdefault(event.name, [])
        if same and event.minute - same[-1].minute <= SAME_EVENT_WITHIN:
            if abs(event.peak) > abs(same[-1].peak):
                same[-1] = replace(same[-1], peak=event.peak)
        else:
            same.append(event)
    events = [event for same in merged.values() for event in same]
    events += _summaries(within, names)
    events.sort(key=lambda event: (event.minute, event.name))
    return EventSequence(
        events=tuple(events),
        states=_states(within, running, observed, names, first),
        observable=_observable(observed, names),
        excursions=within,
    )


def _summaries(within: Sequence[Event], names: EventNames) -> list[Event]:
    """Sum up the excursions of a span as timed events of their own."""
    found = []
    sudden = next((event for event in within if event.sudden), None)
    if sudden is not None:
        found.append(replace(sudden, name=SUDDEN_ANOMALY))
    n_groups = len(set(names.groups.tolist()))
    marked = [event for event in within if abs(event.peak) >= MARKED]
    for index, last in enumerate(marked):
        recent = [e for e in marked[: index + 1] if last.minute - e.minute <= MULTIPLE_WITHIN]
        groups = {int(names.groups[event.stream]) for event in recent}
        if len({event.stream for event in recent}) >= MULTIPLE_STREAMS and (
            len(groups) >= min(2, n_groups)
        ):
            found.append(replace(last, name=MULTIPLE_STREAMS_AFFECTED))
            break
    return found


def _states(
    within: Sequence[Event],
    running: Sequence[Event],
    observed: BoolArray,
    names: EventNames,
    first: int,
) -> frozenset[str]:
    """Name the :data:`STATES` that hold over a span."""
    states: set[str] = set()
    if observed.any() and not running and (not within or within[0].minute - first >= CALM_MINUTES):
        states.add(NORMAL_STATE)
    if (observed & names.movement).any() and not any(names.moves(e.stream) for e in running):
        moved = [e.minute for e in within if names.moves(e.stream) and abs(e.peak) >= MARKED]
        if not moved:
            states.add(NO_MOVEMENT_CHANGE)
        if not moved or moved[0] - first >= CALM_MINUTES:
            states |= CALM_MOVEMENT
    return frozenset(states)


def _observable(observed: BoolArray, names: EventNames) -> frozenset[str]:
    """Every event name that the observed streams could have given."""
    positions = np.nonzero(observed)[0].tolist()
    seen = {names.increase[i] for i in positions} | {names.decrease[i] for i in positions}
    if positions:
        seen |= {NORMAL_STATE, SUDDEN_ANOMALY}
    if len(positions) >= MULTIPLE_STREAMS:
        seen.add(MULTIPLE_STREAMS_AFFECTED)
    if any(names.moves(i) for i in positions):
        seen |= CALM_MOVEMENT | {NO_MOVEMENT_CHANGE}
    return frozenset(seen)
